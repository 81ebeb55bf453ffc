"""asyncio's event, lock, condition and semaphores with a native half.

They derive from asyncio's classes of the same names, mean the same, and work on any loop. What
needs no waiting is native. The coroutines here are for a task that has to wait, in the cases in
which every release of Python behaves alike; the rest is asyncio's own code.
"""

from __future__ import annotations

import asyncio
import asyncio.locks
import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from . import _native
from ._copied import Copied
from ._prompt import prompt
from ._stock import beyond, stock_class

if TYPE_CHECKING:
    _Event = asyncio.Event
    _Lock = asyncio.Lock
    _Condition = asyncio.Condition
    _Semaphore = asyncio.Semaphore
    _BoundedSemaphore = asyncio.BoundedSemaphore
else:
    _Event = stock_class(asyncio.locks, "Event")
    _Lock = stock_class(asyncio.locks, "Lock")
    _Condition = stock_class(asyncio.locks, "Condition")
    _Semaphore = stock_class(asyncio.locks, "Semaphore")
    _BoundedSemaphore = stock_class(asyncio.locks, "BoundedSemaphore")


class Event(Copied, _native.Event, _Event):
    """As `asyncio.Event`."""

    __module__ = "oxlip"
    _ATTRIBUTES = ("_waiters", "_value")
    __init__ = object.__init__  # All is set when it is made.

    async def wait(self) -> Any:
        if self._value:
            return True
        waiter = self._arrival()
        if waiter is None:
            return await beyond(Event, self).wait()
        try:
            await waiter
            return True
        finally:
            self._leave(waiter)


class Lock(Copied, _native.Lock, _Lock):
    """As `asyncio.Lock`."""

    __module__ = "oxlip"
    _ATTRIBUTES = ("_waiters", "_locked")
    __init__ = object.__init__

    async def acquire(self) -> Any:
        if not self._take():
            if type(self) is not Lock:
                return await beyond(Lock, self).acquire()
            waiter = self._arrival()
            await wait_for_lock(self, waiter, waiter)
        return True

    @prompt
    async def __aenter__(self) -> None:
        if self._take():
            return
        if type(self) is not Lock:
            await self.acquire()
            return
        waiter = self._arrival()
        await wait_for_lock(self, waiter, waiter)

    @prompt
    async def __aexit__(self, exc_type: object, exc: object, tb: object) -> None:
        self.release()


async def wait_for_lock(lock: Any, waiter: asyncio.Future[None], awaited: Any) -> None:
    """Waits until `lock` is handed to `waiter`, by awaiting `awaited` in place of `waiter`.

    The native coroutine of `async with` delegates to this one when code asks it for more than an
    `await` does.
    """
    try:
        try:
            await awaited
        finally:
            lock._waiters.remove(waiter)
    except asyncio.CancelledError:
        # Those who wait behind this one were passed over in its favour.
        if not lock._locked:
            lock._wake_up_first()
        raise
    lock._locked = True


# A condition acquires a lock that has this method natively while the lock is free.
LOCK_ACQUIRE = Lock.acquire


class Condition(Copied, _native.Condition, _Condition):
    """As `asyncio.Condition`."""

    __module__ = "oxlip"
    _ATTRIBUTES = ("_lock", "_waiters")
    _ARGUMENTS = ("_lock",)
    _OF_THE_LOCK = ("locked", "acquire", "release")

    def __init__(self, lock: Any = None, **others: Any) -> None:
        super().__init__(Lock() if lock is None else lock, **others)

    async def wait(self) -> Any:
        waiter = self._arrival()
        if waiter is None:
            return await super().wait()
        try:
            await waiter
            if self._return(waiter):
                return True
        except BaseException as error:
            disturbed = _Disturbed(self, waiter, waited=[error])
        else:
            try:
                await self.acquire()
                return True
            except BaseException as error:
                disturbed = _Disturbed(self, None, acquired=[error])
        return await _stock_wait(disturbed)

    @prompt
    async def __aenter__(self) -> None:
        if not self._take():
            await self.acquire()

    @prompt
    async def __aexit__(self, exc_type: object, exc: object, tb: object) -> None:
        self.release()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        # A copy gets the methods of its own lock; `copy` cannot copy those of a native lock.
        for name in self._OF_THE_LOCK:
            method = getattr(self, name, None)
            if method is not None and method != getattr(self._lock, name, None):
                state[name] = method
        return state

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        for name in self._OF_THE_LOCK:
            if not hasattr(self, name):
                setattr(self, name, getattr(self._lock, name))


_stock_wait: Any = inspect.unwrap(_Condition.wait)


class _Disturbed:
    """The object on which asyncio's own `wait()` finishes ours after an exception.

    asyncio's code repeats the steps that were done, which do nothing here, meets the same exception
    at the same step, and goes on as the running Python does.
    """

    def __init__(
        self,
        condition: Condition,
        waiter: Any,
        waited: Sequence[BaseException] = (),
        acquired: Sequence[BaseException] = (),
    ) -> None:
        self._condition = condition
        # `None` if it does not wait any more.
        self._waiter = waiter
        # What the future or the lock has raised. It is removed when it is raised, because its
        # traceback will refer to this object.
        self._waited = list(waited)
        self._acquired = list(acquired)

    def locked(self) -> bool:
        return True

    def release(self) -> None:
        """Pretends to release the lock: it was released."""

    @property
    def _waiters(self) -> Any:
        return self

    def _get_loop(self) -> Any:
        return self

    def create_future(self) -> Any:
        return self

    def append(self, waiter: Any) -> None:
        """Pretends to append the waiter: it was in the queue."""

    def remove(self, waiter: Any) -> None:
        if self._waiter is not None:
            self._condition._waiters.remove(self._waiter)

    def __await__(self) -> Iterator[Any]:
        if self._waited:
            raise self._waited.pop()
        return iter(())

    async def acquire(self) -> Any:
        if self._acquired:
            raise self._acquired.pop()
        return await self._condition.acquire()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._condition, name)


class _NativeSemaphore(Copied, _native.Semaphore):
    """The native half and its coroutines, for a class that also derives from asyncio's."""

    _ATTRIBUTES = ("_value", "_waiters", "_bound_value")

    async def acquire(self) -> Any:
        if self._take():
            return True
        return await beyond(_NativeSemaphore, self).acquire()

    @prompt
    async def __aenter__(self) -> None:
        if not self._take():
            ours = type(self) is Semaphore or type(self) is BoundedSemaphore
            await (super().acquire() if ours else self.acquire())  # type: ignore[misc]

    @prompt
    async def __aexit__(self, exc_type: object, exc: object, tb: object) -> None:
        self.release()


class Semaphore(_NativeSemaphore, _Semaphore):
    """As `asyncio.Semaphore`."""

    __module__ = "oxlip"


class BoundedSemaphore(_NativeSemaphore, _BoundedSemaphore):
    """As `asyncio.BoundedSemaphore`."""

    __module__ = "oxlip"


for _ours, _half in (
    (Event, _native.Event),
    (Lock, _native.Lock),
    (Condition, _native.Condition),
    (Semaphore, _native.Semaphore),
    (BoundedSemaphore, _native.Semaphore),
):
    _native.adopt_methods(_ours, _half)
