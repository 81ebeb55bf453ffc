"""A loop's call in a `ThreadPoolExecutor`: the default executor, or one of the program's.

The pool's `submit()` makes a future of `concurrent.futures`, with a lock and a condition of its
own, that nobody but the loop would look at. What is done here is the same with a lighter one,
which tells the loop's future. All else is the pool's: its items, its queue, its threads, its end.

It relies on what `submit()` uses, the same from Python 3.10 to 3.15, and on what the pool and its
threads call of an item's future. With a later Python, a subclass, or if a program or library has
replaced one of the parts that see this future, `submit()` is called.

`call_in` runs on the loop's thread; of a `_Forwarding`, any thread may call anything.
"""

from __future__ import annotations

import asyncio
import concurrent.futures._base as futures
import concurrent.futures.thread as pools
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
    if _is_as_python_made_it(executor):
        future: asyncio.Future[_T] = loop.create_future()
        with executor._shutdown_lock, pools._global_shutdown_lock:
            if not (executor._broken or executor._shutdown or pools._shutdown):
                _put(executor, _Forwarding(loop, future), func, args)
                return future
    return outcome_of(executor.submit(func, *args), loop)


def _put(
    pool: Any, forwarding: _Forwarding, func: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    """The second half of `submit()`, under the pool's locks."""
    make: Callable[..., Any] = pools._WorkItem
    if sys.version_info >= (3, 14):
        item = make(forwarding, pool._resolve_work_item_task(func, args, {}))
    else:
        item = make(forwarding, func, args, {})
    pool._work_queue.put(item)
    try:
        pool._adjust_thread_count()
    except BaseException:
        # The call stays in the queue, as with `submit()`, but nobody will ask for its outcome.
        forwarding.ignore_errors()
        raise


class _Forwarding:
    """What the pool takes for the call's future."""

    __slots__ = ("_future", "_is_cancelled", "_loop", "_unclaimed")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        self._loop = loop
        self._future = future
        self._is_cancelled = False
        # For who begins or cancels the call: of two threads only one can take it out.
        self._unclaimed = [True]

    def set_running_or_notify_cancel(self) -> bool:
        return not self._future.cancelled() and self._claim()

    def set_result(self, result: Any) -> None:
        self._tell(self._future.set_result, result)

    def set_exception(self, error: BaseException) -> None:
        self._tell(self._future.set_exception, in_asyncios_class(error))

    def cancel(self) -> bool:
        if not self._is_cancelled and self._claim():
            self._is_cancelled = True
            self._tell(self._future.cancel)
        return self._is_cancelled

    def cancelled(self) -> bool:
        return self._is_cancelled or self._future.cancelled()

    def done(self) -> bool:
        return self._is_cancelled or self._future.done()

    def ignore_errors(self) -> None:
        self._future.add_done_callback(_retrieve)

    def _claim(self) -> bool:
        try:
            return self._unclaimed.pop()
        except IndexError:
            return False

    def _tell(self, method: Callable[..., object], *outcome: object) -> None:
        try:
            tell(self._loop, self._future, method, *outcome)
        except Exception:
            # As a future of `concurrent.futures` has it: the thread goes on.
            futures.LOGGER.exception("exception calling callback for %r", self._future)


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


# The parts that see an item's future, or call those that do.
_SUBMIT = ThreadPoolExecutor.submit
_ITEM = getattr(pools, "_WorkItem", None)
_INIT = getattr(_ITEM, "__init__", None)
_RUN = getattr(_ITEM, "run", None)
_WORKER = getattr(pools, "_worker", None)
_FUNCTIONS = _SUBMIT, _INIT, _RUN, _WORKER
_SUBMITS_CODE, _INITS_CODE, _RUNS_CODE, _WORKERS_CODE = (
    getattr(function, "__code__", None) for function in _FUNCTIONS
)
_FUTURE = futures.Future


# What each of the functions uses.
_USED = "_WorkItem", "future", "set_running_or_notify_cancel", "run"


def _is_pythons(function: Any, used: str) -> bool:
    """A library may have been there before, and may have replaced just the function's code.

    That of ddtrace keeps the name of the file.
    """
    if type(function) is not FunctionType:
        return False
    code = function.__code__
    return used in code.co_names and code.co_filename == getattr(pools, "__file__", None)


_ARE_PYTHONS = (
    sys.version_info < (3, 16)
    and getattr(_ITEM, "__module__", None) == pools.__name__
    and _FUTURE.__module__ == futures.__name__
    and all(map(_is_pythons, _FUNCTIONS, _USED))
)


def _is_as_python_made_it(executor: Executor) -> TypeGuard[ThreadPoolExecutor]:
    # Identities, since a wrapper may be equal to what it wraps. This is done for each call.
    return (
        _ARE_PYTHONS
        and type(executor) is ThreadPoolExecutor
        and "submit" not in vars(executor)
        and ThreadPoolExecutor.submit is _SUBMIT
        and _SUBMIT.__code__ is _SUBMITS_CODE
        and pools._WorkItem is _ITEM
        and _ITEM.__init__ is _INIT
        and _INIT.__code__ is _INITS_CODE
        and _ITEM.run is _RUN
        and _RUN.__code__ is _RUNS_CODE
        and pools._worker is _WORKER
        and _WORKER.__code__ is _WORKERS_CODE
        and futures.Future is _FUTURE
    )
