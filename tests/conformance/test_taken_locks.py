"""What `async with lock` awaits while the lock is taken: looked at, disturbed, dropped.

It is Python's coroutine in asyncio's classes, and mostly a native one in ours. Each test runs on
both, before the switch and after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import sys
import weakref
from collections import deque
from typing import Any

import pytest
from support.ticks import pause

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop
KINDS = ["Lock", "Semaphore", "BoundedSemaphore", "Condition"]


@pytest.fixture(params=KINDS)
def new(switched: str, request: pytest.FixtureRequest) -> Any:
    return getattr(asyncio, request.param)


async def taken_by(new: Any) -> Any:
    lock = new()
    await lock.acquire()
    return lock


def waiters(lock: Any) -> list[Any]:
    """A condition's are those of its lock."""
    return list(getattr(lock, "_lock", lock)._waiters or ())


async def inside(lock: Any, events: list[str], name: str) -> None:
    try:
        async with lock:
            events.append(f"{name} in")
            await asyncio.sleep(0)
        events.append(f"{name} out")
    except BaseException as error:
        events.append(f"{name} {type(error).__name__}")
        raise


async def ended(*tasks: asyncio.Task[Any]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_first_come_first_served(loop: Loop, new: Any) -> None:
    lock = await taken_by(new)
    events: list[str] = []
    tasks = [loop.create_task(inside(lock, events, name)) for name in "abc"]
    await pause()
    assert len(waiters(lock)) == 3
    lock.release()
    await ended(*tasks)
    assert events == ["a in", "a out", "b in", "b out", "c in", "c out"]
    assert not lock.locked()
    assert not waiters(lock)


async def test_looked_at_while_it_waits(loop: Loop, new: Any) -> None:
    lock = await taken_by(new)
    entering = lock.__aenter__()
    task = loop.create_task(asyncio.wait_for(entering, None))
    await pause(2)
    assert inspect.getcoroutinestate(entering) == inspect.CORO_SUSPENDED
    assert entering.cr_await is not None
    assert entering.cr_frame.f_code.co_flags & inspect.CO_COROUTINE
    assert entering.cr_frame.f_lasti > 0
    assert not entering.cr_running
    assert len(waiters(lock)) == 1
    lock.release()
    await task
    assert lock.locked()
    assert not waiters(lock)


async def test_looked_at_when_it_is_woken(loop: Loop, new: Any) -> None:
    """What looks must not take the lock."""
    lock = await taken_by(new)
    entering = lock.__aenter__()
    task = loop.create_task(asyncio.wait_for(entering, None))
    await pause(2)
    lock.release()
    assert inspect.getcoroutinestate(entering) == inspect.CORO_SUSPENDED
    assert not task.done()
    await task
    assert inspect.getcoroutinestate(entering) == inspect.CORO_CLOSED
    assert lock.locked()
    assert not waiters(lock)


async def test_cancelled_while_it_waits(loop: Loop, new: Any) -> None:
    lock = await taken_by(new)
    events: list[str] = []
    tasks = [loop.create_task(inside(lock, events, name)) for name in "abc"]
    await pause()
    tasks[1].cancel()
    await pause(2)
    assert events == ["b CancelledError"]
    assert len(waiters(lock)) == 2
    lock.release()
    await ended(*tasks)
    assert events == ["b CancelledError", "a in", "a out", "c in", "c out"]


@pytest.mark.parametrize("is_released_first", [True, False])
async def test_cancelled_when_it_is_woken(loop: Loop, new: Any, is_released_first: bool) -> None:
    """The next one gets it."""
    lock = await taken_by(new)
    events: list[str] = []
    tasks = [loop.create_task(inside(lock, events, name)) for name in "ab"]
    await pause()
    if is_released_first:
        lock.release()
    tasks[0].cancel()
    if not is_released_first:
        lock.release()
    await ended(*tasks)
    assert events == ["a CancelledError", "b in", "b out"]
    assert not lock.locked()
    assert not waiters(lock)


async def test_disturbed(loop: Loop, new: Any) -> None:
    lock = await taken_by(new)
    for disturb in (
        lambda entering: entering.throw(KeyError("thrown")),
        lambda entering: entering.close(),
        # The future it has given is not done.
        lambda entering: entering.send(None),
    ):
        entering = lock.__aenter__()
        waiter = entering.send(None)
        assert waiters(lock) == [waiter]
        assert waiter._asyncio_future_blocking
        with pytest.raises((KeyError, RuntimeError)) as caught:
            disturb(entering)
            raise KeyError("closed")
        message = str(caught.value)
        assert message in ("'thrown'", "'closed'", "await wasn't used with future")
        assert not waiters(lock)
        assert inspect.getcoroutinestate(entering) == inspect.CORO_CLOSED
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            entering.send(None)
    assert lock.locked()


async def test_gone_on_with_too_early(loop: Loop, new: Any) -> None:
    """The future is given once more, if the first time was noted."""
    lock = await taken_by(new)
    entering = lock.__aenter__()
    waiter = entering.send(None)
    waiter._asyncio_future_blocking = False
    assert entering.send(None) is waiter
    lock.release()
    with pytest.raises(StopIteration):
        entering.send(None)
    assert lock.locked()


async def test_sent_something(loop: Loop, new: Any) -> None:
    lock = await taken_by(new)
    entering = lock.__aenter__()
    waiter = entering.send(None)
    lock.release()
    with pytest.raises(StopIteration):
        entering.send("ignored")
    assert waiter.done()
    assert lock.locked()


async def test_awaited_twice(loop: Loop, new: Any) -> None:
    lock = await taken_by(new)
    entering = lock.__aenter__()

    async def wait() -> None:
        await entering

    first = loop.create_task(wait())
    await pause()
    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        await wait()
    lock.release()
    await first
    assert lock.locked()


async def test_whose_future_fails(loop: Loop, new: Any) -> None:
    lock = await taken_by(new)
    events: list[str] = []
    task = loop.create_task(inside(lock, events, "a"))
    await pause()
    (waiter,) = waiters(lock)
    waiter.set_exception(KeyError("failed"))
    with pytest.raises(KeyError, match="failed") as caught:
        await task
    names = [entry.name for entry in caught.traceback]
    assert "inside" in names
    assert events == ["a KeyError"]
    assert not waiters(lock)


async def test_dropped(loop: Loop, new: Any, recwarn: pytest.WarningsRecorder) -> None:
    lock = await taken_by(new)
    for _ in range(3):
        entering = lock.__aenter__()
        entering.send(None)
        assert waiters(lock)
        del entering
        gc.collect()
        assert not waiters(lock)
    assert lock.locked()
    assert not recwarn.list


async def test_dropped_in_a_cycle(loop: Loop, new: Any, recwarn: pytest.WarningsRecorder) -> None:
    left = []

    class Noted(deque[Any]):
        def remove(self, waiter: Any) -> None:
            super().remove(waiter)
            left.append(len(self))

    lock = await taken_by(new)
    getattr(lock, "_lock", lock)._waiters = Noted()
    entering = lock.__aenter__()
    entering.send(None).entering = entering
    gone = weakref.ref(lock)
    del lock, entering
    gc.collect()
    assert left == [0]
    assert gone() is None
    assert not recwarn.list


async def test_of_another_loop(loop: Loop, new: Any) -> None:
    lock = await taken_by(new)
    task = loop.create_task(inside(lock, [], "a"))
    await pause()

    def elsewhere() -> None:
        asyncio.run(lock.__aenter__())

    with pytest.raises(RuntimeError, match="is bound to a different event loop"):
        await loop.run_in_executor(None, elsewhere)
    assert len(waiters(lock)) == 1
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio has call graphs since 3.14")
async def test_in_a_call_graph(loop: Loop, new: Any) -> None:
    lock = await taken_by(new)
    task = loop.create_task(inside(lock, [], "a"))
    await pause()
    graph = asyncio.format_call_graph(task)  # type: ignore[attr-defined]
    assert "inside()" in graph
    assert "locks.py" in graph
    lock.release()
    await task
