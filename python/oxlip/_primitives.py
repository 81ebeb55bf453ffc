"""asyncio's locks, queues and timeouts with a native half: same classes, names and meaning.

`Lock`, `Queue` and so on derive from asyncio's. What needs no waiting is native; the coroutines
here are those of a task that waits, where every release of Python has it alike, and asyncio's own
where not. They work on any loop. After `take_over()`, asyncio's classes make objects of these.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from . import _native

# What is behind the names, whoever replaces them later.
_Lock = asyncio.Lock
_Semaphore = asyncio.Semaphore
_BoundedSemaphore = asyncio.BoundedSemaphore
_Queue = asyncio.Queue

_T = TypeVar("_T")

# Stands for no item, where any object may be one.
NO_ITEM = object()


class Lock(_native.Lock, _Lock):
    """As `asyncio.Lock`."""

    async def acquire(self) -> Any:
        if self._take():
            return True
        if type(self) is not Lock:
            return await super().acquire()
        return await self._wait(True)

    def _enter(self) -> Any:
        return self._wait(None)

    async def _wait(self, result: _T) -> _T:
        if self._take():
            return result
        waiter = self._arrival()
        try:
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        except asyncio.CancelledError:
            # Who waits behind has been passed over for this one.
            if not self._locked:
                self._wake_up_first()  # type: ignore[attr-defined]
            raise
        self._locked = True
        return result


class _NativeSemaphore(_native.Semaphore):
    """In front of a class of asyncio's."""

    async def acquire(self) -> Any:
        if self._take():
            return True
        return await super().acquire()  # type: ignore[misc]

    async def _enter(self) -> None:
        await super().acquire()  # type: ignore[misc]


class Semaphore(_NativeSemaphore, _Semaphore):
    """As `asyncio.Semaphore`."""


class BoundedSemaphore(_NativeSemaphore, _BoundedSemaphore):
    """As `asyncio.BoundedSemaphore`."""


class Queue(_native.Queue, _Queue[_T]):
    """As `asyncio.Queue`."""

    async def put(self, item: _T) -> None:
        while not self._put_soon(item):
            putter = self._putter()
            if putter is None:
                return await super().put(item)
            try:
                await putter
            except:
                self._leave(putter, self._putters)
                if not self.full() and not putter.cancelled():
                    self._wakeup_next(self._putters)  # type: ignore[attr-defined]
                raise

    async def get(self) -> _T:
        while (item := self._get_soon()) is NO_ITEM:
            getter = self._getter()
            if getter is None:
                return await super().get()
            try:
                await getter
            except:
                self._leave(getter, self._getters)
                if not self.empty() and not getter.cancelled():
                    self._wakeup_next(self._getters)  # type: ignore[attr-defined]
                raise
        return item  # type: ignore[no-any-return]

    @staticmethod
    def _leave(waiter: asyncio.Future[None], waiters: Any) -> None:
        """A waiter that something else than its turn has woken is none any more."""
        waiter.cancel()
        try:
            waiters.remove(waiter)
        except ValueError:
            pass  # Its turn had come too.


# asyncio's class → ours.
REPLACEMENTS: dict[type[Any], type[Any]] = {
    _Lock: Lock,
    _Semaphore: Semaphore,
    _BoundedSemaphore: BoundedSemaphore,
    _Queue: Queue,
}

# asyncio's functions that have another here, by name and module.
FUNCTIONS: dict[str, tuple[Any, Any]] = {}

if sys.version_info >= (3, 11):
    import asyncio.timeouts

    _Timeout = asyncio.Timeout
    TIMEOUT_STATES = tuple(asyncio.timeouts._State)  # type: ignore[attr-defined]

    class Timeout(_native.Timeout, _Timeout):  # type: ignore[misc]
        """As `asyncio.Timeout`."""

        # All is set when it is made.
        __init__ = object.__init__  # type: ignore[assignment]

        async def __aenter__(self) -> Any:
            if self._enter():
                return self
            return await super().__aenter__()

    timeout = _native.timeout

    def timeout_at(when: float | None) -> asyncio.Timeout:
        """As `asyncio.timeout_at()`."""
        return Timeout(when)

    REPLACEMENTS[_Timeout] = Timeout
    FUNCTIONS |= {
        "timeout": (asyncio.timeouts, timeout),
        "timeout_at": (asyncio.timeouts, timeout_at),
    }

if sys.version_info >= (3, 12):
    _wait_for = asyncio.wait_for

    async def wait_for(fut: Awaitable[_T], timeout: float | None) -> _T:
        """As `asyncio.wait_for()`."""
        if timeout is not None and timeout <= 0:
            return await _wait_for(fut, timeout)
        limit = _native.timeout(timeout)
        if not limit._enter():
            await limit.__aenter__()  # It says why.
        try:
            result = await fut
        except BaseException as error:
            await limit.__aexit__(type(error), error, error.__traceback__)
            raise
        await limit.__aexit__(None, None, None)
        return result

    FUNCTIONS["wait_for"] = (asyncio.tasks, wait_for)


def take_over() -> None:
    """From here on, asyncio's classes make objects of ours, in every loop of the process."""
    for stock, ours in REPLACEMENTS.items():
        stock.__new__ = _maker(stock, ours)
    for name, (module, function) in FUNCTIONS.items():
        for place in (asyncio, module):
            setattr(place, name, function)


def _maker(stock: type[Any], ours: type[Any]) -> Callable[..., Any]:
    """A `__new__` of asyncio's class, for itself and for what derives from it."""

    def __new__(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
        if cls is stock:
            return ours.__new__(ours, *args, **kwargs)
        make = super(stock, cls).__new__
        return make(cls) if make is object.__new__ else make(cls, *args, **kwargs)

    # Who asks for the arguments of the class gets those of its `__init__`, as before.
    __new__.__signature__ = inspect.signature(stock.__init__)  # type: ignore[attr-defined]
    return __new__
