"""asyncio's own classes and functions, and which of its classes make objects of ours."""

from __future__ import annotations

import inspect
from types import FunctionType, ModuleType
from typing import Any


def stock_class(module: ModuleType, name: str) -> type[Any]:
    """asyncio's own class, also where a program has already put a wrapper or a class of its own in
    its place."""
    found = inspect.unwrap(getattr(module, name))
    for cls in found.__mro__ if isinstance(found, type) else ():
        if (cls.__module__, cls.__qualname__) == (module.__name__, name):
            return cls
    raise ImportError(f"{module.__name__}.{name} was replaced before oxlip was imported: {found!r}")


def stock_function(module: ModuleType, name: str) -> Any:
    """As `stock_class`, for a function."""
    return inspect.unwrap(getattr(module, name))


def is_of(function: Any, modules: set[str]) -> bool:
    """Whether this is a function in Python that was written in one of these modules."""
    return type(function) is FunctionType and function.__globals__["__name__"] in modules


# `super` under a name that the compiler does not know: in a function that mentions `super`, every
# call copies a cell with the class, even if it never reaches the mention.
beyond: Any = super


# asyncio's class → ours, and the `__new__` that asyncio's got from `_switch`.
MAKERS: dict[type[Any], tuple[type[Any], Any]] = {}


def makes_ours(stock: type[Any]) -> bool:
    """Whether asyncio's class makes ours, and nobody has given it another `__new__` since."""
    return stock in MAKERS and stock.__new__ is MAKERS[stock][1]


def maker_of(ours: type[Any]) -> type[Any] | None:
    """asyncio's class that makes objects of this one, if one does."""
    for stock, (made, _) in MAKERS.items():
        if made is ours and makes_ours(stock):
            return stock
    return None
