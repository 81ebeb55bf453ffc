"""The context of each handle is its own, however the loop comes by it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref

import pytest

pytestmark = pytest.mark.sim

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def run_all(loop: asyncio.AbstractEventLoop) -> None:
    """Until what is scheduled now, and what that schedules for the next tick, has run."""
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()


def test_a_callback_that_sets_a_variable_does_so_for_itself(
    loop: asyncio.AbstractEventLoop,
) -> None:
    seen = []

    def change(value: str) -> None:
        seen.append(variable.get())
        variable.set(value)
        seen.append(variable.get())

    for value in "abc":
        loop.call_soon(change, value)
    loop.call_soon(lambda: seen.append(variable.get()))
    run_all(loop)
    assert seen == ["unset", "a", "unset", "b", "unset", "c", "unset"]
    assert variable.get() == "unset"


def test_a_handle_keeps_what_was_current_when_it_was_scheduled(
    loop: asyncio.AbstractEventLoop,
) -> None:
    seen: list[str] = []

    def look() -> None:
        seen.append(variable.get())

    def schedule() -> None:
        loop.call_soon(look)
        token = variable.set("later")
        loop.call_soon(look)
        loop.call_soon(look)
        variable.reset(token)
        loop.call_soon(look)

    contextvars.copy_context().run(schedule)
    run_all(loop)
    assert seen == ["unset", "later", "later", "unset"]


def test_callbacks_of_several_contexts_take_turns(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[str] = []

    def step(left: int) -> None:
        seen.append(variable.get())
        if left:
            loop.call_soon(step, left - 1)

    def start(name: str) -> None:
        variable.set(name)
        loop.call_soon(step, 2)

    for name in "ab":
        contextvars.copy_context().run(start, name)
    loop.call_soon(step, 0)
    for _ in range(3):
        run_all(loop)
    assert seen == ["a", "b", "unset", "a", "b", "a", "b"]


def test_the_context_of_a_handle_is_the_one_it_runs_in(loop: asyncio.AbstractEventLoop) -> None:
    handles: list[asyncio.Handle] = []

    def context_of(handle: asyncio.Handle) -> contextvars.Context:
        return handle._context  # type: ignore[attr-defined, no-any-return]

    def change() -> None:
        variable.set("changed")
        with pytest.raises(RuntimeError, match="cannot enter context"):
            context_of(handles[0]).run(variable.get)

    handles.append(loop.call_soon(change))
    handles.append(loop.call_soon(variable.get))
    before = context_of(handles[1])
    run_all(loop)
    assert context_of(handles[0]).run(variable.get) == "changed"
    assert context_of(handles[1]) is before
    assert before is not context_of(handles[0])
    assert before.run(variable.get) == "unset"


def test_a_context_that_was_looked_at_is_not_shared(loop: asyncio.AbstractEventLoop) -> None:
    first, second = loop.call_soon(variable.set, "first"), loop.call_soon(variable.set, "second")
    contexts = [handle._context for handle in (first, second)]  # type: ignore[attr-defined]
    assert contexts[0] is not contexts[1]
    run_all(loop)
    assert [context.run(variable.get) for context in contexts] == ["first", "second"]


def test_an_error_is_told_in_the_context_that_the_callback_has_changed(
    loop: asyncio.AbstractEventLoop,
) -> None:
    seen = []
    loop.set_exception_handler(lambda *_: seen.append(variable.get()))

    def fail() -> None:
        variable.set("failing")
        raise ValueError

    loop.call_soon(fail)
    loop.call_soon(lambda: seen.append(variable.get()))
    run_all(loop)
    # Before Python 3.12 the handler was called in the context of the loop's caller.
    assert seen == ["failing" if sys.version_info >= (3, 12) else "unset", "unset"]


def test_timers_have_contexts_of_their_own(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[str] = []

    def change(value: str) -> None:
        seen.append(variable.get())
        variable.set(value)

    for value in "ab":
        loop.call_later(0, change, value)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert seen == ["unset", "unset"]


def test_threads_schedule_in_their_own_contexts(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[str] = []

    def schedule(name: str) -> None:
        variable.set(name)
        for _ in range(3):
            loop.call_soon_threadsafe(lambda: seen.append(variable.get()))

    async def main() -> None:
        for name in "ab":
            await asyncio.to_thread(schedule, name)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert seen == ["a"] * 3 + ["b"] * 3


def test_a_loop_that_has_run_keeps_no_value_of_a_context(loop: asyncio.AbstractEventLoop) -> None:
    class Value(str):
        pass

    def schedule() -> weakref.ref[Value]:
        value = Value("kept")
        variable.set(value)
        for _ in range(3):
            loop.call_soon(variable.get)
        return weakref.ref(value)

    reference = contextvars.copy_context().run(schedule)
    run_all(loop)
    loop.call_later(0.001, loop.stop)  # The loop sleeps.
    loop.run_forever()
    gc.collect()
    assert reference() is None


def test_a_cycle_through_a_handle_that_has_run_is_collected(
    loop: asyncio.AbstractEventLoop,
) -> None:
    class Owner:
        handle: asyncio.Handle

        def callback(self) -> None:
            pass

    owner = Owner()
    owner.handle = loop.call_soon(owner.callback)
    reference = weakref.ref(owner)
    run_all(loop)
    del owner
    gc.collect()
    assert reference() is None


def test_a_cycle_through_a_loop_with_waiting_handles_is_collected(
    loop: asyncio.AbstractEventLoop,
) -> None:
    class Owner:
        handles: list[asyncio.Handle]

        def callback(self) -> None:
            pass

    def schedule(owner: Owner) -> None:
        owner.handles = [loop.call_soon(owner.callback), loop.call_soon(owner.callback)]

    def run() -> weakref.ref[Owner]:
        owner = Owner()
        loop.call_soon(schedule, owner)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        return weakref.ref(owner)

    reference = run()
    gc.collect()
    assert reference() is None


def test_the_collector_may_run_while_threads_schedule(loop: asyncio.AbstractEventLoop) -> None:
    count = 0

    def add() -> None:
        nonlocal count
        count += 1

    def schedule() -> None:
        for _ in range(2000):
            loop.call_soon_threadsafe(add)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=schedule)
    loop.call_soon(thread.start)
    collecting = threading.Event()

    def collect() -> None:
        while not collecting.is_set():
            gc.collect()

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        loop.run_forever()
    finally:
        collecting.set()
        collector.join()
        thread.join()
    assert count == 2000
