"""call_soon_threadsafe, loops run in other threads, and the wrong thread."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.sockets import PATIENCE
from support.ticks import turn

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop
number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


@contextmanager
def threads(count: int, body: Callable[[int], Any]) -> Iterator[None]:
    """Runs the body in that many threads; they have ended when the block does."""
    started = [threading.Thread(target=body, args=(index,)) for index in range(count)]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        for thread in started:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_a_sleeping_loop_is_woken(loop: Loop) -> None:
    with threads(1, lambda _: loop.call_soon_threadsafe(loop.stop)):
        loop.run_forever()


def test_each_of_many_wake_ups_arrives(loop: Loop) -> None:
    # One at a time, so that each call finds a loop that is asleep or about to be.
    arrived = threading.Semaphore(0)
    seen: list[int] = []

    def arrive(value: int) -> None:
        seen.append(value)
        arrived.release()

    def calls(_: int) -> None:
        for value in range(500):
            loop.call_soon_threadsafe(arrive, value)
            assert arrived.acquire(timeout=PATIENCE)
        loop.call_soon_threadsafe(loop.stop)

    with threads(1, calls):
        loop.run_forever()
    assert seen == list(range(500))


def test_many_threads_each_in_its_order(loop: Loop) -> None:
    per_thread, count = 2000, 8
    seen: dict[int, list[int]] = {index: [] for index in range(count)}
    left = count

    def done() -> None:
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    def calls(index: int) -> None:
        for value in range(per_thread):
            loop.call_soon_threadsafe(seen[index].append, value)
        loop.call_soon_threadsafe(done)

    with threads(count, calls):
        loop.run_forever()
    assert all(values == list(range(per_thread)) for values in seen.values())


def test_from_the_loop_thread_it_is_a_call_soon(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(seen.append, "first")
    loop.call_soon_threadsafe(seen.append, "second")
    loop.call_soon(seen.append, "third")
    turn(loop, ticks=2)
    assert sorted(seen) == ["first", "second", "third"]


def test_calls_made_before_the_run_are_kept(loop: Loop) -> None:
    seen: list[int] = []
    with threads(1, lambda _: loop.call_soon_threadsafe(seen.append, 1)):
        pass
    turn(loop, ticks=2)
    assert seen == [1]


def test_the_handle_can_be_cancelled(loop: Loop) -> None:
    seen: list[str] = []
    handle = loop.call_soon_threadsafe(seen.append, "never")
    handle.cancel()
    assert handle.cancelled()
    turn(loop, ticks=2)
    assert seen == []


def test_the_context_is_that_of_the_calling_thread(loop: Loop) -> None:
    seen: list[int] = []
    explicit = contextvars.copy_context()
    explicit.run(number.set, 2)

    def calls(_: int) -> None:
        number.set(1)
        loop.call_soon_threadsafe(lambda: seen.append(number.get()))
        loop.call_soon_threadsafe(lambda: seen.append(number.get()), context=explicit)
        loop.call_soon_threadsafe(loop.stop)

    with threads(1, calls):
        loop.run_forever()
    assert seen == [1, 2]


def test_run_coroutine_threadsafe(loop: Loop) -> None:
    async def add(first: int, second: int) -> int:
        await asyncio.sleep(0)
        return first + second

    results: list[int] = []

    def calls(_: int) -> None:
        for value in range(50):
            future = asyncio.run_coroutine_threadsafe(add(value, 1), loop)
            results.append(future.result(PATIENCE))
        loop.call_soon_threadsafe(loop.stop)

    with threads(1, calls):
        loop.run_forever()
    assert results == list(range(1, 51))


def test_error_in_a_callback_from_a_thread(loop: Loop, contexts: list[dict[str, Any]]) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    def calls(_: int) -> None:
        loop.call_soon_threadsafe(fail)
        loop.call_soon_threadsafe(loop.stop)

    with threads(1, calls):
        loop.run_forever()
    assert [type(context["exception"]) for context in contexts] == [ValueError]
    contexts.clear()


def test_a_closed_loop_refuses(loop: Loop) -> None:
    loop.close()
    errors: list[str] = []

    def calls(_: int) -> None:
        try:
            loop.call_soon_threadsafe(print)
        except RuntimeError as error:
            errors.append(str(error))

    with threads(1, calls):
        pass
    assert errors == ["Event loop is closed"]


def test_loop_made_here_and_run_in_a_thread(loop: Loop) -> None:
    seen: list[Any] = []
    loop.call_soon(lambda: seen.append(threading.get_ident()))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    seen.append(asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "done"), loop).result(PATIENCE))
    assert loop.is_running()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    assert seen == [thread.ident, "done"]
    assert not loop.is_running()


def test_loop_run_by_one_thread_after_another(loop: Loop) -> None:
    idents: list[int] = []

    async def note() -> None:
        idents.append(threading.get_ident())

    for _ in range(3):
        thread = threading.Thread(target=lambda: loop.run_until_complete(note()))
        thread.start()
        thread.join(PATIENCE)
    loop.run_until_complete(note())
    assert len(idents) == 4
    assert idents[-1] == threading.get_ident()


def test_loops_in_several_threads_at_once(new_loop: Callable[[], Loop]) -> None:
    made = [new_loop() for _ in range(4)]
    results: list[int] = []

    async def count() -> int:
        total = 0
        for value in range(200):
            total += await asyncio.sleep(0, value)
        return total

    def body(index: int) -> None:
        results.append(made[index].run_until_complete(count()))

    with threads(len(made), body):
        pass
    assert results == [sum(range(200))] * len(made)


def test_a_running_loop_cannot_be_run_by_another_thread(loop: Loop) -> None:
    errors: list[str] = []

    def intrude(_: int) -> None:
        try:
            loop.run_forever()
        except RuntimeError as error:
            errors.append(str(error))
        loop.call_soon_threadsafe(loop.stop)

    def start() -> None:
        thread = threading.Thread(target=intrude, args=(0,))
        thread.start()
        joined.append(thread)

    joined: list[threading.Thread] = []
    loop.call_soon(start)
    loop.run_forever()
    joined[0].join(PATIENCE)
    assert errors == ["This event loop is already running"]


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_wrong_thread_in_debug_mode(loop: Loop, method: str) -> None:
    loop.set_debug(True)
    arguments: tuple[Any, ...] = (print,) if method == "call_soon" else (0, print)
    errors: list[str] = []

    def intrude(_: int) -> None:
        try:
            getattr(loop, method)(*arguments)
        except RuntimeError as error:
            errors.append(str(error))
        loop.call_soon_threadsafe(loop.stop)

    def start() -> None:
        joined.append(threading.Thread(target=intrude, args=(0,)))
        joined[0].start()

    joined: list[threading.Thread] = []
    loop.call_soon(start)
    loop.run_forever()
    joined[0].join(PATIENCE)
    assert len(errors) == 1
    assert "thread" in errors[0].lower()


# Handles of call_soon_threadsafe that exclude each other's methods.
since_314 = pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio has it since 3.14")


class Long:
    """A callback that goes on while other threads ask about its handle."""

    def __init__(self, loop: Loop, askers: int = 1) -> None:
        self.loop = loop
        self.order: list[str] = []
        self.started = threading.Event()
        self.askers = threading.Barrier(askers + 1)
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        self.started.set()
        self.askers.wait(PATIENCE)
        # Time for whoever would not wait to be faster.
        time.sleep(0.02)
        self.order.append("over")

    def ask(self, method: str) -> None:
        """From another thread, in the middle of the callback."""
        assert self.started.wait(PATIENCE)
        self.askers.wait(PATIENCE)
        self.order.append(f"{method}: {getattr(self.handle, method)()}")


@since_314
@pytest.mark.parametrize("method", ["cancel", "cancelled"])
@pytest.mark.parametrize("debug", [False, True])
def test_a_running_callback_is_waited_for(loop: Loop, method: str, debug: bool) -> None:
    loop.set_debug(debug)
    loop.slow_callback_duration = PATIENCE
    callback = Long(loop)
    callback.handle = loop.call_soon_threadsafe(callback)
    loop.call_soon_threadsafe(loop.stop)
    with threads(1, lambda _: callback.ask(method)):
        loop.run_forever()
    assert callback.order == ["over", f"{method}: {False if method == 'cancelled' else None}"]


@since_314
def test_a_callback_runs_in_one_thread_at_a_time(loop: Loop) -> None:
    callback = Long(loop, askers=0)
    callback.handle = loop.call_soon_threadsafe(callback)
    loop.call_soon_threadsafe(loop.stop)

    def run(_: int) -> None:
        assert callback.started.wait(PATIENCE)
        callback.handle._run()  # type: ignore[union-attr]
        callback.order.append("ran")

    with threads(1, run):
        loop.run_forever()
    assert callback.order == ["over", "over", "ran"]


@since_314
def test_many_wait_for_a_running_callback(loop: Loop) -> None:
    callback = Long(loop, askers=4)
    callback.handle = loop.call_soon_threadsafe(callback)
    loop.call_soon_threadsafe(loop.stop)
    with threads(4, lambda _: callback.ask("cancel")):
        loop.run_forever()
    assert callback.order == ["over", *["cancel: None"] * 4]
    assert callback.handle.cancelled()


@since_314
def test_ctrl_c_ends_the_wait_for_a_callback(loop: Loop) -> None:
    going_on = threading.Event()

    def callback() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert going_on.wait(PATIENCE)
        loop.stop()

    thread = threading.Thread(target=loop.run_forever)
    handle = loop.call_soon_threadsafe(callback)
    with pytest.raises(KeyboardInterrupt):
        thread.start()
        while not handle.cancelled():
            pass
    going_on.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_callback_cancels_its_own_handle(loop: Loop) -> None:
    seen: list[bool] = []

    def callback() -> None:
        seen.append(handles[0].cancelled())
        handles[0].cancel()
        seen.append(handles[0].cancelled())
        loop.stop()

    handles = [loop.call_soon_threadsafe(callback)]
    loop.run_forever()
    assert seen == [False, True]


def test_the_class_of_a_handle(loop: Loop) -> None:
    handle = loop.call_soon_threadsafe(print)
    expected = getattr(asyncio.events, "_ThreadSafeHandle", asyncio.Handle)
    assert isinstance(handle, expected)
    assert isinstance(handle, asyncio.Handle)
    assert repr(handle).startswith(f"<{expected.__name__} ")
    handle.cancel()
    # A handle that the loop takes for another call.
    loop.call_soon_threadsafe(print)
    turn(loop, ticks=2)
    again = loop.call_soon(print)
    assert type(again) is asyncio.Handle or again.__class__ is asyncio.Handle
    again.cancel()
