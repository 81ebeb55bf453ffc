"""What `oxlip.install()` and `oxlip run` put behind asyncio's names, and where they leave
asyncio's own.

asyncio's classes stay what they are, but make objects of ours; while a program has replaced one
of their methods, they make their own again. asyncio's functions are replaced, except where a
program has replaced them already.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import inspect
import sys
from collections.abc import Callable
from operator import attrgetter
from types import ModuleType
from typing import Any

from . import _groups, _locks, _native, _queues, _timeouts
from ._stock import MAKERS, is_of, makes_ours
from ._task_set import make_native, task_set

# asyncio's class → ours.
REPLACEMENTS: dict[type[Any], type[Any]] = {
    _locks._Event: _locks.Event,
    _locks._Lock: _locks.Lock,
    _locks._Condition: _locks.Condition,
    _locks._Semaphore: _locks.Semaphore,
    _locks._BoundedSemaphore: _locks.BoundedSemaphore,
    _queues._Queue: _queues.Queue,
}

# asyncio's functions that have a replacement here: name → (asyncio's, module, ours).
FUNCTIONS: dict[str, tuple[Any, ModuleType, Any]] = {}

if sys.version_info >= (3, 11):
    import asyncio.timeouts

    REPLACEMENTS[_timeouts._Timeout] = _timeouts.Timeout
    FUNCTIONS |= {
        "timeout": (_timeouts._timeout, asyncio.timeouts, _timeouts.timeout),
        "timeout_at": (_timeouts._timeout_at, asyncio.timeouts, _timeouts.timeout_at),
    }

if sys.version_info >= (3, 12):
    FUNCTIONS["wait_for"] = (_timeouts._wait_for, asyncio.tasks, _timeouts.wait_for)

if sys.version_info >= (3, 12) and _native.has_tasks():
    REPLACEMENTS[_groups._TaskGroup] = _groups.TaskGroup
    FUNCTIONS |= {
        "gather": (_groups._gather, asyncio.tasks, _native.gather),
        "wait": (_groups._wait, asyncio.tasks, _groups.wait),
    }


def take_over() -> None:
    """From here on, asyncio's classes make objects of ours, in every loop of the process.

    A function that somebody else has put in the place of asyncio's stays.
    """
    for stock, ours in REPLACEMENTS.items():
        if not makes_ours(stock):
            maker: Any = _maker(stock, ours)
            if sys.version_info < (3, 11):
                # `inspect` there takes the arguments of any `__new__` in Python for those of a
                # class, before those of its own `__init__`.
                maker = maker.__call__
                stock.__signature__ = _Signature(stock)
            stock.__new__ = staticmethod(maker)
            MAKERS[stock] = ours, maker
    for name, (stock, module, ours) in FUNCTIONS.items():
        if is_of(stock, {module.__name__}):
            for place in (asyncio, module):
                if getattr(place, name, None) is stock:
                    setattr(place, name, ours)
    make_native(task_set())


class _Signature:
    """A signature for one class, but for none that derives from it."""

    def __init__(self, cls: type[Any]) -> None:
        signature = inspect.signature(cls.__init__)
        _, *parameters = signature.parameters.values()
        self._cls = cls
        self._signature = signature.replace(parameters=parameters)

    def __get__(self, instance: object, cls: type[Any] | None = None) -> inspect.Signature:
        if instance is None and cls is self._cls:
            return self._signature
        raise AttributeError("__signature__")


# Attributes of every class, which are no methods of asyncio's.
_NO_METHODS = {
    "__new__",
    "__class_getitem__",
    "__init_subclass__",
    "__annotate__",
    "__annotate_func__",
}


def _methods(stock: type[Any]) -> tuple[Callable[[type[Any]], Any], Any]:
    """A getter of a class's methods, and asyncio's own; `None` if they were replaced before."""
    found = {
        name
        for cls in stock.__mro__[:-1]
        for name, value in vars(cls).items()
        if callable(value) and name not in _NO_METHODS
    }
    get = attrgetter(*sorted(found))
    modules = {cls.__module__ for cls in stock.__mro__}
    own = all(is_of(method, modules) for method in get(stock))
    return get, get(stock) if own else None


_METHODS = {stock: _methods(stock) for stock in REPLACEMENTS}


def _maker(stock: type[Any], ours: type[Any]) -> Callable[..., Any]:
    """A `__new__` for asyncio's class, which classes that derive from it inherit."""
    methods, own = _METHODS[stock]

    def others(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
        make = super(stock, cls).__new__
        return make(cls) if make is object.__new__ else make(cls, *args, **kwargs)

    return _native.Maker(
        stock,
        ours,
        # A program that has replaced one of asyncio's methods wants it to be called.
        lambda: methods(stock) == own,
        others,
        ours.__init__ is object.__init__,
        # Asking for the arguments of the class still gives those of its `__init__`.
        inspect.signature(stock.__init__),
    )
