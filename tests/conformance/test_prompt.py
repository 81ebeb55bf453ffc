"""What `async with lock` awaits passes for Python's coroutine, which asyncio's own gives.

Each test runs on asyncio's class and on ours, and says the same of both.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import inspect
import pickle
import sys
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from support.loops import STOCK_ONLY
from support.ticks import pause

if STOCK_ONLY:
    pytest.skip("without oxlip", allow_module_level=True)

import oxlip
from oxlip import _native

Loop = asyncio.AbstractEventLoop
KINDS = ("Lock", "Semaphore", "BoundedSemaphore", "Condition")
CLASSES: list[Any] = [getattr(module, kind) for module in (asyncio, oxlip) for kind in KINDS]
# More than are kept for the next.
MANY = 600


def name_of(cls: Any) -> str:
    return f"{cls.__module__}.{cls.__name__}"


each_class = pytest.mark.parametrize("cls", CLASSES, ids=name_of)


@pytest.fixture(params=CLASSES, ids=name_of)
def free(request: pytest.FixtureRequest) -> Any:
    return request.param()


@contextlib.contextmanager
def warned() -> Iterator[list[str]]:
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield messages
        gc.collect()
    messages += [str(warning.message) for warning in seen]
    # A warning has the coroutine: one that was found in a cycle comes back to life by that. Until
    # it is found there again, Python 3.15 keeps the weak references to it (cpython#135552).
    seen.clear()
    gc.collect()


def leave(free: Any) -> Any:
    return free.__aexit__(None, None, None)


# The function.


def test_is_a_coroutine_function(free: Any) -> None:
    for holder in (free, type(free)):
        for name in ("__aenter__", "__aexit__"):
            method = getattr(holder, name)
            assert inspect.iscoroutinefunction(method)
            assert inspect.isroutine(method)
            assert method.__name__ == name
            assert method.__code__.co_flags & inspect.CO_COROUTINE
    parameters = inspect.signature(free.__aexit__).parameters
    assert list(parameters) == ["exc_type", "exc", "tb"]
    assert list(inspect.signature(type(free).__aenter__).parameters) == ["self"]
    assert inspect.getsource(inspect.unwrap(type(free).__aenter__)).strip()


async def test_other_ways_to_call_it(loop: Loop, free: Any) -> None:
    assert await type(free).__aenter__(free) is None
    assert free.locked()
    assert await type(free).__aexit__(free, exc_type=None, exc=None, tb=None) is None
    assert not free.locked()
    for wrong in (lambda: free.__aenter__(1), lambda: free.__aexit__(None)):
        with pytest.raises(TypeError, match=r"__a(enter|exit)__\(\) .*argument"):
            wrong()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'self'"):
        type(free).__aenter__()


def test_copies_are_the_function(free: Any) -> None:
    method = type(free).__aenter__
    assert copy.copy(method) is method
    assert copy.deepcopy(method) is method
    assert pickle.loads(pickle.dumps(method)) is method
    assert method.__qualname__ in repr(method)
    assert free.__aenter__ == free.__aenter__


def test_there_is_no_such_function() -> None:
    async def other() -> None: ...

    with pytest.raises(ValueError, match="other"):
        _native.PromptFunction(other)
    with pytest.raises(AttributeError, match="no_such"):
        _ = oxlip.Lock.__aenter__.no_such  # type: ignore[attr-defined]


async def test_writers_drain(loop: Loop) -> None:
    for cls in (asyncio.StreamWriter, oxlip.StreamWriter):
        assert inspect.iscoroutinefunction(cls.drain)
        spec = mock.create_autospec(cls, instance=True)
        await spec.drain()
        with pytest.raises(TypeError, match="too many positional arguments"):
            spec.drain(1)
        await mock.Mock(spec=cls).drain()


# The coroutine.


async def test_passes_for_one(loop: Loop, free: Any) -> None:
    entering = free.__aenter__()
    assert inspect.iscoroutine(entering)
    assert asyncio.iscoroutine(entering)
    assert inspect.isawaitable(entering)
    assert isinstance(entering, types.CoroutineType)
    name = type(free).__aenter__.__qualname__
    assert entering.__qualname__ == name
    assert entering.__name__ == "__aenter__"
    assert repr(entering).startswith(f"<coroutine object {name} at 0x")
    assert entering.cr_code is type(free).__aenter__.__code__
    await entering


async def test_its_states(loop: Loop, free: Any) -> None:
    entering = free.__aenter__()
    assert inspect.getcoroutinestate(entering) == inspect.CORO_CREATED
    assert entering.cr_frame.f_code is entering.cr_code
    assert entering.cr_origin is None
    assert not free.locked()
    with pytest.raises(StopIteration):
        entering.send(None)
    assert free.locked()
    assert inspect.getcoroutinestate(entering) == inspect.CORO_CLOSED

    waiting = free.__aenter__()
    waiter = waiting.send(None)
    assert asyncio.isfuture(waiter)
    assert inspect.getcoroutinestate(waiting) == inspect.CORO_SUSPENDED
    assert waiting.cr_await is not None
    waiting.close()
    assert inspect.getcoroutinestate(waiting) == inspect.CORO_CLOSED
    assert waiting.cr_await is None
    free.release()


async def test_done_without_a_look(loop: Loop, free: Any) -> None:
    entering = free.__aenter__()
    await entering
    assert inspect.getcoroutinestate(entering) == inspect.CORO_CLOSED
    assert entering.cr_frame is None
    assert entering.cr_await is None
    assert entering.cr_origin is None
    assert not entering.cr_running
    for again in (
        lambda: entering.send(None),
        lambda: entering.send(1),
        lambda: entering.throw(KeyError()),
    ):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            again()
    entering.close()


async def test_before_it_has_begun(loop: Loop, free: Any) -> None:
    fresh = free.__aenter__()
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        fresh.send(1)
    fresh.close()
    entering = free.__aenter__()
    with pytest.raises(KeyError):
        entering.throw(KeyError())
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await entering
    with warned() as messages:
        free.__aenter__().close()
    assert messages == []
    assert not free.locked()


async def test_a_task_of_it(loop: Loop, free: Any) -> None:
    await free.__aenter__()
    task = loop.create_task(free.__aenter__())
    assert "__aenter__()" in repr(task)
    await pause()
    assert "__aenter__() running at " in repr(task)
    names = [frame.f_code.co_name for frame in task.get_stack()]
    assert names[0] == "__aenter__"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    free.release()


def test_never_awaited(free: Any) -> None:
    name = type(free).__aexit__.__qualname__
    with warned() as messages:
        leave(free)
    assert messages == [f"coroutine '{name}' was never awaited"]


def test_never_awaited_on_the_way_of_an_exception(free: Any) -> None:
    def boom() -> None:
        raise KeyError("way")

    with warned() as messages, pytest.raises(KeyError, match="way"):
        print(free.__aenter__(), boom())
    name = type(free).__aenter__.__qualname__
    assert messages == [f"coroutine '{name}' was never awaited"]


@each_class
def test_never_awaited_in_a_cycle(cls: Any) -> None:
    holder: dict[str, Any] = {}
    # The collector comes to know the dict after the coroutine, which is therefore cleared first.
    holder["leaving"] = cls().__aexit__(holder, None, None)
    gone = weakref.ref(holder["leaving"])
    with warned() as messages:
        del holder
    assert messages == [f"coroutine '{cls.__aexit__.__qualname__}' was never awaited"]
    assert gone() is None


@each_class
def test_in_a_cycle_with_its_function(cls: Any) -> None:
    aenter = inspect.unwrap(cls.__aenter__)
    copied: Any = types.FunctionType(
        aenter.__code__, aenter.__globals__, closure=aenter.__closure__
    )
    copied.__qualname__ = aenter.__qualname__
    if cls.__aenter__ is not aenter:
        copied = _native.PromptFunction(copied)
    copied.entering = copied(cls())
    copied.entering.close()
    gone = weakref.ref(copied.entering)
    del copied
    gc.collect()
    assert gone() is None


@each_class
def test_ended_in_a_cycle(cls: Any) -> None:
    free = cls()
    free.entering = free.__aenter__()
    with contextlib.suppress(StopIteration):
        free.entering.send(None)
    gone = weakref.ref(free)
    with warned() as messages:
        del free
    assert not messages
    assert gone() is None


@each_class
async def test_saved_from_the_collector(loop: Loop, cls: Any) -> None:
    """It was warned of, once, and can be awaited all the same."""
    saved = []

    class Saves:
        def __init__(self) -> None:
            self.free = cls()
            self.free.saves = self
            self.free.entering = self.free.__aenter__()

        def __del__(self) -> None:
            saved.append(self.free)

    with warned() as messages:
        Saves()
    assert messages == [f"coroutine '{cls.__aenter__.__qualname__}' was never awaited"]
    (free,) = saved
    await free.entering
    assert free.locked()
    free.release()
    with warned() as messages:
        del free
        saved.clear()
    assert not messages
    # Others that begin where this one was are warned of.
    for _ in range(MANY):
        test_never_awaited_in_a_cycle(cls)


async def test_where_it_was_made(loop: Loop, free: Any) -> None:
    depth = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(1)
    try:
        entering = free.__aenter__()
    finally:
        sys.set_coroutine_origin_tracking_depth(depth)
    assert entering.cr_origin[0][2] == "test_where_it_was_made"
    await entering


async def test_awaited_by_two(loop: Loop, free: Any) -> None:
    await free.acquire()
    waiting = free.__aenter__()

    async def wait() -> Any:
        return await waiting

    first, second = loop.create_task(wait()), loop.create_task(wait())
    await pause()
    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        await second
    second.cancel()
    await leave(free)
    assert await first is None


async def test_an_end_that_is_none(loop: Loop) -> None:
    """A lock of the program's own that raises what would be a result."""

    class Odd(asyncio.Lock):
        def release(self) -> None:
            raise StopIteration(True)

    for cls in (asyncio.Condition, oxlip.Condition):
        with pytest.raises(RuntimeError, match="coroutine raised StopIteration") as raised:
            async with cls(Odd()):
                raise KeyError
        assert isinstance(raised.value.__cause__, StopIteration)
        assert isinstance(raised.value.__context__, StopIteration)


def test_weak_references(free: Any) -> None:
    for _ in range(3):
        entering = free.__aenter__()
        ended: list[Any] = []
        gone = weakref.ref(entering, ended.append)
        assert gone() is entering
        entering.close()
        del entering
        assert gone() is None
        assert ended == [gone]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("cls", CLASSES)
async def test_collected(loop: Loop, cls: Any, begun: bool) -> None:
    free = cls()
    await free.acquire()
    free.itself = free.__aenter__()
    if begun:
        free.itself.send(None)
    gone = weakref.ref(free)
    with warned():
        del free
    assert gone() is None


async def test_many_at_once(loop: Loop) -> None:
    """What is kept for the next is each time as good as new."""
    for cls in CLASSES:
        for _ in range(2):
            locks = [cls() for _ in range(MANY)]
            entering = [lock.__aenter__() for lock in locks]
            assert not any(lock.locked() for lock in locks)
            for coroutine in reversed(entering):
                await coroutine
            assert all(lock.locked() for lock in locks)
            waiting = [loop.create_task(lock.__aenter__()) for lock in locks]
            await pause()
            del entering, coroutine
            for lock in locks:
                await leave(lock)
            assert await asyncio.gather(*waiting) == [None] * MANY


@pytest.mark.parametrize("error", [None, KeyError])
@pytest.mark.parametrize("cls", [asyncio.Lock, oxlip.Lock])
async def test_the_exit_raises(loop: Loop, cls: Any, error: type[Exception] | None) -> None:
    lock = cls()
    with pytest.raises(RuntimeError, match="Lock is not acquired") as raised:
        async with lock:
            lock.release()
            if error is not None:
                raise error
    context = raised.value.__context__
    assert context is error if error is None else isinstance(context, error)


# Where nothing can be done at once.


async def test_derived_classes(loop: Loop) -> None:
    # A condition's are its lock's.
    for cls in [cls for cls in CLASSES if "Condition" not in cls.__name__]:
        calls = []

        class Derived(cls):  # type: ignore[misc]
            async def acquire(self) -> Any:
                calls.append("acquire")  # noqa: B023 - of this round
                return await super().acquire()

            def release(self) -> None:
                calls.append("release")  # noqa: B023 - of this round
                super().release()

        async with Derived():
            assert calls == ["acquire"]
        assert calls == ["acquire", "release"]


async def test_used_while_it_is_done(loop: Loop) -> None:
    """By what a program has put in the place of the waiters."""
    lock: Any = oxlip.Lock()
    leaving: Any = leave(lock)
    uses: list[Callable[[], Any]] = [
        lambda: leaving.send(None),
        lambda: leaving.send(1),
        lambda: leaving.throw(KeyError()),
        lambda: leaving.close(),
    ]
    states = []

    class Waiters:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Iterator[Any]:
            return iter([self[0]])

        def __getitem__(self, index: int) -> Any:
            states.append((leaving.cr_running, getattr(leaving, "cr_suspended", False)))
            for use in uses:
                with pytest.raises(ValueError, match="coroutine already executing"):
                    use()
            return loop.create_future()

    await lock.acquire()
    lock._waiters = Waiters()
    await leaving
    assert states == [(True, False)]
    assert not lock.locked()
