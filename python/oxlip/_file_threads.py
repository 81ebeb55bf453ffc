"""The threads in which a loop's files do what may block: few, started when needed, ended when
idle.

They are the loop's own. In the default executor, whose size is up to the program, a file would
wait for whatever else runs there, and everything else would wait for a slow disk. What may
block for ever (a FIFO, a terminal) gets a thread of its own, so that it cannot hold up the
others.

Work on regular files that has begun is finished before the loop ends, before the interpreter
ends and before a fork: half of it would leave a truncated file, and doing it twice a doubled
one. A forked child has the results, and no threads.

Used on the loop's thread, of any loop. A simulated loop has no threads: its time would not wait
for them, so there the work is done at once.
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

# The most threads of a loop.
MOST = 8

# A thread ends when it has had nothing to do for this long.
IDLE_SECONDS = 5.0

# How long a fork waits for work that has begun; a disk that takes longer is in trouble.
FORK_SECONDS = 10.0


class _Job:
    """Work for a thread, which has dropped all references to it before the outcome is reported."""

    def __init__(
        self, work: Callable[[], Any], future: asyncio.Future[Any], may_hang: bool
    ) -> None:
        self.may_hang = may_hang
        self._work: Callable[[], Any] | None = work
        self._future: asyncio.Future[Any] | None = future
        # The result and the error, from when the work is done until they are reported.
        self.outcome: list[Any] = []

    def run(self) -> None:
        """Runs on a thread of its own or of the pool. The loop may be closed by the end."""
        work, future, outcome = self._work, self._future, self.outcome
        assert work is not None and future is not None
        loop = future.get_loop()
        try:
            outcome.extend((work(), None))
        except BaseException as error:
            outcome.extend((None, error))
        end = [future, outcome]
        self._work = self._future = work = future = None
        try:
            loop.call_soon_threadsafe(_end, end)
        except RuntimeError:
            end.clear()
            outcome.clear()


def _end(end: list[Any]) -> None:
    future, outcome = end
    end.clear()
    _finish(future, outcome)


def _finish(future: asyncio.Future[Any], outcome: list[Any]) -> None:
    if future.done() or not outcome:
        return
    result, failure = outcome
    outcome.clear()
    if failure is None:
        future.set_result(result)
    elif isinstance(failure, StopIteration):
        # A future cannot raise it, and nobody who reads a file expects it.
        error = RuntimeError("a file's method raised StopIteration")
        error.__cause__ = failure
        future.set_exception(error)
    else:
        future.set_exception(failure)


# One for all pools. While it is held nothing begins or ends, so a fork finds no work half begun.
_changed = threading.Condition(threading.RLock())
_pools: weakref.WeakSet[_Pool] = weakref.WeakSet()
_pooled: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


class _Pool:
    """What the threads share. They know neither the loop nor those who use them."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.threads: set[threading.Thread] = set()
        # The number of jobs that are not done.
        self.unfinished = 0
        _pools.add(self)

    def submit(self, job: _Job) -> None:
        """Raises, without any effect, if there is no thread and none can be started."""
        with _changed:
            if self.unfinished >= len(self.threads) < MOST:
                try:
                    thread = _start(self._serve)
                except RuntimeError:
                    if not self.threads:
                        raise
                else:
                    self.threads.add(thread)
                    _pooled.add(thread)
            self.unfinished += 1
            self._jobs.put(job)

    def _serve(self) -> None:
        while True:
            job = None
            try:
                job = self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with _changed:
                    if not self._jobs.empty():
                        continue
                    self.threads.discard(threading.current_thread())
                    return
            if job is None:
                return
            try:
                job.run()
            finally:
                del job  # It must not keep anything alive while there is nothing to do.
                with _changed:
                    self.unfinished -= 1
                    _changed.notify_all()

    def end(self) -> list[threading.Thread]:
        """Takes no more work. Returns the threads, each of which ends when everything is done."""
        with _changed:
            ending = list(self.threads)
            self.threads.clear()
            for _ in ending:
                self._jobs.put(None)
        return ending


class FileThreads:
    """The threads of one loop."""

    def __init__(self) -> None:
        self._pool = self._new_pool()
        # Weak, so as not to keep a closed loop's work.
        self._under_way: weakref.WeakKeyDictionary[asyncio.Future[Any], _Job] = (
            weakref.WeakKeyDictionary()
        )
        self._alone: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._keeper: AsyncGenerator[None, None] | None = None
        self._is_kept = False

    def _new_pool(self) -> _Pool:
        pool = _Pool()
        weakref.finalize(self, pool.end)
        return pool

    def submit(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Any], *, may_hang: bool = False
    ) -> asyncio.Future[Any]:
        """Calls `work` in one of the threads, or in one that it has to itself if it may hang. To
        cancel the future does not end that."""
        if _is_simulated(loop):
            return _done(loop, work)
        self._keep(loop)
        future: asyncio.Future[Any] = loop.create_future()
        job = _Job(work, future, may_hang)
        if may_hang:
            self._alone.add(_start(job.run))
        else:
            self._pool.submit(job)
        self._under_way[future] = job
        future.add_done_callback(self._is_over)
        return future

    def _is_over(self, future: asyncio.Future[Any]) -> None:
        self._under_way.pop(future, None)

    def _keep(self, loop: asyncio.AbstractEventLoop) -> None:
        if not (self._is_kept or getattr(loop, "_asyncgens_shutdown_called", False)):
            # What a loop tells at its end, whoever has made it: its asynchronous generators.
            self._is_kept = True
            self._keeper = keeper = self._until_shutdown()
            try:
                keeper.asend(None).send(None)
            except StopIteration:
                pass

    async def _until_shutdown(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._keeper = None
            # So that who is still there gets to know how it ended.
            while ending := [it for it, job in self._under_way.items() if not job.may_hang]:
                await asyncio.wait(ending)
            self.end()

    def end(self) -> None:
        """Ends the threads once what they have begun is finished, except those that may hang."""
        pool, self._pool = self._pool, self._new_pool()
        ending = pool.end()
        if self.is_idle():
            ending += self._alone
        _join(ending)

    def is_idle(self) -> bool:
        """Whether no work is under way."""
        return not self._under_way

    def after_fork(self) -> None:
        """In a child: the threads are the parent's, and so is what they were doing."""
        self._pool = self._new_pool()
        self._alone.clear()
        for future, job in list(self._under_way.items()):
            lost = OSError(errno.ECANCELED, "The process has forked")
            _finish(future, job.outcome or [None, lost])


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()


def _is_simulated(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop's time is simulated, and passes without other threads."""
    return getattr(loop, "driver", None) == "sim"


def _done(loop: asyncio.AbstractEventLoop, work: Callable[[], Any]) -> asyncio.Future[Any]:
    """Does `work` at once: it takes no simulated time, and its result arrives in the next tick."""
    future: asyncio.Future[Any] = loop.create_future()
    outcome: list[Any] = []
    try:
        outcome.extend((work(), None))
    except BaseException as error:
        outcome.extend((None, error))
    _finish(future, outcome)
    return future


def _start(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name="oxlip-file", daemon=True)
    thread.start()
    return thread


_ALL: weakref.WeakSet[FileThreads] = weakref.WeakSet()

# Where a loop has them: they know it by way of the generator, so that no weak dictionary would do.
_ATTRIBUTE = "_oxlip_file_threads"


def threads_of(loop: asyncio.AbstractEventLoop) -> FileThreads:
    """The threads of the loop."""
    threads: FileThreads | None = getattr(loop, _ATTRIBUTE, None)
    if threads is None:
        threads = FileThreads()
        _ALL.add(threads)
        setattr(loop, _ATTRIBUTE, threads)
    return threads


def end_threads_of(loop: asyncio.AbstractEventLoop) -> None:
    """Ends the threads of a loop that is closed."""
    threads: FileThreads | None = getattr(loop, _ATTRIBUTE, None)
    if threads is not None:
        threads.end()


def _at_exit() -> None:
    for pool in list(_pools):
        pool.end()
    _join(list(_pooled))


def _before_fork() -> None:
    _changed.acquire()
    if threading.current_thread() not in _pooled:
        # What is begun meanwhile comes too.
        _changed.wait_for(lambda: not any(pool.unfinished for pool in _pools), FORK_SECONDS)


def _after_fork_in_parent() -> None:
    _changed.release()


def _after_fork_in_child() -> None:
    global _changed
    _changed = threading.Condition(threading.RLock())
    _pools.clear()
    _pooled.clear()
    for threads in list(_ALL):
        threads.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )

try:
    # As the threads of executors: while threads can still run.
    threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
except RuntimeError:
    pass  # The interpreter ends already.
