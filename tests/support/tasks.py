"""Our futures and tasks in the place of asyncio's, as `oxlip.install()` has our loops make them."""

from __future__ import annotations

import asyncio.futures
import asyncio.tasks
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from .loops import STOCK_ONLY, is_ours


def native_tasks() -> bool:
    """Whether the running Python's are known to us."""
    if STOCK_ONLY:
        return False
    from oxlip import _native

    return _native.has_tasks()


@contextmanager
def switched_tasks() -> Iterator[None]:
    """Within the block, loops of ours make our futures and tasks."""
    from oxlip import _native, _tasks

    _tasks.take_over()
    try:
        yield
    finally:
        _native.switch_tasks(False)


def makes_ours(kind: str, classes: str) -> bool:
    """Whether loops of this kind make our futures and tasks now."""
    return is_ours(kind) and classes == "oxlip"


async def nothing() -> None: ...


async def fail(error: BaseException) -> None:
    raise error


async def awaits(awaitable: Any) -> Any:
    return await awaitable


def our_tasks() -> dict[tuple[ModuleType, str], type[Any]]:
    """Where asyncio has its classes in C for tests, and ours."""
    import oxlip

    return {
        (asyncio.futures, "_CFuture"): oxlip.Future,
        (asyncio.tasks, "_CTask"): oxlip.Task,
    }


# What every class gets for itself.
PER_CLASS = {"__dict__", "__weakref__"}


def in_place_of(cls: type[Any]) -> type[Any]:
    """Ours for one of asyncio's classes in C; over ours for one over those; else the class."""
    import _asyncio

    import oxlip

    stock = {_asyncio.Future: oxlip.Future, _asyncio.Task: oxlip.Task}
    if cls in stock:
        return stock[cls]
    if not any(base in stock for base in cls.__mro__):
        return cls
    bases = tuple(in_place_of(base) for base in cls.__bases__)
    own = {name: value for name, value in vars(cls).items() if name not in PER_CLASS}
    return type(cls.__name__, bases, own)
