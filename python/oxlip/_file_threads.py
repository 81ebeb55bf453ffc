"""The threads in which a loop's files do what may block: few, begun when needed, ended when idle.

They are the loop's own. In the default executor, whose size is the program's affair, a file would
wait for whatever else is done there, and what is done there for a slow disk. What may block for
ever (a FIFO, a terminal) gets a thread to itself, so that it cannot keep the others.

Used on the loop's thread, of any loop. After a fork the child's loop begins without threads.
A simulated loop has none: its time would not wait for them, so there the work is done at once.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any

# At most so many for a loop.
MOST = 8

# A thread that had nothing to do for so long ends.
IDLE_SECONDS = 5.0


class _Job:
    """Something to do. By the time that its end is told, the thread has let go of all it knows."""

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self._work: Callable[[], Any] | None = work
        self._future: asyncio.Future[Any] | None = future

    def run(self) -> None:
        """On a thread of its own or of the pool; the loop may be closed by the end."""
        work, future = self._work, self._future
        assert work is not None and future is not None
        loop = future.get_loop()
        try:
            end = [future, work(), None]
        except BaseException as error:
            end = [future, None, error]
        self._work = self._future = work = future = None
        try:
            loop.call_soon_threadsafe(_end, end)
        except RuntimeError:
            pass


def _end(end: list[Any]) -> None:
    future, result, failure = end
    end.clear()
    _finish(future, result, failure)


def _finish(future: asyncio.Future[Any], result: object, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    elif isinstance(failure, StopIteration):
        # A future cannot raise it; who reads a file does not expect it either.
        error = RuntimeError("a file's method raised StopIteration")
        error.__cause__ = failure
        future.set_exception(error)
    else:
        future.set_exception(failure)


class _Pool:
    """What the threads know: not the loop, and not who uses them."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.threads: set[threading.Thread] = set()

    def serve(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self.lock:
                    if not self.jobs.empty():
                        continue
                    self.threads.discard(threading.current_thread())
                    return
            if job is None:
                return
            job.run()
            del job  # It must not keep anything alive while there is nothing to do.

    def end(self) -> list[threading.Thread]:
        with self.lock:
            ending = list(self.threads)
            self.threads.clear()
            for _ in ending:
                self.jobs.put(None)
        return ending


class FileThreads:
    """Those of one loop."""

    def __init__(self) -> None:
        self._pool = _Pool()
        # Not to keep what was begun on a loop that is closed.
        self._under_way: weakref.WeakSet[asyncio.Future[Any]] = weakref.WeakSet()
        self._alone: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._keeper: AsyncGenerator[None, None] | None = None
        self._is_kept = False
        weakref.finalize(self, self._pool.end)

    def submit(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Any]
    ) -> asyncio.Future[Any]:
        """Calls `work` in one of the threads. To cancel the future does not end that."""
        if _is_simulated(loop):
            return _done(loop, work)
        future = self._begin(loop)
        pool = self._pool
        with pool.lock:
            pool.jobs.put(_Job(work, future))
            if len(self._under_way) > len(pool.threads) < MOST:
                pool.threads.add(_start(pool.serve))
        return future

    def submit_alone(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Any]
    ) -> asyncio.Future[Any]:
        """As `submit`, in a thread that it has to itself."""
        if _is_simulated(loop):
            return _done(loop, work)
        future = self._begin(loop)
        self._alone.add(_start(_Job(work, future).run))
        return future

    def _begin(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        if not (self._is_kept or getattr(loop, "_asyncgens_shutdown_called", False)):
            # What a loop tells at its end, whoever has made it: its asynchronous generators.
            self._is_kept = True
            self._keeper = keeper = self._until_shutdown()
            try:
                keeper.asend(None).send(None)
            except StopIteration:
                pass
        future: asyncio.Future[Any] = loop.create_future()
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    async def _until_shutdown(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._keeper = None
            self.end()

    def end(self) -> None:
        """Ends the threads; those in the middle of something end after it."""
        ending = self._pool.end()
        if self.is_idle():
            for thread in (*ending, *self._alone):
                thread.join()

    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._under_way

    def after_fork(self) -> None:
        """The threads are the parent's, and so is what they were doing."""
        self._pool = _Pool()
        self._alone.clear()
        weakref.finalize(self, self._pool.end)
        for future in list(self._under_way):
            _finish(future, None, OSError(errno.ECANCELED, "The process has forked"))


def _is_simulated(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop's time is not that of other threads."""
    return getattr(loop, "driver", None) == "sim"


def _done(loop: asyncio.AbstractEventLoop, work: Callable[[], Any]) -> asyncio.Future[Any]:
    """`work` at once: it takes no simulated time, and the result is there in the next tick."""
    future: asyncio.Future[Any] = loop.create_future()
    result = failure = None
    try:
        result = work()
    except Exception as error:
        failure = error
    _finish(future, result, failure)
    return future


def _start(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name="oxlip-file", daemon=True)
    thread.start()
    return thread


_ALL: weakref.WeakSet[FileThreads] = weakref.WeakSet()

# Where a loop has them: they know it by way of the generator, so that no weak dictionary would do.
_ATTRIBUTE = "_oxlip_file_threads"


def threads_of(loop: asyncio.AbstractEventLoop) -> FileThreads:
    """The running loop's."""
    threads: FileThreads | None = getattr(loop, _ATTRIBUTE, None)
    if threads is None:
        threads = FileThreads()
        _ALL.add(threads)
        setattr(loop, _ATTRIBUTE, threads)
    return threads


def end_threads_of(loop: asyncio.AbstractEventLoop) -> None:
    """The loop is closed."""
    threads: FileThreads | None = getattr(loop, _ATTRIBUTE, None)
    if threads is not None:
        threads.end()


def _after_fork() -> None:
    for threads in list(_ALL):
        threads.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
