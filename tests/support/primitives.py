"""Our locks, queues and timeouts behind asyncio's names, as `oxlip.install()` puts them there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .loops import STOCK_ONLY


@contextmanager
def behind_asyncios_names() -> Iterator[None]:
    """Within the block, asyncio's classes make objects of ours."""
    from oxlip import _native, _switch, _task_set, _tasks

    before = {name: getattr(asyncio, name) for name in _switch.FUNCTIONS}
    task_set = _task_set.task_set()
    tasks, class_before = vars(task_set), type(task_set)
    tasks_before = dict(tasks)
    _switch.take_over()
    _tasks.take_over()
    try:
        yield
    finally:
        _native.switch_tasks(False)
        task_set.__class__ = class_before
        tasks.pop("add", None)
        tasks.update(tasks_before)
        for name, (_, module, _) in _switch.FUNCTIONS.items():
            for place in (asyncio, module):
                setattr(place, name, before[name])
        # CPython does not forget that a class had a `__new__`, and refuses arguments without one.
        for stock in _switch.REPLACEMENTS:
            stock.__new__ = staticmethod(_maker(stock))  # type: ignore[method-assign,assignment]


# For a parametrized test: with asyncio's classes, and with ours behind them.
BOTH = ["asyncio"] if STOCK_ONLY else ["asyncio", "oxlip"]


@contextmanager
def behind_names_if(ours: str) -> Iterator[None]:
    """Within the block, those of `BOTH`."""
    if ours == "oxlip":
        with behind_asyncios_names():
            yield
    else:
        yield


def _maker(stock: type[Any]) -> Callable[..., Any]:
    def __new__(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
        make = super(stock, cls).__new__
        return make(cls) if make is object.__new__ else make(cls, *args, **kwargs)

    return __new__
