"""asyncio's `Timeout` (Python 3.11) with a native half, and `wait_for()`, which is built on it."""

from __future__ import annotations

import asyncio
import asyncio.tasks
import sys
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from . import _native
from ._copied import Copied
from ._prompt import prompt
from ._stock import beyond, stock_class, stock_function

_T = TypeVar("_T")

if sys.version_info >= (3, 11):
    import asyncio.timeouts

    if TYPE_CHECKING:
        _Timeout = asyncio.Timeout
    else:
        _Timeout = stock_class(asyncio.timeouts, "Timeout")
    TIMEOUT_STATES = tuple(asyncio.timeouts._State)  # type: ignore[attr-defined]

    class Timeout(Copied, _native.Timeout, _Timeout):  # type: ignore[misc]
        """As `asyncio.Timeout`."""

        _ATTRIBUTES = ("_state", "_timeout_handler", "_task", "_when", "_cancelling")
        _ARGUMENTS = ("_when",)

        # All of it is set on creation.
        __init__ = object.__init__  # type: ignore[assignment]

        async def __aenter__(self) -> Any:
            if self._enter():
                return self
            return await beyond(Timeout, self).__aenter__()

        @prompt
        async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> Any:
            if self._leave():
                return None
            return await super().__aexit__(exc_type, exc_val, exc_tb)

    _native.adopt_methods(Timeout, _native.Timeout)

    _timeout = stock_function(asyncio.timeouts, "timeout")
    _timeout_at = stock_function(asyncio.timeouts, "timeout_at")

    timeout = _native.timeout

    def timeout_at(when: float | None) -> asyncio.Timeout:
        """As `asyncio.timeout_at()`."""
        return Timeout(when)


if sys.version_info >= (3, 12):
    _wait_for = stock_function(asyncio.tasks, "wait_for")

    async def wait_for(fut: Awaitable[_T], timeout: float | None) -> _T:
        """As `asyncio.wait_for()`."""
        if timeout is not None and timeout <= 0:
            return await _wait_for(fut, timeout)  # type: ignore[no-any-return]
        limit = _native.timeout(timeout)
        try:
            if not limit._enter():
                await limit.__aenter__()  # It says why.
            try:
                result = await fut
            except BaseException as error:
                if not limit._leave():
                    await limit.__aexit__(type(error), error, error.__traceback__)
                raise
            if not limit._leave():
                await limit.__aexit__(None, None, None)
            return result
        finally:
            # It refers to the task, whose exception refers to this frame.
            del limit
