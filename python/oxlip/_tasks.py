"""asyncio's futures and tasks, native on the Pythons whose own are known (3.12 to 3.15).

`Future` and `Task` derive from asyncio's, and work on any loop. After `take_over()`, our loops
make them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from . import _native

if TYPE_CHECKING:
    Future = asyncio.Future
    Task = asyncio.Task
elif _native.has_tasks():
    from ._native import Future, Task
else:
    from asyncio import Future, Task

__all__ = ["Future", "Task", "take_over"]


def take_over() -> None:
    """From here on, `create_future()` and `create_task()` of our loops make ours.

    Not in debug mode, and not where a program has replaced asyncio's classes.
    """
    if _native.has_tasks():
        _native.switch_tasks(True)
