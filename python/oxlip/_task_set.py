"""The set behind `asyncio.all_tasks()`, and native functions for what it does with each task."""

from __future__ import annotations

import asyncio.tasks
import gc
import sys
from typing import Any
from weakref import WeakSet

from . import _native


def task_set() -> Any:
    """Where asyncio keeps all tasks; from Python 3.14 on, those that are not of its own class."""
    name = "_all_tasks" if sys.version_info < (3, 12) else "_scheduled_tasks"
    return getattr(asyncio.tasks, name, None)


def make_native(tasks: Any) -> bool:
    """Has native functions add tasks to the set and remove them. `False`: it is not the set that
    they are for (Python 3.14 has a simpler one), or somebody has changed it."""
    if type(tasks) is not WeakSet or vars(tasks).keys() != _FIELDS_OF_A_SET:
        return False
    native = _native.TaskSet(tasks)
    vars(tasks).update(add=native.add, _remove=native.remove)
    tasks.__class__ = _TaskSet
    # A task that was found to be garbage must not be returned any more. The collector clears the
    # weak references to it, so a set does not have it, but the native list would.
    if _native.list_tasks_to_collect not in gc.callbacks:
        gc.callbacks.append(_native.list_tasks_to_collect)
    return True


class _TaskSet(WeakSet[Any]):
    """A set that gets most of its tasks only when somebody looks."""

    @property
    def data(self) -> set[Any]:
        _native.list_tasks()
        return vars(self)["data"]  # type: ignore[no-any-return]

    @data.setter
    def data(self, data: set[Any]) -> None:
        vars(self)["data"] = data


_FIELDS_OF_A_SET = {"data", "_remove", "_pending_removals", "_iterating"}
