"""Coroutine functions that usually finish at once, and are native then."""

from __future__ import annotations

import functools
import inspect
import sys
import sysconfig
import types
from asyncio import Future
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from . import _native

_Function = TypeVar("_Function", bound=Callable[..., Any])


def prompt(function: _Function) -> _Function:
    """Wraps `function` in a native one, which calls it only where it cannot do the work itself.

    Before Python 3.12, `inspect` would not take the native one for a coroutine function, and
    without a GIL it would not be faster. In both cases `function` itself is returned.
    """
    if sys.version_info < (3, 12) or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return function
    native: Any = _native.PromptFunction(function)
    functools.update_wrapper(native, function)
    inspect.markcoroutinefunction(native)
    return native


@types.coroutine
def given(future: Future[Any]) -> Generator[Any, Any, Any]:
    """Awaits a future that has been given to the task before. The first step repeats that."""
    yield future
    return (yield from future)
