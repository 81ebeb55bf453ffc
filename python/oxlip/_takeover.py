"""What `oxlip run` does to asyncio so that every loop the program makes is ours.

Only `oxlip run` calls this, before the program starts; importing oxlip changes nothing.
Programs make their loops in three ways, and each is redirected here:

* through the policy (`asyncio.run`, `Runner`, `new_event_loop`, a subclass of the default
  policy): the default policy asks its class for a loop factory;
* by the class, as uvicorn does (`loop_factory=asyncio.SelectorEventLoop`);
* through uvloop, whether it is installed or not: a module of that name makes our loops.

asyncio's streams, locks, queues, timeouts and tasks become oxlip's as well. A program that
brings a loop class of its own keeps it.
"""

from __future__ import annotations

import asyncio
import asyncio.unix_events
import selectors
import sys
from collections.abc import Coroutine
from types import ModuleType
from typing import Any, TypeVar

from . import _streams, _switch, _tasks
from ._loop import EventLoop
from ._native import __version__, adopt_methods, own_scheduling

_T = TypeVar("_T")

# By its own name: the public one is deprecated, and warns.
_DefaultPolicy = asyncio.unix_events._UnixDefaultEventLoopPolicy

_DRIVER_OF = {
    selectors.SelectSelector: "select",
    getattr(selectors, "PollSelector", None): "poll",
    getattr(selectors, "EpollSelector", None): "epoll",
}


class SelectorEventLoop(EventLoop):
    """Stands where `asyncio.SelectorEventLoop` was, and can be called and subclassed like it.

    A selector says which driver is wanted; the loop does not use it otherwise.
    """

    def __new__(cls, selector: selectors.BaseSelector | None = None) -> SelectorEventLoop:
        return super().__new__(cls, driver=_DRIVER_OF.get(type(selector)))

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__()


own_scheduling(SelectorEventLoop)
adopt_methods(SelectorEventLoop, EventLoop)


def take_over() -> None:
    """From here on, whatever makes a loop in this process makes ours."""
    _DefaultPolicy._loop_factory = SelectorEventLoop  # type: ignore[attr-defined]
    for module in (asyncio, asyncio.unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, SelectorEventLoop)
    sys.modules["uvloop"] = _uvloop()
    _streams.take_over()
    _switch.take_over()
    _tasks.take_over()


def _uvloop() -> ModuleType:
    """A module with uvloop's public names. Its `install()` has nothing left to do."""
    module = ModuleType("uvloop", "oxlip in the place of uvloop, see `oxlip run --help`.")
    module.__dict__.update(
        __version__=f"0+oxlip.{__version__}",
        Loop=SelectorEventLoop,
        new_event_loop=SelectorEventLoop,
        EventLoopPolicy=_DefaultPolicy,
        install=lambda: None,
        run=_run,
    )
    return module


def _run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None, **_: object) -> _T:
    """`uvloop.run`: there is only one loop factory left to choose."""
    return asyncio.run(main, debug=debug)
