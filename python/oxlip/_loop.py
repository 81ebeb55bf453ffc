"""`EventLoop`, put together from its parts, and `new_event_loop`."""

from __future__ import annotations

import asyncio
from asyncio.log import logger
from typing import TYPE_CHECKING

from . import _native
from ._datagram import Datagrams
from ._sendfile import Sendfile
from ._subprocess import Subprocesses
from ._tls import StartTls
from ._unix import UnixSockets

if TYPE_CHECKING:
    from typing_extensions import Self

    _Base = asyncio.AbstractEventLoop
else:
    # Libraries ask for this class. It comes last, and is not initialised: nothing of it runs but
    # what makes children (`_subprocess.py`), and private methods that ours does not know
    # (docs/compatibility.md).
    _Base = asyncio.BaseEventLoop


class EventLoop(UnixSockets, Datagrams, Sendfile, Subprocesses, StartTls, _native.EventLoop, _Base):
    """An asyncio event loop whose scheduling, timers, sockets and transports are native.

    `driver` names what waits for the operating system (`oxlip doctor` lists the drivers). `None`
    means what the environment variable `OXLIP_DRIVER` says, else the best that works here. Where
    the system forbids io_uring, epoll takes its place: `loop.driver` says which it is.
    `ValueError` for a name that is not one, `OSError` if descriptors or memory have run out.

    One thread owns the loop while it runs; only `call_soon_threadsafe()` is for the others.
    """

    # What the parts of the loop keep. Not in a `__dict__`: where there is none, the interpreter
    # finds methods without looking into one, and `loop.call_soon` costs a tenth less.
    __slots__ = ("__weakref__", *{*UnixSockets.STATE, *Subprocesses.STATE})

    def __new__(cls, *args: object, driver: str | None = None, **kwargs: object) -> Self:
        # A subclass may have an __init__ with other arguments: asyncio's loops have no __new__.
        if args and cls.__init__ is EventLoop.__init__:
            (driver,) = args  # type: ignore[assignment]
        return super().__new__(cls, driver)

    def __init__(self, driver: str | None = None) -> None:
        super().__init__()
        logger.debug("Using driver: %s", self.driver)


_native.own_scheduling(EventLoop)
_native.adopt_methods(EventLoop, _native.EventLoop)


def new_event_loop(driver: str | None = None) -> EventLoop:
    """A new loop, for `asyncio.Runner(loop_factory=…)` and everything else that takes a factory."""
    return EventLoop(driver)
