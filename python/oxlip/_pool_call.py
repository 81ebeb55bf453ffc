"""A loop's call in a `ThreadPoolExecutor`: the default executor, or one of the program's.

The pool's `submit()` makes a future of `concurrent.futures`, with a lock and a condition of its
own, that nobody but the loop would look at. What is done here is the same with a lighter one,
which tells the loop's future. All else is the pool's: its items, its queue, its threads, its end.

It relies on what `submit()` uses, the same from Python 3.10 to 3.15, and on what the pool and its
threads call of an item's future. With a later Python, a subclass, or if a program or library has
put something in the place of `submit()` or of the future's class, `submit()` is called.

`call_in` runs on the loop's thread; of a `_Forwarding`, any thread may call anything.
"""

from __future__ import annotations

import asyncio
import concurrent.futures._base as futures
import concurrent.futures.thread as pools
import logging
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from concurrent.futures.thread import ThreadPoolExecutor
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from ._executor import in_asyncios_class, outcome_of, tell

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

    Raises what `executor.submit()` does, of a pool for example `RuntimeError` after its
    `shutdown()`, at the interpreter's end, and if no thread can be started.
    """
    if _has_pythons_submit(executor):
        future: asyncio.Future[_T] = loop.create_future()
        with executor._shutdown_lock, pools._global_shutdown_lock:
            if not (executor._broken or executor._shutdown or pools._shutdown):
                _put(executor, _Forwarding(loop, future), func, args)
                return future
    return outcome_of(executor.submit(func, *args), loop)


def _put(
    pool: Any, forwarding: _Forwarding, func: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    item: Any = pools._WorkItem
    if sys.version_info >= (3, 14):
        item = item(forwarding, pool._resolve_work_item_task(func, args, {}))
    else:
        item = item(forwarding, func, args, {})
    pool._work_queue.put(item)
    try:
        pool._adjust_thread_count()
    except BaseException:
        # The call stays in the queue, as with `submit()`, but nobody will ask for its outcome.
        forwarding.ignore_errors()
        raise


class _Forwarding:
    """What the pool takes for the call's future."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        self._loop = loop
        self._future = future

    def set_running_or_notify_cancel(self) -> bool:
        return not self._future.cancelled()

    def set_result(self, result: Any) -> None:
        self._tell(self._future.set_result, result)

    def set_exception(self, error: BaseException) -> None:
        self._tell(self._future.set_exception, in_asyncios_class(error))

    def cancel(self) -> bool:
        """Called of an item that was taken out of the queue, so that no thread has begun it."""
        self._tell(self._future.cancel)
        return True

    def cancelled(self) -> bool:
        return self._future.cancelled()

    def done(self) -> bool:
        return self._future.done()

    def ignore_errors(self) -> None:
        self._future.add_done_callback(_retrieve)

    def _tell(self, method: Callable[..., object], *outcome: object) -> None:
        try:
            tell(self._loop, self._future, method, *outcome)
        except Exception:
            # As a future of `concurrent.futures` has it: the thread goes on.
            _log.exception("exception calling callback for %r", self._future)


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


_SUBMIT = ThreadPoolExecutor.submit
_CODE = getattr(_SUBMIT, "__code__", None)
_FUTURE = futures.Future
# A tracing library may have been there before, and may have changed the function itself.
_IS_PYTHONS = (
    sys.version_info < (3, 16)
    and type(_SUBMIT) is FunctionType
    and _SUBMIT.__globals__ is vars(pools)
    and "_WorkItem" in _SUBMIT.__code__.co_names
    and _FUTURE.__module__ == futures.__name__
)


def _has_pythons_submit(executor: Executor) -> TypeGuard[ThreadPoolExecutor]:
    return (
        _IS_PYTHONS
        and type(executor) is ThreadPoolExecutor
        and ThreadPoolExecutor.submit is _SUBMIT
        and _SUBMIT.__code__ is _CODE
        and futures.Future is _FUTURE
        and "submit" not in vars(executor)
    )
