"""asyncio's `TaskGroup`, `gather()` and `wait()`, which count their tasks natively."""

from __future__ import annotations

import asyncio
import asyncio.tasks
import sys
from typing import TYPE_CHECKING, Any

from . import _native
from ._copied import Copied
from ._stock import stock_class, stock_function

# Counting natively pays only if the tasks are ours.
if sys.version_info >= (3, 12) and _native.has_tasks():
    import asyncio.taskgroups

    if TYPE_CHECKING:
        _TaskGroup = asyncio.TaskGroup
    else:
        _TaskGroup = stock_class(asyncio.taskgroups, "TaskGroup")

    class TaskGroup(Copied, _native.TaskGroup, _TaskGroup):
        """As `asyncio.TaskGroup`."""

        _ATTRIBUTES = (
            "_entered",
            "_exiting",
            "_aborting",
            "_loop",
            "_tasks",
            "_on_completed_fut",
            "_parent_task",
        )

    _native.adopt_methods(TaskGroup, _native.TaskGroup)

    _gather = stock_function(asyncio.tasks, "gather")
    _wait = stock_function(asyncio.tasks, "wait")

    async def wait(
        fs: Any, *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED
    ) -> Any:
        """As `asyncio.wait()`."""
        waiting = _native.Waiting.of(fs, return_when)
        if waiting is None:
            return await _wait(fs, timeout=timeout, return_when=return_when)
        waiter = waiting.begin(asyncio.get_running_loop(), timeout)
        try:
            await waiter
        finally:
            waiting.end()
        return waiting.split()
