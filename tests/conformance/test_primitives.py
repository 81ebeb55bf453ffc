"""Our locks, queues and timeouts: what is particular about them.

That they do what asyncio's do is shown by CPython's own tests, which run on them too, and by
`test_random_primitives.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import math
import sys
import weakref
from collections.abc import Callable, Iterator
from types import MethodDescriptorType
from typing import Any
from unittest import mock

import pytest
from support.loops import STOCK_ONLY
from support.primitives import behind_asyncios_names
from support.protocols import PATIENCE
from support.ticks import pause

if STOCK_ONLY:
    pytest.skip("without oxlip", allow_module_level=True)

import oxlip
from oxlip import _native, _switch, _timeouts

Loop = asyncio.AbstractEventLoop
# Before the switch and after it.
STOCK = list(_switch.REPLACEMENTS)
OURS = list(_switch.REPLACEMENTS.values())


@pytest.fixture
def switched() -> Iterator[None]:
    with behind_asyncios_names():
        yield


# What asyncio's classes make.


@pytest.mark.parametrize("stock", STOCK)
async def test_asyncios_classes_make_ours(loop: Loop, stock: Any, switched: None) -> None:
    """They stay what they are, so what was made, derived or imported before fits."""
    arguments = (None,) if stock.__name__ == "Timeout" else ()
    made = stock(*arguments)
    assert type(made) is _switch.REPLACEMENTS[stock]
    assert isinstance(made, stock)
    assert getattr(asyncio, stock.__name__) is stock

    class Derived(stock):  # type: ignore[misc]
        def __init__(self, *arguments: Any, more: int) -> None:
            super().__init__(*arguments)
            self.more = more

    derived = Derived(*arguments, more=1)
    assert type(derived) is Derived
    assert derived.more == 1
    assert not isinstance(derived, _switch.REPLACEMENTS[stock])


async def test_what_was_made_before_stays(loop: Loop) -> None:
    before = asyncio.Lock()
    with behind_asyncios_names():
        assert isinstance(before, asyncio.Lock)
        async with before:
            assert before.locked()
    assert type(asyncio.Lock()) is asyncio.Lock
    assert asyncio.Queue(3).maxsize == 3


async def test_classes_that_derive_are_asyncios(loop: Loop, switched: None) -> None:
    for stock in (asyncio.PriorityQueue, asyncio.LifoQueue):
        queue: asyncio.Queue[int] = stock(2)
        assert type(queue) is stock
        await queue.put(1)
        await queue.put(0)
        assert queue.full()
        assert await queue.get() == 0

    class Mixed(asyncio.Queue[int], dict[str, int]):
        pass

    mixed = Mixed(1)
    mixed["a"] = 1
    mixed.put_nowait(1)
    assert mixed.get_nowait() == 1


async def test_generic_classes(loop: Loop, switched: None) -> None:
    queue = asyncio.Queue[int](5)
    assert type(queue) is oxlip.Queue
    assert queue.maxsize == 5


def test_arguments_as_before(switched: None) -> None:
    kinds = (asyncio.Queue, asyncio.PriorityQueue, asyncio.Semaphore, asyncio.Lock, asyncio.Event)
    kinds = (*kinds, asyncio.Condition)
    for stock in kinds:
        own, *others = inspect.signature(stock.__init__).parameters.values()  # type: ignore[misc]
        assert own.name == "self"
        assert list(inspect.signature(stock).parameters.values()) == others
    with pytest.raises(TypeError):
        asyncio.Queue(1, 2)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=">= 0"):
        asyncio.BoundedSemaphore(-1)
    derived = [type("Derived", (cls,), {}) for cls in (oxlip.Lock, oxlip.Event)]
    for without in (asyncio.Lock, asyncio.Event, oxlip.Lock, oxlip.Event, *derived):
        with pytest.raises(TypeError, match="takes 1 positional argument"):
            without(1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unexpected keyword argument 'value'"):
            without(value=1)  # type: ignore[call-arg]


async def test_calls_are_coroutines(loop: Loop) -> None:
    """To asyncio, to `inspect` and to mocks."""
    lock: Any = oxlip.Lock()
    methods = (oxlip.Queue.get, oxlip.Queue.put, oxlip.Semaphore.acquire, oxlip.Event.wait)
    methods = (*methods, oxlip.Condition.wait, oxlip.Condition.wait_for)
    for method in (lock.acquire, *methods):
        assert inspect.iscoroutinefunction(method)
    assert isinstance(mock.MagicMock(spec=oxlip.Lock).acquire, mock.AsyncMock)
    assert isinstance(mock.Mock(spec=oxlip.Lock), asyncio.Lock)
    await lock.acquire()
    task = loop.create_task(lock.acquire())
    await pause()
    assert "Lock.acquire()" in repr(task)
    lock.release()
    assert await task is True


@pytest.mark.parametrize("ours", [*OURS, oxlip.StreamReader, oxlip.StreamWriter])
def test_native_methods_are_of_the_class_itself(ours: Any) -> None:
    """The interpreter calls those fastest."""
    halves = [cls for cls in ours.__mro__ if cls.__module__ == "oxlip._native"]
    native = {
        name
        for half in halves
        for name, value in vars(half).items()
        if type(value) is MethodDescriptorType
    }
    assert native
    assert all(vars(ours)[name].__objclass__ is ours for name in native)
    with pytest.raises(TypeError, match="does not derive from"):
        _native.adopt_methods(int, halves[0])


# `async with`.


@pytest.mark.parametrize(
    "make", [oxlip.Lock, oxlip.Semaphore, oxlip.BoundedSemaphore, oxlip.Condition]
)
async def test_in_a_context(loop: Loop, make: Callable[[], Any]) -> None:
    free = make()
    async with free as nothing:
        assert nothing is None
        assert free.locked()
        waiting = loop.create_task(free.__aenter__())
        await pause()
    assert await waiting is None
    with pytest.raises(KeyError):
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_exit(free)
            raise KeyError
    assert not free.locked()


async def test_what_is_awaited_late(loop: Loop) -> None:
    """The lock has become free meanwhile, and nobody would wake who waited for it."""
    lock = oxlip.Lock()
    await lock.acquire()
    entering = lock.__aenter__()
    lock.release()
    assert await asyncio.wait_for(entering, PATIENCE) is None
    assert lock.locked()


async def test_nothing_to_wait_for(loop: Loop) -> None:
    """What is then awaited has a result at once, wherever it is awaited."""
    semaphore = oxlip.Semaphore(3)
    assert await asyncio.wait_for(semaphore.__aenter__(), PATIENCE) is None
    assert await asyncio.gather(semaphore.__aenter__(), semaphore.__aenter__()) == [None, None]
    assert list(semaphore.__aexit__(None, None, None).__await__()) == []
    assert semaphore._value == 1


async def test_derived_classes_get_asyncios_methods(loop: Loop) -> None:
    calls = []

    def derived(ours: Any) -> Any:
        class Derived(ours):  # type: ignore[misc]
            async def acquire(self) -> Any:
                calls.append("acquire")
                return await super().acquire()

            def release(self) -> None:
                calls.append("release")
                super().release()

        return Derived

    for free in (derived(oxlip.Lock)(), derived(oxlip.Semaphore)()):
        async with free:
            assert free.locked()
        assert not free.locked()
    assert calls == ["acquire", "release"] * 2

    class Numbers(oxlip.Queue[int]):
        def _init(self, maxsize: int) -> None:
            self.numbers: list[int] = []
            self._queue = self.numbers

        def _put(self, item: int) -> None:
            self.numbers.insert(0, item)

        def _get(self) -> int:
            return self.numbers.pop(0)

    class Named(oxlip.Event):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def _get_loop(self) -> Loop:
            calls.append(self.name)
            return super()._get_loop()  # type: ignore[misc, no-any-return]

    event = Named("ready")
    waiting = loop.create_task(event.wait())
    await pause()
    assert calls.pop() == "ready"
    event.set()
    assert await waiting is True

    queue = Numbers(2)
    await queue.put(1)
    queue.put_nowait(2)
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait(3)
    assert [queue.get_nowait(), await queue.get()] == [2, 1]
    queue.task_done()


# Attributes.


async def test_attributes_are_asyncios(loop: Loop) -> None:
    lock: Any = oxlip.Lock()
    assert (lock._waiters, lock._loop, lock._locked) == (None, None, False)
    lock._locked = True
    task = loop.create_task(lock.acquire())
    await pause()
    assert len(lock._waiters) == 1
    assert lock._loop is loop
    assert repr(lock).endswith("[locked, waiters:1]>")
    lock.release()
    await task

    semaphore: Any = oxlip.BoundedSemaphore(2)
    assert (semaphore._value, semaphore._bound_value) == (2, 2)
    semaphore._value = 0
    assert semaphore.locked()
    assert not hasattr(oxlip.Semaphore(), "_bound_value")

    event: Any = oxlip.Event()
    assert (list(event._waiters), event._loop, event._value) == ([], None, False)
    assert event._waiters is event._waiters
    condition: Any = oxlip.Condition()
    lock = condition._lock
    assert type(lock) is oxlip.Lock
    assert (list(condition._waiters), condition._loop) == ([], None)
    assert (condition.acquire, condition.locked) == (lock.acquire, lock.locked)
    condition._loop = loop
    assert condition._loop is loop
    async with condition:
        assert repr(condition).endswith("[locked]>")
    del condition.locked
    with pytest.raises(AttributeError, match="locked"):
        condition.notify()

    event._value = ["anything"]
    assert event.is_set() == ["anything"]
    assert await event.wait() is True
    event._value = 0
    task = loop.create_task(event.wait())
    await pause()
    assert len(event._waiters) == 1
    assert repr(event).endswith("[unset, waiters:1]>")
    event.set()
    assert (event._value, await task, len(event._waiters)) == (True, True, 0)
    del event._value
    for call in (event.is_set, event.set):
        with pytest.raises(AttributeError, match="_value"):
            call()
    event.clear()
    assert event.is_set() is False

    queue: Any = oxlip.Queue(3)
    queue._queue.extend([1, 2])
    assert queue.qsize() == 2
    assert await queue.get() == 1
    assert (queue._unfinished_tasks, queue._finished.is_set(), queue.maxsize) == (0, True, 3)
    queue._queue = [5]
    with pytest.raises(AttributeError):  # asyncio's: a list has no popleft()
        queue.get_nowait()


@pytest.mark.parametrize("number", [math.inf, 2.0, 2**70, True])
async def test_numbers_that_are_no_size(loop: Loop, number: Any) -> None:
    """They count all the same."""
    # One less than infinity is not less.
    kinds = (oxlip.Semaphore, oxlip.BoundedSemaphore)[: 1 if number == math.inf else 2]
    for make in kinds:
        semaphore: Any = make(number)
        async with semaphore:
            assert semaphore._value == number - 1
        assert semaphore._value == number
    queue: asyncio.Queue[int] = oxlip.Queue(number)
    await queue.put(1)
    assert queue.full() == (number == 1)
    assert await queue.get() == 1


async def test_attributes_whose_end_runs_code(loop: Loop) -> None:
    """What is replaced goes when nothing is held any more."""
    queue: Any = oxlip.Queue()
    semaphore: Any = oxlip.Semaphore()

    class Ending:
        def __del__(self) -> None:
            queue.put_nowait(1)
            semaphore.release()

    event: Any = oxlip.Event()
    event._value = event._waiters = Ending()
    event.clear()
    event._waiters = []
    assert (queue.qsize(), semaphore._value) == (1, 2)
    queue.get_nowait()
    semaphore._value = 1

    queue._finished, finished = Ending(), queue._finished
    queue._finished = finished
    semaphore._value = Ending()
    semaphore._value = 1
    assert (queue.qsize(), semaphore._value) == (2, 2)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has no timeouts")
async def test_a_timeouts_attributes_whose_end_runs_code(loop: Loop) -> None:
    limit: Any = _timeouts.Timeout(None)
    seen = []

    class Ending:
        def __del__(self) -> None:
            seen.append(limit._state.name)

    limit._task, limit._cancelling = Ending(), Ending()
    async with limit:
        assert seen == ["ENTERED", "ENTERED"]


async def test_on_another_loop(loop: Loop) -> None:
    lock: Any = oxlip.Lock()
    queue: Any = oxlip.Queue()
    event: Any = oxlip.Event()
    condition: Any = oxlip.Condition()
    lock._loop = queue._loop = event._loop = condition._loop = object()
    await lock.acquire()
    await condition.acquire()
    for call in (lock.acquire(), queue.get(), event.wait(), condition.wait()):
        with pytest.raises(RuntimeError, match="is bound to a different event loop"):
            await call
    assert not lock._waiters
    assert not queue._getters
    assert not event._waiters
    assert not condition._waiters
    assert condition.locked()


@pytest.mark.parametrize("ours", OURS)
async def test_collected(loop: Loop, ours: Any) -> None:
    made = ours(None) if ours.__name__ == "Timeout" else ours()
    made.mine = made
    for name in ("_loop", "_queue", "_value", "_task", "_lock", "acquire"):
        if hasattr(made, name):
            setattr(made, name, made)
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


# Timeouts.

needs_timeouts = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has no timeouts")


@needs_timeouts
async def test_timeouts(loop: Loop, switched: None) -> None:
    async with asyncio.timeout(PATIENCE) as limit:
        assert type(limit) is _timeouts.Timeout
        assert type(limit._state) is asyncio.timeouts._State  # type: ignore[attr-defined]
        limit.reschedule(None)
        assert limit._timeout_handler is None  # type: ignore[attr-defined]
    assert not limit.expired()
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout_at(loop.time()) as limit:
            await loop.create_future()
    assert limit.expired()
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    with pytest.raises(RuntimeError, match="has already been entered"):
        await limit.__aenter__()
    with pytest.raises(TypeError, match="a state"):
        limit._state = 5  # type: ignore[attr-defined]


@needs_timeouts
def test_timeout_without_a_loop(switched: None) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.timeout(1)


@needs_timeouts
def test_timeouts_go_by_the_loops_clock(switched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oxlip.EventLoop, "time", lambda loop: 1000.0)

    async def main() -> float | None:
        async with asyncio.timeout(5) as limit:
            return limit.when()

    assert oxlip.run(main()) == 1005


@pytest.mark.parametrize("seconds", [None, 0, -1, PATIENCE, 0.001])
@pytest.mark.parametrize("end", ["result", "error", "never", "cancelled"])
async def test_wait_for(loop: Loop, seconds: float | None, end: str, switched: None) -> None:
    """Beside asyncio's own, which is of an earlier kind before Python 3.12."""

    async def work() -> str:
        await pause()
        if end == "error":
            raise KeyError("error")
        if end == "never":
            await loop.create_future()
        if end == "cancelled":
            raise asyncio.CancelledError("by itself")
        return end

    if end == "never" and (seconds is None or seconds > 1):
        return
    if end != "never" and seconds == 0.001:
        return  # A busy machine may take longer for what ends at once.
    outcomes = []
    stock = getattr(_timeouts, "_wait_for", asyncio.wait_for)
    for wait_for in (stock, asyncio.wait_for):
        task: asyncio.Task[str] = loop.create_task(wait_for(work(), seconds))
        await asyncio.wait([task])
        if task.cancelled():
            outcomes.append("cancelled")
        else:
            outcomes.append(repr(task.exception()) or task.result())
    assert outcomes[0] == outcomes[1]
