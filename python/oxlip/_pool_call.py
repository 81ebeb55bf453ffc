"""A loop's call in a `ThreadPoolExecutor`: the default executor, or one of the program's.

The pool's `submit()` makes a future of `concurrent.futures`, with a lock and a condition of its
own, that nobody but the loop would look at. What is put into the pool's queue here tells the loop's
future directly. All else is the pool's: its threads and when they begin, its queue, its end.

It relies on what the pool keeps to itself, the same from Python 3.10 to 3.15: `_work_queue`, the
locks, the flags and `_adjust_thread_count()`; and that the pool and its threads use nothing of an
item but `run()`, `future.cancel()` and `future.set_exception()`. In every other case (a later
Python, a subclass, a library that has replaced a part of the pool) the call goes by `submit()`.

`call_in` runs on the loop's thread, an item's `run()` on one of the pool's, the rest on any.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread as pools
import logging
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from concurrent.futures.thread import ThreadPoolExecutor
from operator import is_
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from ._executor import asyncios, outcome_of, tell

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    _Ts = TypeVarTuple("_Ts")

_T = TypeVar("_T")

_log = logging.getLogger("concurrent.futures")


def call_in(
    executor: Executor,
    loop: asyncio.AbstractEventLoop,
    func: Callable[[Unpack[_Ts]], _T],
    *args: Unpack[_Ts],
) -> asyncio.Future[_T]:
    """A future of `loop` for the outcome of `func(*args)`. Cancelling it cancels the call.

    Raises what `executor.submit()` does: `RuntimeError` after its `shutdown()` and at the
    interpreter's end, `BrokenThreadPool`.
    """
    if _is_known(executor):
        future: asyncio.Future[_T] = loop.create_future()
        with executor._shutdown_lock, pools._global_shutdown_lock:
            if not (executor._broken or executor._shutdown or pools._shutdown):
                executor._work_queue.put(_Call(loop, future, func, args))  # type: ignore[arg-type]
                executor._adjust_thread_count()
                return future
    return outcome_of(executor.submit(func, *args), loop)


class _Call:
    """What stands in the queue in place of a `_WorkItem`."""

    __slots__ = ("_args", "_func", "_future", "_loop")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Any],
        func: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        self._loop = loop
        self._future = future
        self._func = func
        self._args = args

    def run(self, *_worker: object) -> None:
        """From Python 3.14 on it gets what the thread was prepared with, which is nothing here."""
        if self._future.cancelled():
            return
        try:
            result = self._func(*self._args)
        except BaseException as error:
            self.set_exception(error)
            del self  # The error has this frame, and the future has the error.
        else:
            self._tell(self._future.set_result, result)

    @property
    def future(self) -> _Call:
        return self

    def cancel(self) -> None:
        self._tell(self._future.cancel)

    def set_exception(self, error: BaseException) -> None:
        self._tell(self._future.set_exception, asyncios(error))

    def _tell(self, method: Callable[..., object], *outcome: object) -> None:
        try:
            tell(self._loop, self._future, method, *outcome)
        except Exception:
            # As in a future of the pool, whose thread goes on.
            _log.exception("exception calling callback for %r", self._future)


def _parts() -> tuple[object, ...]:
    """What libraries that trace calls, or patch threads, replace: they would not see ours."""
    return ThreadPoolExecutor.submit, pools._worker, pools._WorkItem, _ITEM.__init__, _ITEM.run


def _is_the_pools_own(part: object) -> bool:
    if type(part) is type:
        return part.__module__ == pools.__name__
    return type(part) is FunctionType and part.__globals__ is vars(pools)


_ITEM = pools._WorkItem
_PARTS = _parts()
_KNOWN = sys.version_info < (3, 16) and all(map(_is_the_pools_own, (ThreadPoolExecutor, *_PARTS)))


def _is_known(executor: Executor) -> TypeGuard[ThreadPoolExecutor]:
    # A wrapper may well be equal to what it wraps.
    return (
        _KNOWN
        and type(executor) is ThreadPoolExecutor
        and all(map(is_, _parts(), _PARTS))
        and "submit" not in vars(executor)
    )
