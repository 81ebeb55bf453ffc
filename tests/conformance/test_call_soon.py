"""call_soon: order, arguments, contexts, handles, and what a callback may raise."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from typing import Any

import pytest
from support.ticks import turn

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop
Contexts = list[dict[str, Any]]

number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


def test_callbacks_run_in_order(loop: Loop) -> None:
    seen: list[int] = []
    for value in range(100):
        loop.call_soon(seen.append, value)
    turn(loop)
    assert seen == list(range(100))


def test_arguments_are_passed_on(loop: Loop) -> None:
    seen: list[tuple[Any, ...]] = []
    for count in range(8):
        loop.call_soon(lambda *arguments: seen.append(arguments), *range(count))
    turn(loop)
    assert seen == [tuple(range(count)) for count in range(8)]


def test_callback_added_by_a_callback_waits_for_the_next_tick(loop: Loop) -> None:
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        loop.call_soon(seen.append, "third")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    turn(loop)
    assert seen == ["first", "second"]
    turn(loop)
    assert seen == ["first", "second", "third"]


def test_stop_lets_the_current_batch_finish(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, "same batch")
    loop.run_forever()
    assert seen == ["same batch"]


def test_cancelled_callback_does_not_run(loop: Loop) -> None:
    seen: list[str] = []
    handle = loop.call_soon(seen.append, "never")
    loop.call_soon(seen.append, "kept")
    assert not handle.cancelled()
    handle.cancel()
    assert handle.cancelled()
    handle.cancel()
    turn(loop)
    assert seen == ["kept"]


def test_callback_cancelled_by_an_earlier_one_of_the_batch(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(lambda: later.cancel())
    later = loop.call_soon(seen.append, "never")
    turn(loop)
    assert seen == []


def test_cancel_after_the_run_changes_nothing(loop: Loop) -> None:
    seen: list[int] = []
    handle = loop.call_soon(seen.append, 1)
    turn(loop)
    handle.cancel()
    turn(loop)
    assert seen == [1]


def test_callback_runs_in_the_context_of_the_caller(loop: Loop) -> None:
    seen: list[int] = []

    def schedule() -> None:
        number.set(1)
        loop.call_soon(lambda: seen.append(number.get()))
        number.set(2)

    contextvars.copy_context().run(schedule)
    turn(loop)
    assert seen == [1], "the context is copied when the callback is scheduled"


def test_explicit_context(loop: Loop) -> None:
    context = contextvars.copy_context()
    context.run(number.set, 7)
    seen: list[int] = []

    def callback() -> None:
        seen.append(number.get())
        number.set(8)

    loop.call_soon(callback, context=context)
    turn(loop)
    assert seen == [7]
    assert context[number] == 8, "the very context is entered, not a copy"
    assert number.get() == 0


def test_one_context_may_serve_many_callbacks(loop: Loop) -> None:
    context = contextvars.copy_context()

    def increment() -> None:
        number.set(number.get() + 1)

    for _ in range(10):
        loop.call_soon(increment, context=context)
    turn(loop)
    assert context[number] == 10


def test_keyword_arguments_are_refused(loop: Loop) -> None:
    with pytest.raises(TypeError):
        loop.call_soon(print, end="")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        loop.call_soon()  # type: ignore[call-arg]


@pytest.mark.parametrize("error", [ValueError, Exception, asyncio.CancelledError, GeneratorExit])
def test_error_in_a_callback_goes_to_the_handler(
    loop: Loop, contexts: Contexts, error: type[BaseException]
) -> None:
    seen: list[str] = []

    def fail() -> None:
        raise error("on purpose")

    handle = loop.call_soon(fail)
    loop.call_soon(seen.append, "next")
    turn(loop)
    assert seen == ["next"], "the loop goes on"
    (context,) = contexts
    assert type(context["exception"]) is error
    assert context["handle"] is handle
    assert "fail" in context["message"]
    contexts.clear()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_a_callback_leaves_run_forever(loop: Loop, error: type[BaseException]) -> None:
    seen: list[str] = []

    def interrupt() -> None:
        raise error

    loop.call_soon(interrupt)
    loop.call_soon(seen.append, "rest of the batch")
    with pytest.raises(error):
        loop.run_forever()
    assert not loop.is_running()
    turn(loop)
    assert seen == ["rest of the batch"], "nothing that was scheduled is lost"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_a_task_leaves_run_until_complete(
    loop: Loop, error: type[BaseException]
) -> None:
    async def interrupt() -> None:
        raise error

    with pytest.raises(error):
        loop.run_until_complete(interrupt())
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


def test_a_callback_sees_the_running_loop(loop: Loop) -> None:
    seen: list[Loop] = []
    loop.call_soon(lambda: seen.append(asyncio.get_running_loop()))
    turn(loop)
    assert seen == [loop]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_arguments_are_freed_after_the_run(loop: Loop) -> None:
    class Big:
        pass

    big = Big()
    watch = weakref.ref(big)
    handle = loop.call_soon(lambda _: None, big)
    del big
    turn(loop)
    del handle
    assert watch() is None


def test_cancel_frees_callback_and_arguments_at_once(loop: Loop) -> None:
    class Big:
        pass

    big = Big()
    watch = weakref.ref(big)
    handle = loop.call_soon(lambda _: None, big)
    del big
    handle.cancel()
    assert watch() is None
    turn(loop)


def test_many_callbacks_in_one_tick(loop: Loop) -> None:
    count = 0

    def increment() -> None:
        nonlocal count
        count += 1

    for _ in range(10_000):
        loop.call_soon(increment)
    turn(loop)
    assert count == 10_000


def test_cancelled_handle_leaves_no_mark_on_later_ones(loop: Loop) -> None:
    """Our loop uses handles again that nobody holds."""
    seen: list[int] = []
    for _ in range(5):
        loop.call_soon(print).cancel()
    turn(loop)
    later = [loop.call_soon(seen.append, value) for value in range(10)]
    assert not any(handle.cancelled() or "cancelled" in repr(handle) for handle in later)
    turn(loop)
    assert seen == list(range(10))


def test_watched_handle_is_gone_after_it_ran(loop: Loop) -> None:
    """A weak reference never leads to another call's handle."""
    watch = weakref.ref(loop.call_soon(int))
    turn(loop)
    later = [loop.call_soon(int) for _ in range(10)]
    assert watch() is None
    turn(loop)
    assert len(later) == 10
