"""For testing asyncio programs: a loop whose time is virtual.

On the simulated driver nobody waits. When nothing is left to run, the clock jumps to the next
timer, so an hour of `asyncio.sleep` passes at once and always in the same order. Such a loop
takes no real descriptors (`add_reader`, sockets: an `OSError` or `ValueError`), and threads
have no share in its time: a timer does not wait for what runs in the executor.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from ._loop import EventLoop
from ._run import run

_T = TypeVar("_T")

__all__ = ["new_virtual_loop", "run_virtual"]


def new_virtual_loop() -> EventLoop:
    """A loop on virtual time, for a fixture or for `asyncio.Runner(loop_factory=…)`."""
    return EventLoop("sim")


def run_virtual(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """As `oxlip.run`, on virtual time."""
    return run(main, debug=debug, driver="sim")
