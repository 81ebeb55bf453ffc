"""The executor that a loop makes for `run_in_executor(None, …)` and `asyncio.to_thread()`.

It is `concurrent.futures`' pool of threads with a native queue, in which the loop's calls need no
future of `concurrent.futures` (`crates/python/src/executor`). All else is the pool's: how many
threads there are and what they are called, `submit()` and `map()`, how it ends.

It relies on names that the pool keeps to itself, the same from Python 3.10 to 3.15: `_work_queue`,
`_idle_semaphore`, `_shutdown`, `_shutdown_lock` and `_adjust_thread_count()`; and on what the pool
and its threads call of an item of the queue, `run()` and `future.cancel()`.
"""

from __future__ import annotations

import _queue
import asyncio
import concurrent.futures.thread as pools
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from . import _native
from ._base import LoopBase
from ._executor import outcome_of

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    _Ts = TypeVarTuple("_Ts")

_T = TypeVar("_T")


_PREFIX = "asyncio"

# Tracing libraries put a function of theirs in its place, which sees the loop's calls, too.
_SUBMIT = ThreadPoolExecutor.submit
if type(_SUBMIT) is not FunctionType or _SUBMIT.__globals__ is not vars(pools):
    _SUBMIT = None  # type: ignore[assignment]


def default_executor() -> ThreadPoolExecutor:
    """A new one.

    Where a library like gevent has put its own queues in the place of Python's, threads are not
    the system's: waiting at a native queue would hold up all of them.
    """
    if queue.SimpleQueue is not _queue.SimpleQueue:
        return ThreadPoolExecutor(thread_name_prefix=_PREFIX)
    return DefaultExecutor()


class DefaultExecutor(ThreadPoolExecutor):
    """`ThreadPoolExecutor(thread_name_prefix="asyncio")`, with a shorter way for a loop's calls."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix=_PREFIX)
        # The threads that wait at the queue are those that have nothing to do.
        self._work_queue: Any = _native.WorkQueue()
        self._idle_semaphore: Any = self._work_queue

    def call(
        self, loop: LoopBase, func: Callable[[Unpack[_Ts]], _T], *args: Unpack[_Ts]
    ) -> asyncio.Future[_T]:
        """A future of `loop` for the outcome of `func(*args)`. Cancelling it cancels the call.

        `RuntimeError` after `shutdown()`, and at the interpreter's end.
        """
        if ThreadPoolExecutor.submit is not _SUBMIT:
            return outcome_of(self.submit(func, *args), loop)
        future: asyncio.Future[_T] = loop.create_future()
        with self._shutdown_lock, pools._global_shutdown_lock:
            if self._shutdown or pools._shutdown:
                after = "shutdown" if self._shutdown else "interpreter shutdown"
                raise RuntimeError(f"cannot schedule new futures after {after}")
            self._work_queue.put_call(loop, future, func, args)
            self._adjust_thread_count()
        return future
