"""`Condition`, asyncio's and ours: order, exceptions, and cancellations wherever it waits."""

from __future__ import annotations

import asyncio
import copy
import gc
import sys
import weakref
from typing import Any
from unittest import mock

import pytest
from support.protocols import PATIENCE
from support.ticks import pause

Loop = asyncio.AbstractEventLoop

# Of a wait that ends by an exception: whether another waiter is woken for it.
PASSES_ON = hasattr(asyncio.Condition, "_notify")


@pytest.fixture
def condition(switched: str) -> asyncio.Condition:
    return asyncio.Condition()


async def waiting(condition: asyncio.Condition, seen: list[Any], name: Any) -> None:
    async with condition:
        seen.append(("result", name, await condition.wait()))
        assert condition.locked()


async def several(condition: asyncio.Condition, seen: list[Any], count: int) -> list[Any]:
    """Tasks that wait."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(waiting(condition, seen, number)) for number in range(count)]
    await pause(3)
    assert len(condition._waiters) == count  # type: ignore[attr-defined]
    assert not condition.locked()
    return tasks


# Who is woken.


async def test_in_the_order_of_waiting(loop: Loop, condition: asyncio.Condition) -> None:
    seen: list[Any] = []
    tasks = await several(condition, seen, 5)
    for number, woken in ((0, 0), (-3, 0), (1, 1), (2, 3)):
        async with condition:
            condition.notify(number)
            await pause(2)
            assert len(seen) <= woken  # Not before the lock is given back.
        await pause(8)
        assert seen == [("result", name, True) for name in range(woken)]
    async with condition:
        condition.notify_all()
        # Who is woken already is passed over.
        condition.notify()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    assert [name for _, name, _ in seen] == list(range(5))
    assert not condition.locked()
    assert repr(condition).endswith("[unlocked]>")


@pytest.mark.parametrize("number", [1.5, True, 2**80, "many"])
async def test_numbers(loop: Loop, condition: Any, number: Any) -> None:
    seen: list[Any] = []
    tasks = await several(condition, seen, 3)
    await condition.acquire()
    if number == "many":
        with pytest.raises(TypeError):
            condition.notify(number)
        with pytest.raises(TypeError):
            condition.notify(None)
    else:
        condition.notify(n=number)
    condition.release()
    await pause(8)
    assert len(seen) == {1.5: 2, True: 1, 2**80: 3, "many": 0}[number]
    await end(condition, tasks)


async def end(condition: asyncio.Condition, tasks: list[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=PATIENCE)
    assert all(task.done() for task in tasks)
    assert not condition._waiters  # type: ignore[attr-defined]
    assert not condition.locked()


async def test_who_waits_notifies(loop: Loop, condition: asyncio.Condition) -> None:
    """Each wakes the next."""
    seen: list[int] = []

    async def one(number: int) -> None:
        async with condition:
            await condition.wait()
            seen.append(number)
            condition.notify()
            await pause()
            condition.notify(0)

    tasks = [loop.create_task(one(number)) for number in range(5)]
    await pause(2)
    async with condition:
        condition.notify()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    assert seen == list(range(5))


async def test_without_the_lock(loop: Loop, condition: asyncio.Condition) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^cannot wait on un-acquired lock$"):
            await condition.wait()
        for notify in (condition.notify, condition.notify_all):
            with pytest.raises(RuntimeError, match=r"^cannot notify on un-acquired lock$"):
                notify()
        with pytest.raises(RuntimeError, match=r"^Lock is not acquired\.$"):
            condition.release()
        # It makes no difference whether there is a loop yet.
        tasks = await several(condition, [], 1)
        await end(condition, tasks)


async def test_another_loop(loop: Loop, condition: Any) -> None:
    """The lock is as it was."""
    await end(condition, await several(condition, [], 1))
    condition._loop = object()
    async with condition:
        with pytest.raises(RuntimeError, match="is bound to a different event loop"):
            await condition.wait()
        assert condition.locked()
    assert not condition._waiters


# `wait_for`.


async def test_wait_for(loop: Loop, condition: asyncio.Condition) -> None:
    values: list[int] = []

    async def wait() -> Any:
        async with condition:
            return await condition.wait_for(lambda: len(values) > 2 and f"values {values}")

    task = loop.create_task(wait())
    for value in range(3):
        await pause(4)
        values.append(value)
        async with condition:
            condition.notify_all()
    assert await asyncio.wait_for(task, PATIENCE) == "values [0, 1, 2]"


@pytest.mark.parametrize("when", [0, 1, 2])
async def test_predicate_raises(loop: Loop, condition: asyncio.Condition, when: int) -> None:
    calls = 0

    def predicate() -> bool:
        nonlocal calls
        calls += 1
        if calls > when:
            raise KeyError("predicate")
        return False

    async def wait() -> None:
        async with condition:
            try:
                await condition.wait_for(predicate)
            finally:
                assert condition.locked()

    task = loop.create_task(wait())
    for _ in range(when):
        await pause(3)
        async with condition:
            condition.notify()
    with pytest.raises(KeyError, match="predicate"):
        await asyncio.wait_for(task, PATIENCE)
    assert not condition.locked()
    assert not condition._waiters  # type: ignore[attr-defined]


# Cancellations.


async def test_cancelled_while_waiting(loop: Loop, condition: asyncio.Condition) -> None:
    seen: list[Any] = []
    first, second = await several(condition, seen, 2)
    first.cancel()
    await asyncio.wait([first], timeout=PATIENCE)
    assert first.cancelled()
    await pause(4)
    # "Spurious", which the release of Python decides.
    assert seen == ([("result", 1, True)] if PASSES_ON else [])
    await end(condition, [second])


async def test_cancelled_when_woken(loop: Loop, condition: asyncio.Condition) -> None:
    """In the same tick: the wait ends by its result or by the exception, and the lock is taken."""
    seen: list[Any] = []
    first, second = await several(condition, seen, 2)
    async with condition:
        condition.notify()
        first.cancel()
        await pause(2)
        assert not first.done()
    await asyncio.wait([first], timeout=PATIENCE)
    assert first.cancelled()
    await pause(4)
    assert seen == ([("result", 1, True)] if PASSES_ON else [])
    await end(condition, [second])


@pytest.mark.parametrize("while_waiting", [False, True])
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancelled_while_it_wants_the_lock(
    loop: Loop, switched: str, while_waiting: bool, times: int
) -> None:
    """Which it has in the end, however often it is cancelled; beside asyncio's own code."""

    async def outcome(condition: Any) -> list[Any]:
        seen: list[Any] = []

        async def wait() -> None:
            async with condition:
                try:
                    await condition.wait()
                except asyncio.CancelledError as error:
                    chain: Any = error
                    while chain is not None:
                        seen.append(repr(chain))
                        chain = chain.__context__
                    seen.append(condition.locked())
                    raise

        task = loop.create_task(wait())
        (other,) = [loop.create_task(waiting(condition, seen, "other"))]
        await pause(3)
        await condition.acquire()
        if while_waiting:
            task.cancel("waiting")
        else:
            condition.notify()
        await pause(2)
        for number in range(times):
            task.cancel(f"message {number}")
            await pause(2)
            assert not task.done()
        seen.append(len(condition._waiters))
        condition.release()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.cancelled()
        await pause(3)
        seen.append(len(condition._waiters))
        await end(condition, [other])
        return seen

    class Derived(asyncio.Condition):
        """Is asyncio's, whatever stands behind the name."""

    ours = await outcome(asyncio.Condition())
    assert ours == await outcome(Derived())
    assert ours[1] != 0


@pytest.mark.parametrize("locked", [False, True])
async def test_closed(loop: Loop, condition: asyncio.Condition, locked: bool) -> None:
    """By hand, while it waits."""
    await end(condition, await several(condition, [], 1))
    await condition.acquire()
    coroutine: Any = condition.wait()
    coroutine.send(None)
    assert not condition.locked()
    if locked:
        await condition.acquire()
        with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
            coroutine.close()
        condition.release()
    else:
        coroutine.close()
        assert condition.locked()
        condition.release()
    assert not condition._waiters  # type: ignore[attr-defined]


async def test_other_exceptions(loop: Loop, condition: asyncio.Condition) -> None:
    await condition.acquire()
    coroutine: Any = condition.wait()
    coroutine.send(None)
    error = KeyError("thrown")
    with pytest.raises(KeyError) as caught:
        coroutine.throw(error)
    assert caught.value is error
    assert error.__context__ is None
    assert condition.locked()
    assert not condition._waiters  # type: ignore[attr-defined]


async def test_cancelled_before_the_lock(loop: Loop, condition: asyncio.Condition) -> None:
    await condition.acquire()
    entering = loop.create_task(waiting(condition, [], 0))
    await pause()
    entering.cancel()
    await asyncio.wait([entering], timeout=PATIENCE)
    condition.release()
    await end(condition, [entering])


async def test_nothing_is_left_of_a_cancelled_wait(loop: Loop, condition: Any) -> None:
    """Not even for the cycle collector."""

    class Held:
        pass

    held = Held()
    gone = weakref.ref(held)

    async def wait(held: Any) -> None:
        async with condition:
            await condition.wait()

    gc.collect()
    gc.disable()
    try:
        for locked in (False, True):
            task = loop.create_task(wait(held))
            await pause(2)
            if locked:
                await condition.acquire()
                condition.notify()
                await pause(2)
            task.cancel()
            await pause()
            if locked:
                condition.release()
            await asyncio.wait([task], timeout=PATIENCE)
            assert task.cancelled()
            del task
        await pause(2)
        del held
        assert gone() is None
    finally:
        gc.enable()


# Locks.


class OfAProgram(asyncio.Lock):
    """Says what is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    async def acquire(self) -> Any:
        self.calls.append("acquire")
        return await super().acquire()

    def release(self) -> None:
        self.calls.append("release")
        super().release()


async def test_a_lock_of_a_program(loop: Loop, switched: str) -> None:
    lock = OfAProgram()
    condition = asyncio.Condition(lock)
    assert condition._lock is lock  # type: ignore[attr-defined]
    seen: list[Any] = []
    for _ in range(2):
        lock.calls.clear()
        (task,) = await several(condition, seen, 1)
        async with condition:
            condition.notify()
        await asyncio.wait_for(task, PATIENCE)
        assert lock.calls == ["acquire", "release"] * 3
    assert len(seen) == 2


async def test_one_lock_of_several(loop: Loop, switched: str) -> None:
    lock = asyncio.Lock()
    full, empty = asyncio.Condition(lock), asyncio.Condition(lock=lock)
    await lock.acquire()
    assert full.locked()
    full.notify()
    empty.release()
    assert not full.locked()
    seen: list[Any] = []
    tasks = [*(await several(full, seen, 1)), *(await several(empty, seen, 1))]
    async with lock:
        full.notify_all()
        empty.notify_all()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    assert len(seen) == 2


async def test_a_mock(loop: Loop, switched: str) -> None:
    lock = mock.Mock(spec=["locked", "acquire", "release"])
    lock.acquire = mock.AsyncMock(return_value=True)
    condition: Any = asyncio.Condition(lock)
    waiting = loop.create_task(condition.wait())
    await pause()
    lock.release.assert_called_once_with()
    lock.acquire.assert_not_called()
    condition.notify()
    assert await asyncio.wait_for(waiting, PATIENCE) is True
    lock.acquire.assert_awaited_once_with()
    lock.locked.return_value = False
    with pytest.raises(RuntimeError, match="cannot notify"):
        condition.notify()
    async with condition as nothing:
        assert nothing is None
    assert lock.acquire.await_count == lock.release.call_count == 2


@pytest.mark.parametrize("method", ["release", "acquire"])
async def test_a_lock_that_fails(loop: Loop, switched: str, method: str) -> None:
    error = KeyError(method)
    lock = mock.Mock(spec=["locked", "acquire", "release"])
    lock.acquire = mock.AsyncMock(return_value=True)
    getattr(lock, method).side_effect = error
    condition: Any = asyncio.Condition(lock)
    task = loop.create_task(condition.wait())
    await pause(2)
    if method == "acquire":
        assert len(condition._waiters) == 1
        condition.notify()
    with pytest.raises(KeyError) as caught:
        await asyncio.wait_for(task, PATIENCE)
    assert caught.value is error
    error.__traceback__ = None
    assert not condition._waiters


async def test_methods_replaced_on_the_object(loop: Loop, condition: Any) -> None:
    """The three that are the lock's are attributes in asyncio, which its methods look at."""
    await end(condition, await several(condition, [], 1))
    acquire = mock.AsyncMock(side_effect=condition.acquire)
    release = mock.Mock(side_effect=condition.release)
    condition.acquire, condition.release = acquire, release
    async with condition:
        acquire.assert_awaited_once_with()
    release.assert_called_once_with()
    (task,) = await several(condition, [], 1)
    condition.locked = lambda: True
    condition.notify()
    await asyncio.wait_for(task, PATIENCE)
    assert acquire.await_count == release.call_count == 3


# What the class is.


def test_arguments(switched: str) -> None:
    condition: Any = asyncio.Condition
    with pytest.raises(TypeError, match=r"__init__\(\) takes"):
        condition(None, 1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'value'"):
        condition(value=1)
    with pytest.raises(AttributeError, match="locked"):
        condition(object())
    if sys.version_info < (3, 11):
        with pytest.raises(TypeError, match="loop"):
            condition(loop=1)


async def test_derived(loop: Loop, switched: str) -> None:
    calls = []

    class Derived(asyncio.Condition):
        async def wait(self) -> Any:
            calls.append("wait")
            return await super().wait()

        def notify(self, n: int = 1) -> None:
            calls.append(f"notify {n}")
            super().notify(n)

    condition = Derived()
    task = loop.create_task(wait_for_none(condition))
    await pause(2)
    async with condition:
        condition.notify_all()
    assert await asyncio.wait_for(task, PATIENCE) is None
    assert calls == ["wait", "notify 1"]


async def wait_for_none(condition: asyncio.Condition) -> None:
    async with condition:
        await condition.wait()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
async def test_copied(loop: Loop, condition: Any, copied: Any) -> None:
    """A deep copy has a lock of its own."""
    condition.mine = "mine"
    other = copied(condition)
    assert type(other) is type(condition)
    assert other.mine == "mine"
    assert (other._lock is condition._lock) == (copied is copy.copy)
    async with condition:
        assert other.locked() == (copied is copy.copy)
    (task,) = await several(other, [], 1)
    async with other:
        other.notify()
    await asyncio.wait_for(task, PATIENCE)


async def test_barrier(loop: Loop, switched: str) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("asyncio has no barriers")
    barrier = asyncio.Barrier(3)
    tasks = [loop.create_task(barrier.wait()) for _ in range(6)]
    results = await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    assert sorted(results) == [0, 0, 1, 1, 2, 2]
    task = loop.create_task(barrier.wait())
    await pause()
    await barrier.abort()
    with pytest.raises(asyncio.BrokenBarrierError):
        await task
