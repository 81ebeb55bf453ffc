"""Running, stopping and closing the loop; its executor; its exception handler.

This is what happens around the ticks, which are native: the thread's running loop, the hooks
for asynchronous generators, debug mode's coroutine origins, signals. It follows the base event
loop of the running Python's asyncio. asyncio's logger and its functions for the running loop
are looked up in asyncio at each use, so a program that replaces them there replaces them for us
too.

Runs on the loop's thread, except for the end of the executor (a thread of its own) and for
`_asyncgen_finalizer_hook` (whichever thread collects the generator).
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import asyncio.events
import concurrent.futures
import logging
import sys
import threading
import traceback
import warnings
import weakref
from asyncio.constants import DEBUG_STACK_DEPTH
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from ._file_threads import end_threads_of
from ._inside import Inside
from ._pool_call import call_in
from ._signals import Signals, iscoroutinefunction

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    _Ts = TypeVarTuple("_Ts")

_T = TypeVar("_T")
_Context: TypeAlias = dict[str, Any]
_ExceptionHandler: TypeAlias = Callable[[asyncio.AbstractEventLoop, _Context], object]


class Lifecycle(Signals, Inside):
    """From the first run to `close()`."""

    STATE: tuple[str, ...] = (
        *Signals.STATE,
        *Inside.STATE,
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_default_executor",
        "_exception_handler",
        "_executor_shutdown_called",
        "_saved_hooks",
        "_saved_origin_depth",
    )

    def __init__(self) -> None:
        super().__init__()
        self._default_executor: Executor | None = None
        self._executor_shutdown_called = False
        self._exception_handler: _ExceptionHandler | None = None
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._asyncgens_shutdown_called = False
        # The interpreter's own hooks, while the loop runs.
        self._saved_hooks: Any = None
        # The interpreter's own depth of coroutine origins, while debug mode has replaced it.
        self._saved_origin_depth: int | None = None
        self.set_debug(asyncio.coroutines._is_debug_mode())  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    # Running.

    def run_forever(self) -> None:
        """Runs until `stop()` is called."""
        self._run_forever_setup()
        try:
            while True:
                if self._waits_natively():
                    self._run()
                else:
                    self._run_once()
                if self._stopping:
                    break
        finally:
            self._run_forever_cleanup()

    def _run_forever_setup(self) -> None:
        """Does all that running takes except the ticks: `_run_once()` may be called from now on."""
        self._check_closed()
        self._check_running()
        self._mark_running()
        self._saved_hooks = sys.get_asyncgen_hooks()
        try:
            self._set_coroutine_origin_tracking(self.get_debug())
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
            )
            self._claim_wakeup()
            asyncio.events._set_running_loop(self)
        except BaseException:
            self._run_forever_cleanup()
            raise

    def _run_forever_cleanup(self) -> None:
        """Undoes `_run_forever_setup()`."""
        self._release()
        asyncio.events._set_running_loop(None)
        self._release_wakeup()
        if self._saved_hooks is not None:
            sys.set_asyncgen_hooks(*self._saved_hooks)
            self._saved_hooks = None
        self._set_coroutine_origin_tracking(False)

    def run_until_complete(self, future: Awaitable[_T] | Generator[Any, None, _T]) -> _T:
        """Runs until `future` is done; its result or exception. A coroutine becomes a task."""
        self._check_closed()
        self._check_running()
        new_task = not asyncio.isfuture(future)
        task = asyncio.ensure_future(cast(Awaitable[_T], future), loop=self)
        if new_task:
            # If it does not complete, an exception says so, and needs no log entry as well.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.add_done_callback(_stop_loop)
        try:
            self.run_forever()
        except BaseException:
            if new_task and task.done() and not task.cancelled():
                # Mark it as seen: nobody else has the task, and it may be what is being raised.
                task.exception()
            raise
        finally:
            task.remove_done_callback(_stop_loop)
        if not task.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return task.result()

    def set_debug(self, enabled: bool) -> None:
        """Switches asyncio's debug mode; a running loop follows in its next tick."""
        super().set_debug(enabled)
        if self.is_running():
            self.call_soon_threadsafe(self._set_coroutine_origin_tracking, enabled)

    def _check_running(self) -> None:
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if asyncio.events._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    def _set_coroutine_origin_tracking(self, enabled: bool) -> None:
        if bool(enabled) == (self._saved_origin_depth is not None):
            return
        if enabled:
            self._saved_origin_depth = sys.get_coroutine_origin_tracking_depth()
            sys.set_coroutine_origin_tracking_depth(DEBUG_STACK_DEPTH)
        else:
            sys.set_coroutine_origin_tracking_depth(self._saved_origin_depth or 0)
            self._saved_origin_depth = None

    # Closing.

    def close(self) -> None:
        """Drops everything scheduled and closes every descriptor of the loop.

        The executor's threads are not waited for. `RuntimeError` while the loop is running.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self.get_debug():
            _logger().debug("Close %r", self)
        try:
            self._close_signals()
        finally:
            super().close()
            end_threads_of(self)
            self._executor_shutdown_called = True
            executor = self._default_executor
            if executor is not None:
                self._default_executor = None
                executor.shutdown(wait=False)

    def _after_fork(self) -> bool:
        # The threads of an executor are not in the child: its work would wait for ever.
        if getattr(self._default_executor, "_threads", None):
            self._default_executor = None
        return super()._after_fork()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self.is_closed():
            return
        _warn(f"unclosed event loop {self!r}", ResourceWarning, source=self)
        if not self.is_running():
            self.close()

    # Asynchronous generators.

    async def shutdown_asyncgens(self) -> None:
        """Closes every asynchronous generator that is still open."""
        self._asyncgens_shutdown_called = True
        closing = list(self._asyncgens)
        if not closing:
            return
        self._asyncgens.clear()
        results = await asyncio.gather(*(agen.aclose() for agen in closing), return_exceptions=True)
        for result, agen in zip(results, closing, strict=True):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": "an error occurred during closing of "
                        f"asynchronous generator {agen!r}",
                        "exception": result,
                        "asyncgen": agen,
                    }
                )

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        if self._asyncgens_shutdown_called:
            warnings.warn(
                f"asynchronous generator {agen!r} was scheduled after "
                "loop.shutdown_asyncgens() call",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        self._asyncgens.add(agen)

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.discard(agen)
        if not self.is_closed():
            self.call_soon_threadsafe(self.create_task, agen.aclose())

    # The executor.

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[_Ts]], _T],
        *args: Unpack[_Ts],
    ) -> asyncio.Future[_T]:
        """Calls `func(*args)` in `executor`, by default a thread pool of the loop."""
        self._check_closed()
        if self.get_debug():
            _check_callback(func, "run_in_executor")
        if executor is None:
            executor = self._default_executor
            if self._executor_shutdown_called:
                raise RuntimeError("Executor shutdown has been called")
            if executor is None:
                executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="asyncio")
                self._default_executor = executor
        return call_in(executor, self, func, *args)

    def set_default_executor(self, executor: Executor) -> None:
        """Sets the `ThreadPoolExecutor` that `run_in_executor(None, …)` uses."""
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            if sys.version_info >= (3, 11):
                raise TypeError("executor must be ThreadPoolExecutor instance")
            warnings.warn(
                "Using the default executor that is not an instance of ThreadPoolExecutor is "
                "deprecated and will be prohibited in Python 3.9",
                DeprecationWarning,
                stacklevel=2,
            )
        self._default_executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Ends the default executor and waits until its threads have finished.

        After `timeout` seconds it warns and leaves them to themselves.
        """
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        finished = self.create_future()
        thread = threading.Thread(target=self._end_executor, args=(executor, finished))
        thread.start()
        if self.driver == "sim":
            timeout = None  # Virtual seconds say nothing about how long a thread takes.
        # The loop runs on while the threads finish: what they do may need it.
        await asyncio.wait([finished], timeout=timeout)
        if finished.done():
            thread.join()
            finished.result()
            return
        finished.cancel()
        warnings.warn(
            f"The executor did not finishing joining its threads within {timeout} seconds.",
            RuntimeWarning,
            stacklevel=2,
        )
        executor.shutdown(wait=False)

    def _end_executor(self, executor: Executor, finished: asyncio.Future[None]) -> None:
        """Runs in a thread of its own."""
        failure: Exception | None = None
        try:
            executor.shutdown(wait=True)
        except Exception as exc:
            failure = exc
        try:
            self.call_soon_threadsafe(_finish, finished, failure)
        except RuntimeError:
            pass  # The loop has been closed meanwhile: nobody waits.

    # The exception handler.

    def get_exception_handler(self) -> _ExceptionHandler | None:
        """The handler that was set; `None` for `default_exception_handler`."""
        return self._exception_handler

    def set_exception_handler(self, handler: _ExceptionHandler | None) -> None:
        """Has errors without a caller passed to `handler(loop, context)`."""
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def default_exception_handler(self, context: _Context) -> None:
        """Logs `context` as an error, in debug mode with the place where its object was made."""
        exception = context.get("exception")
        current = getattr(self, "_current_handle", None)
        origin = getattr(current, "_source_traceback", None)
        if "source_traceback" not in context and origin:
            context["handle_traceback"] = origin
        lines = [context.get("message") or "Unhandled exception in event loop"]
        for key in sorted(context):
            if key in ("message", "exception"):
                continue
            value = context[key]
            if key in ("source_traceback", "handle_traceback"):
                what = "Object" if key == "source_traceback" else "Handle"
                stack = "".join(traceback.format_list(value)).rstrip()
                text = f"{what} created at (most recent call last):\n{stack}"
            else:
                text = repr(value)
            lines.append(f"{key}: {text}")
        _logger().error(
            "\n".join(lines),
            exc_info=exception is not None
            and (type(exception), exception, exception.__traceback__),
        )

    def call_exception_handler(self, context: _Context) -> None:
        """Tells the exception handler; never raises but `SystemExit`, `KeyboardInterrupt`.

        `context` has a `message` and, where they apply, `exception`, `future`, `task`, `handle`,
        `protocol`, `transport`, `socket`, `asyncgen`, `source_traceback`.
        """
        failure = "Exception in default exception handler"
        try:
            if self._exception_handler is None:
                self.default_exception_handler(context)
                return
            try:
                _call_in_context(self._exception_handler, self, context)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                failure = (
                    "Exception in default exception handler while handling an unexpected error "
                    "in custom exception handler"
                )
                self.default_exception_handler(
                    {
                        "message": "Unhandled error in exception handler",
                        "exception": exc,
                        "context": context,
                    }
                )
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            # A subclass may have its own default handler.
            _logger().error(failure, exc_info=True)


def _logger() -> logging.Logger:
    return asyncio.base_events.logger  # type: ignore[attr-defined,no-any-return]


def _stop_loop(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and isinstance(future.exception(), (SystemExit, KeyboardInterrupt)):
        return  # It has ended the run itself; a stop would end the next one too.
    future.get_loop().stop()


def _finish(future: asyncio.Future[None], failure: Exception | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(failure)


def _call_in_context(
    handler: _ExceptionHandler, loop: asyncio.AbstractEventLoop, context: _Context
) -> None:
    """Calls `handler` in the contextvars of the task, future or handle that failed, if known."""
    failed = context.get("task") or context.get("future") or context.get("handle")
    # asyncio does so since Python 3.12.
    get_context = getattr(failed, "get_context", None) if sys.version_info >= (3, 12) else None
    run = getattr(get_context() if get_context is not None else None, "run", None)
    if run is None:
        handler(loop, context)
    else:
        run(handler, loop, context)


def _check_callback(callback: object, method: str) -> None:
    if asyncio.iscoroutine(callback) or iscoroutinefunction(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")
    if not callable(callback):
        raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")
