"""The event loop policy, for programs that make their loop through asyncio's globals.

Policies are deprecated from Python 3.14 on, and setting one warns. `oxlip.run` and
`oxlip.new_event_loop` need none.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from typing import TYPE_CHECKING

from . import _streams, _switch, _tasks
from ._loop import EventLoop

if TYPE_CHECKING:
    _DefaultPolicy = asyncio.DefaultEventLoopPolicy
else:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        _DefaultPolicy = asyncio.DefaultEventLoopPolicy


class EventLoopPolicy(_DefaultPolicy):
    """The platform's default policy with our loop."""

    def new_event_loop(self) -> EventLoop:
        """A new loop with the default driver. It does not become the current one."""
        return EventLoop()


def install() -> None:
    """Makes oxlip's the loops that asyncio creates from now on, in any thread.

    The same goes for streams: `asyncio.open_connection()`, `start_server()` and their kin for Unix
    sockets become oxlip's, except where they have already been imported by name. asyncio's classes
    of locks, queues and timeouts make oxlip's objects. Our loops make futures and tasks of ours,
    which `gather()`, `wait()` and `TaskGroup` count natively.
    """
    if sys.version_info >= (3, 14):
        warnings.warn(
            "oxlip.install() sets an event loop policy, and Python 3.16 has none any more; use "
            "oxlip.run() or loop_factory=oxlip.new_event_loop",
            DeprecationWarning,
            stacklevel=2,
        )
    _streams.take_over()
    _switch.take_over()
    _tasks.take_over()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy())
