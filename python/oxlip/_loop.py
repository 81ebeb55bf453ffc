"""`EventLoop`, put together from its parts, and `new_event_loop`."""

from __future__ import annotations

import asyncio
from asyncio.log import logger
from typing import TYPE_CHECKING

from . import _native
from ._connect import Connect
from ._inside import Inside
from ._server import Serve

if TYPE_CHECKING:
    from typing_extensions import Self

    _Base = asyncio.AbstractEventLoop
else:

    class _Base(asyncio.BaseEventLoop):
        """Libraries ask for this class, and find what is not overridden (docs/compatibility.md)."""

        # What the base has for these needs a selector and transports that are not here.
        for _name in (
            "connect_read_pipe connect_write_pipe create_datagram_endpoint sendfile sock_sendfile "
            "start_tls subprocess_exec subprocess_shell"
        ).split():
            locals()[_name] = getattr(asyncio.AbstractEventLoop, _name)


class EventLoop(Connect, Serve, Inside, _native.EventLoop, _Base):
    """An asyncio event loop whose scheduling, timers, sockets and transports are native.

    `driver` names what waits for the operating system (`oxlip doctor` lists them); `None` means
    what the environment variable `OXLIP_DRIVER` says, and without it the best that works here.
    `ValueError` for a name that is not one.

    One thread owns the loop while it runs; only `call_soon_threadsafe()` is for the others.
    """

    def __new__(cls, *args: object, driver: str | None = None, **kwargs: object) -> Self:
        # A subclass may have an __init__ with other arguments: asyncio's loops have no __new__.
        if args and cls.__init__ is EventLoop.__init__:
            (driver,) = args  # type: ignore[assignment]
        return super().__new__(cls, driver)

    def __init__(self, driver: str | None = None) -> None:
        super().__init__()
        logger.debug("Using driver: %s", self.driver)


def new_event_loop(driver: str | None = None) -> EventLoop:
    """A new loop, for `asyncio.Runner(loop_factory=…)` and everything else that takes a factory."""
    return EventLoop(driver)
