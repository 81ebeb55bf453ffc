"""A pool of threads as the executor: what waits for them, what programs do to it, its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import concurrent.futures._base as futures
import concurrent.futures.thread as pools
import gc
import os
import queue
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from support import children, loops
from support.protocols import PATIENCE
from support.ticks import pause

Loop = asyncio.AbstractEventLoop

AT_THE_END = Path(__file__).with_name("executor_at_the_end.py")
INTERRUPTED = Path(__file__).with_name("executor_interrupted.py")


def executor_of(loop: Loop) -> concurrent.futures.ThreadPoolExecutor:
    pool: concurrent.futures.ThreadPoolExecutor = loop._default_executor  # type: ignore[attr-defined]
    return pool


async def every_thread(loop: Loop) -> tuple[threading.Event, asyncio.Future[list[bool]]]:
    """Has every thread that there may be wait for the event."""
    await loop.run_in_executor(None, int)
    most = executor_of(loop)._max_workers
    go_on, begun = threading.Event(), threading.Barrier(most + 1)

    def work() -> bool:
        begun.wait(PATIENCE)
        return go_on.wait(PATIENCE)

    working = asyncio.gather(*(loop.run_in_executor(None, work) for _ in range(most)))
    begun.wait(PATIENCE)
    return go_on, working


async def test_the_class(loop: Loop) -> None:
    assert executor_of(loop) is None
    name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert name == "asyncio_0"
    pool = executor_of(loop)
    assert isinstance(pool, concurrent.futures.ThreadPoolExecutor)
    assert pool._max_workers == concurrent.futures.ThreadPoolExecutor()._max_workers
    assert [thread.name for thread in pool._threads] == ["asyncio_0"]


async def test_calls_that_wait_for_each_other(loop: Loop) -> None:
    """Each gets a thread of its own, also if others have become idle meanwhile."""
    for _ in range(5):
        go_on, working = await every_thread(loop)
        go_on.set()
        assert all(await working)
    pool = executor_of(loop)
    assert len(pool._threads) == pool._max_workers


async def test_a_program_that_waits_for_the_call_itself(loop: Loop) -> None:
    for _ in range(20):
        called = threading.Event()
        future = loop.run_in_executor(None, called.set)
        assert called.wait(PATIENCE)
        await future


async def test_a_long_queue_does_not_hold_up_the_loop(loop: Loop) -> None:
    """Calls that are all native never let go of the interpreter by themselves."""
    text = "x" * 1_000_000
    calls = [loop.run_in_executor(None, text.count, "y") for _ in range(1000)]
    while not calls[0].done():
        await asyncio.sleep(0)
    assert not calls[-1].done()
    assert await asyncio.gather(*calls) == [0] * 1000


async def test_what_is_cancelled_before_it_begins_is_not_called(loop: Loop) -> None:
    go_on, working = await every_thread(loop)
    called: list[int] = []
    futures = [loop.run_in_executor(None, called.append, number) for number in range(4)]
    futures[1].cancel()
    await pause(2)
    go_on.set()
    await working
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert sorted(called) == [0, 2, 3]
    assert [type(result) for result in results] == [
        *(type(None), asyncio.CancelledError),
        *(type(None), type(None)),
    ]


async def test_cancelled_while_it_is_called(loop: Loop) -> None:
    """It goes on, and nobody hears of it."""
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(PATIENCE)
        over.set()
        raise LookupError("nobody hears of it")

    future = loop.run_in_executor(None, work)
    assert begun.wait(PATIENCE)
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    go_on.set()
    assert over.wait(PATIENCE)
    await loop.run_in_executor(None, int)
    await pause(2)


async def test_set_by_hand(loop: Loop) -> None:
    told: list[Any] = []
    loop.set_exception_handler(lambda _, context: told.append(type(context["exception"])))
    go_on = threading.Event()
    future: asyncio.Future[Any] = loop.run_in_executor(None, go_on.wait, PATIENCE)
    future.set_result("by hand")
    go_on.set()
    while not told:
        await asyncio.sleep(0)
    assert future.result() == "by hand"
    assert told == [AssertionError]


async def test_shutdown_that_cancels(loop: Loop) -> None:
    go_on, working = await every_thread(loop)
    called: list[int] = []
    futures = [loop.run_in_executor(None, called.append, number) for number in range(3)]
    executor_of(loop).shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        loop.run_in_executor(None, int)
    # From Python 3.14 on at once, since this is the loop's own thread.
    assert [future.done() for future in futures] == [sys.version_info >= (3, 14)] * 3
    done, _ = await asyncio.wait(futures, timeout=PATIENCE)
    assert len(done) == 3
    assert all(future.cancelled() for future in futures)
    go_on.set()
    await working
    assert called == []


async def test_its_own_submit(loop: Loop) -> None:
    """Some programs use the executor that they find in the loop."""
    go_on, working = await every_thread(loop)
    pool = executor_of(loop)
    submitted = pool.submit(pow, 2, 5)
    future = loop.run_in_executor(None, pow, 2, 6)
    assert pool._work_queue.qsize() == 2
    assert not pool._work_queue.empty()
    go_on.set()
    await working
    assert submitted.result(PATIENCE) == 32
    assert await future == 64
    assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]
    assert pool._work_queue.empty()


async def test_a_call_after_the_interpreters_end_has_begun(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await loop.run_in_executor(None, int)
    monkeypatch.setattr(pools, "_shutdown", True)
    with pytest.raises(RuntimeError, match="after interpreter shutdown"):
        loop.run_in_executor(None, int)


class Recording(queue._PySimpleQueue):  # type: ignore[name-defined, misc]
    def __init__(self) -> None:
        super().__init__()
        self.items: list[Any] = []

    def put(self, item: Any, *_: Any) -> None:
        self.items.append(item)
        super().put(item)


async def test_cancelling_an_item_that_is_in_the_pool(loop: Loop) -> None:
    begun, go_on, called = threading.Event(), threading.Event(), []

    def work() -> str:
        begun.set()
        go_on.wait(PATIENCE)
        return "called"

    with pools.ThreadPoolExecutor(1) as pool:
        pool._work_queue = Recording()  # type: ignore[assignment]
        running = loop.run_in_executor(pool, work)
        queued = loop.run_in_executor(pool, called.append, 1)
        first, second = (item.future for item in pool._work_queue.items)  # type: ignore[attr-defined]
        assert begun.wait(PATIENCE)
        assert [first.cancel(), first.cancelled(), first.done()] == [False] * 3
        assert [second.cancel(), second.cancel()] == [True] * 2
        assert [second.cancelled(), second.done()] == [True] * 2
        go_on.set()
        assert await running == "called"
        await asyncio.wait([queued], timeout=PATIENCE)
        assert queued.cancelled()
        assert [first.cancel(), first.cancelled(), first.done()] == [False, False, True]
    assert called == []


class ByLength(queue.PriorityQueue):  # type: ignore[type-arg]
    """A queue of a program's own, which looks at what is to be called."""

    def put(self, item: Any, *_: Any) -> None:
        first = 0 if item is None else len(work_of(item)[0].__name__)
        super().put((first, id(item), item))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block, timeout)[-1]


def work_of(item: Any) -> Any:
    return item.task if sys.version_info >= (3, 14) else (item.fn, item.args, item.kwargs)


async def test_a_queue_of_the_programs_own(loop: Loop) -> None:
    go_on, order = threading.Event(), []

    def a() -> None:
        order.append("a")

    def longer() -> None:
        order.append("longer")

    with pools.ThreadPoolExecutor(1) as pool:
        pool._work_queue = ByLength()  # type: ignore[assignment]
        calls = [loop.run_in_executor(pool, work) for work in (go_on.wait, longer, a)]
        go_on.set()
        await asyncio.gather(*calls)
    assert order == ["a", "longer"]


async def test_calls_that_the_program_takes_out_of_the_queue(loop: Loop) -> None:
    """As it was done before `shutdown(cancel_futures=True)` was there."""
    go_on, working = await every_thread(loop)
    pool = executor_of(loop)
    calls = [loop.run_in_executor(None, int) for _ in range(3)]
    calls[0].cancel()
    await pause()
    taken = [pool._work_queue.get_nowait() for _ in calls]
    assert [work_of(item) for item in taken] == [(int, (), {})] * 3
    assert [item.future.cancelled() for item in taken] == [True, False, False]
    assert [item.future.done() for item in taken] == [True, False, False]
    for item in taken:
        item.future.cancel()
    await asyncio.wait(calls, timeout=PATIENCE)
    assert [call.cancelled() for call in calls] == [True] * 3
    go_on.set()
    await working


@pytest.mark.ours
async def test_no_future_that_nobody_looks_at(loop: Loop) -> None:
    go_on, working = await every_thread(loop)
    call = loop.run_in_executor(None, int)
    call.cancel()
    item = executor_of(loop)._work_queue.get_nowait()
    assert not isinstance(item.future, futures.Future)
    # asyncio tells it in the next tick.
    assert item.future.cancelled()
    go_on.set()
    await working


async def test_calls_wait_for_who_has_the_pools_lock(loop: Loop) -> None:
    await loop.run_in_executor(None, int)
    lock = executor_of(loop)._shutdown_lock
    is_waiting, calls = threading.Event(), []

    class Lock:
        def __enter__(self) -> None:
            is_waiting.set()
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    executor_of(loop)._shutdown_lock = Lock()  # type: ignore[assignment]
    thread = threading.Thread(target=lambda: calls.append(loop.run_in_executor(None, int)))
    with lock:
        thread.start()
        assert is_waiting.wait(PATIENCE)
        assert executor_of(loop)._work_queue.empty()
        assert calls == []
    thread.join(PATIENCE)
    assert await calls[0] == 0


async def test_no_thread_can_be_started(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call stays in the queue, and its error is nobody's."""
    called = threading.Event()

    def fail(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    def work() -> None:
        called.set()
        raise LookupError("nobody hears of it")

    with pools.ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            loop.run_in_executor(pool, work)
        monkeypatch.undo()
        await loop.run_in_executor(pool, int)
        assert called.is_set()
        await pause(2)


async def test_an_initializer_that_fails(loop: Loop) -> None:
    go_on = threading.Event()

    def fail() -> None:
        go_on.wait(PATIENCE)
        raise LookupError

    with pools.ThreadPoolExecutor(1, initializer=fail) as pool:
        futures = [loop.run_in_executor(pool, int) for _ in range(3)]
        go_on.set()
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(result) for result in results] == [pools.BrokenThreadPool] * 3
        with pytest.raises(pools.BrokenThreadPool):
            loop.run_in_executor(pool, int)


async def test_what_the_initializer_prepared_is_there(loop: Loop) -> None:
    local = threading.local()
    with pools.ThreadPoolExecutor(1, "own", setattr, (local, "number", 5)) as pool:
        number = await loop.run_in_executor(pool, lambda: local.number)
        assert number == 5
        assert [thread.name for thread in pool._threads] == ["own_0"]


def test_a_call_soon_threadsafe_that_raises(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The thread says so and goes on."""
    loop = loops.factory(kind)()
    ours = loop.call_soon_threadsafe

    def fail(*_: Any, **__: Any) -> asyncio.Handle:
        del loop.call_soon_threadsafe  # type: ignore[method-assign]
        raise LookupError("as the program's")

    try:
        with pools.ThreadPoolExecutor(1) as pool:
            loop.call_soon_threadsafe = fail  # type: ignore[method-assign, assignment]
            lost = loop.run_in_executor(pool, int)
            pool.submit(int).result(PATIENCE)
            assert loop.call_soon_threadsafe == ours
            assert loop.run_until_complete(loop.run_in_executor(pool, abs, -1)) == 1
            assert not lost.done()
            [record] = [it for it in caplog.records if it.name == "concurrent.futures"]
            assert record.getMessage().startswith("exception calling callback for <Future ")
            assert record.exc_info
            assert record.exc_info[0] is LookupError
    finally:
        loop.close()


def test_a_loop_with_its_own_call_soon_threadsafe(kind: str) -> None:
    seen: list[Any] = []
    loop = loops.factory(kind)()
    ours = loop.call_soon_threadsafe

    def own(callback: Any, *args: Any, **keywords: Any) -> asyncio.Handle:
        seen.append(callback)
        return ours(callback, *args, **keywords)

    loop.call_soon_threadsafe = own  # type: ignore[method-assign]
    try:
        assert loop.run_until_complete(loop.run_in_executor(None, abs, -1)) == 1
        assert len(seen) == 1
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


class Result:
    pass


async def test_an_idle_thread_keeps_nothing(loop: Loop) -> None:
    def work(argument: Result) -> Result:
        return Result()

    class Error(Exception):
        pass

    def fail(argument: Result) -> None:
        raise Error

    argument = Result()
    gone = [weakref.ref(argument)]
    with pools.ThreadPoolExecutor(1) as pool:
        future = loop.run_in_executor(pool, work, argument)
        gone += [weakref.ref(future), weakref.ref(await future)]
        failed = loop.run_in_executor(pool, fail, argument)
        gone.append(weakref.ref(failed))
        await asyncio.wait([failed])
        error: Any = failed.exception()
        gone.append(weakref.ref(error))
        del future, failed, argument, error
        # The thread has let go of a call before it says that it has nothing to do.
        assert pool._idle_semaphore.acquire(timeout=PATIENCE)
        await pause()
        assert [it() for it in gone] == [None] * 5


def test_a_loop_that_nobody_has_while_a_call_is_under_way(kind: str) -> None:
    """Its outcome arrives when nobody runs the loop any more: none of it may stay."""
    go_on = threading.Event()
    loop: Any = loops.factory(kind)()

    async def begin() -> Any:
        return asyncio.get_running_loop().run_in_executor(None, go_on.wait, PATIENCE)

    gone = [weakref.ref(loop.run_until_complete(begin())), weakref.ref(loop)]
    [thread] = executor_of(loop)._threads
    go_on.set()
    # Idle: the outcome is on its way.
    assert executor_of(loop)._idle_semaphore.acquire(timeout=PATIENCE)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()
    assert [it() for it in gone] == [None, None]
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_loop_that_is_closed_meanwhile(new_loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    loop = new_loop()
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(PATIENCE)

    async def begin() -> asyncio.Future[None]:
        return loop.run_in_executor(None, work)

    future = loop.run_until_complete(begin())
    threads = list(executor_of(loop)._threads)
    assert begun.wait(PATIENCE)
    loop.close()
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert not future.done()
    assert caplog.records == []


def test_threads_of_a_loop_that_nobody_has(new_loop: Any, kind: str) -> None:
    loop = loops.factory(kind)()
    loop.run_until_complete(loop.run_in_executor(None, int))
    threads = list(executor_of(loop)._threads)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


async def test_many_at_once_from_all_sides(loop: Loop) -> None:
    """Calls that end at once, that raise, that are cancelled, and more of the executor's own."""

    def work(number: int) -> int:
        if number % 7 == 0:
            raise LookupError(number)
        if number % 5 == 0:
            time.sleep(0)
        return number

    for round_ in range(10):
        numbers = range(round_ * 100, round_ * 100 + 100)
        futures = [loop.run_in_executor(None, work, number) for number in numbers]
        pool = executor_of(loop)
        submitted = [pool.submit(work, number) for number in numbers]
        cancelled = [future for future in futures[::11] if future.cancel()]
        results = await asyncio.gather(*futures, return_exceptions=True)
        for number, future, result in zip(numbers, futures, results, strict=True):
            if future in cancelled:
                assert isinstance(result, asyncio.CancelledError)
            elif number % 7 == 0:
                assert isinstance(result, LookupError)
            else:
                assert result == number
        for number, call in zip(numbers, submitted, strict=True):
            if number % 7 == 0:
                assert isinstance(call.exception(PATIENCE), LookupError)
            else:
                assert call.result(PATIENCE) == number


def test_the_interpreter_waits_for_the_calls(kind: str) -> None:
    assert children.run(AT_THE_END, kind, timeout=20) == "called\nafter the end\n" * 2


def test_an_interrupted_end(kind: str) -> None:
    """Up to Python 3.13 it unwinds the threads: only frames of Python may be there."""
    assert children.run(INTERRUPTED, kind, timeout=30) == "interrupted\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_fork_while_threads_wait(loop: Loop, kind: str) -> None:
    """The child has no such threads, and its loop gets others."""
    for _ in range(3):
        await loop.run_in_executor(None, int)
        child = os.fork()
        if not child:
            code = 1
            try:
                asyncio._set_running_loop(None)
                other = loops.factory(kind)()
                code = other.run_until_complete(other.run_in_executor(None, abs, -7))
            finally:
                os._exit(code)
        status = await loop.run_in_executor(None, os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status[1]) == 7
