"""What becomes of a handle when the last reference to it is dropped: that it is used again, nobody
sees."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.ticks import pause

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop
Schedule = Callable[..., asyncio.Handle]
SCHEDULE: dict[str, Schedule] = {
    "soon": lambda loop, callback, **options: loop.call_soon(callback, **options),
    "later": lambda loop, callback, **options: loop.call_later(3600, callback, **options),
}


class Callback:
    def __call__(self) -> None:
        raise AssertionError("was cancelled, or is of another call")


@pytest.fixture(params=SCHEDULE)
def schedule(request: pytest.FixtureRequest) -> Schedule:
    return SCHEDULE[request.param]


@pytest.mark.parametrize("times", [1, 3])
async def test_next_handle_is_a_fresh_one(loop: Loop, schedule: Schedule, times: int) -> None:
    for _ in range(times):
        schedule(loop, Callback()).cancel()
    await pause(2)
    called: list[int] = []
    handles = [loop.call_soon(called.append, 1), loop.call_later(0, called.append, 2)]
    for handle in handles:
        assert not handle.cancelled()
        assert "append" in repr(handle)
        assert "cancelled" not in repr(handle)
    await asyncio.sleep(0.001)
    assert called == [1, 2]


async def test_when_is_that_of_the_last_call(loop: Loop) -> None:
    loop.call_later(3600, Callback()).cancel()
    now = loop.time()
    handle = loop.call_at(now + 7200, Callback())
    assert handle.when() == now + 7200
    handle.cancel()


async def test_callback_and_arguments_are_let_go(loop: Loop, schedule: Schedule) -> None:
    callback = Callback()
    alive = weakref.ref(callback)
    handle = schedule(loop, callback)
    del callback
    handle.cancel()
    await pause(2)
    del handle
    assert alive() is None


async def test_what_has_run_is_let_go_with_the_handle(loop: Loop) -> None:
    """Not sooner, nor later."""

    class Quiet(Callback):
        def __call__(self) -> None:
            pass

    for delay in (None, 0):
        callback = Quiet()
        alive = weakref.ref(callback)
        if delay is None:
            handle: Any = loop.call_soon(callback)
        else:
            handle = loop.call_later(delay, callback)
        del callback
        await asyncio.sleep(0.001)
        assert alive() is not None
        del handle
        assert alive() is None


async def test_context_is_let_go(loop: Loop, schedule: Schedule) -> None:
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
    value = Callback()
    alive = weakref.ref(value)
    context = contextvars.Context()
    context.run(variable.set, value)
    handle = schedule(loop, Callback(), context=context)
    del value, context
    handle.cancel()
    await pause(2)
    assert alive() is not None
    del handle
    assert alive() is None


async def test_weak_reference_dies(loop: Loop, schedule: Schedule) -> None:
    told: list[int] = []
    handle = schedule(loop, Callback())
    alive = weakref.ref(handle, lambda _: told.append(1))
    handle.cancel()
    await pause(2)
    del handle
    assert alive() is None
    assert told == [1]


async def test_end_of_the_context_schedules_and_looks_for_handles(
    loop: Loop, schedule: Schedule
) -> None:
    """While the handle is emptied, a program runs."""
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
    called: list[int] = []
    found: list[Any] = []

    class Value:
        def __del__(self) -> None:
            found.extend(it for it in gc.get_objects() if isinstance(it, asyncio.Handle))
            loop.call_soon(called.append, 1)
            loop.call_later(0, called.append, 2)

    context = contextvars.Context()
    context.run(variable.set, Value())
    handle = schedule(loop, Callback(), context=context)
    del context
    handle.cancel()
    await pause(2)
    del handle
    gc.collect()
    loop.call_soon(called.append, 3)
    loop.call_later(0, called.append, 4)
    await asyncio.sleep(0.001)
    assert sorted(called) == [1, 2, 3, 4]
    found.clear()


async def test_cycle_through_a_handle(loop: Loop, schedule: Schedule) -> None:
    """The collector ends it; what is scheduled meanwhile keeps its call."""
    called: list[int] = []

    class Holder:
        handle: asyncio.Handle

        def __call__(self) -> None:
            """Is never called."""

        def __del__(self) -> None:
            loop.call_later(0, called.append, 1)

    class Last:
        """Its end comes when the collector clears what it has found."""

        def __init__(self, holder: Holder) -> None:
            self.holder = holder
            self.callback = lambda: loop.call_later(0, called.append, 2)

    ends = []
    for _ in range(50):
        holder = Holder()
        holder.handle = schedule(loop, holder)
        holder.handle.cancel()
        holder.last = Last(holder)  # type: ignore[attr-defined]
        ends.append(weakref.ref(holder, lambda _: loop.call_later(0, called.append, 3)))
    await pause(2)
    del holder
    gc.collect()
    await asyncio.sleep(0.001)
    assert called.count(1) == 50
    assert called.count(3) == 50


async def test_cycle_with_a_callback_that_was_not_cancelled(loop: Loop) -> None:
    """It has run, and knows its handle."""

    class Holder:
        handle: asyncio.Handle

        def __call__(self) -> None:
            pass

    ends = []
    for _ in range(20):
        holder = Holder()
        holder.handle = loop.call_later(0, holder)
        ends.append(weakref.ref(holder))
    del holder
    await asyncio.sleep(0.001)
    gc.collect()
    assert not any(end() for end in ends)
    called: list[int] = []
    for number in range(40):
        loop.call_later(0, called.append, number)
    await asyncio.sleep(0.001)
    assert sorted(called) == list(range(40))


async def test_dropped_on_another_thread(loop: Loop, schedule: Schedule) -> None:
    handles = [schedule(loop, Callback()) for _ in range(10)]
    for handle in handles:
        handle.cancel()
    del handle
    await pause(2)
    thread = threading.Thread(target=handles.clear)
    thread.start()
    thread.join()
    called: list[int] = []
    for number in range(20):
        loop.call_soon(called.append, number)
    await pause(2)
    assert called == list(range(20))


def test_dropped_when_the_loop_does_not_run(loop: Loop, schedule: Schedule) -> None:
    handle = schedule(loop, Callback())
    handle.cancel()
    loop.run_until_complete(pause(2))
    del handle
    called: list[int] = []
    loop.call_soon(called.append, 1)
    loop.run_until_complete(pause(2))
    assert called == [1]


def test_dropped_after_the_loop_was_closed(loop: Loop, schedule: Schedule) -> None:
    handles = [schedule(loop, Callback()) for _ in range(3)]
    for handle in handles:
        handle.cancel()
    del handle
    loop.run_until_complete(pause(2))
    loop.close()
    handles.clear()


async def test_of_debug_mode(loop: Loop, schedule: Schedule) -> None:
    loop.set_debug(True)
    handle = schedule(loop, Callback())
    handle.cancel()
    await pause(2)
    del handle
    loop.set_debug(False)
    called: list[int] = []
    handles = [loop.call_soon(called.append, 1), loop.call_later(0, called.append, 2)]
    assert not any("created at" in repr(handle) for handle in handles)
    await asyncio.sleep(0.001)
    assert called == [1, 2]
