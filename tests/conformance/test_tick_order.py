"""The order within a tick: what was ready before, then descriptors, then due timers."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator

import pytest
from support.ticks import turn

Loop = asyncio.AbstractEventLoop


@pytest.fixture
def ready() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets, the first of which has something to read."""
    first, second = socket.socketpair()
    first.setblocking(False)
    second.setblocking(False)
    with first, second:
        second.send(b"x")
        yield first, second


def test_soon_then_descriptors_then_timers(
    loop: Loop, ready: tuple[socket.socket, socket.socket]
) -> None:
    seen: list[str] = []
    loop.call_at(loop.time() - 1, seen.append, "timer")
    loop.add_reader(ready[0], seen.append, "readable")
    loop.call_soon(seen.append, "soon")
    turn(loop)
    loop.remove_reader(ready[0])
    assert seen == ["soon", "readable", "timer"]


def test_descriptors_are_looked_at_even_when_callbacks_are_ready(
    loop: Loop, ready: tuple[socket.socket, socket.socket]
) -> None:
    seen: list[str] = []
    loop.add_reader(ready[0], lambda: (seen.append("readable"), loop.remove_reader(ready[0])))

    def busy(left: int) -> None:
        seen.append("busy")
        if left:
            loop.call_soon(busy, left - 1)

    loop.call_soon(busy, 3)
    turn(loop, ticks=4)
    assert seen == ["busy", "readable", "busy", "busy", "busy"]


def test_a_busy_loop_still_runs_timers(loop: Loop) -> None:
    count = 0

    def busy() -> None:
        nonlocal count
        count += 1
        loop.call_soon(busy)

    loop.call_soon(busy)
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert count


def test_reader_and_writer_of_one_descriptor_in_one_tick(
    loop: Loop, ready: tuple[socket.socket, socket.socket]
) -> None:
    seen: list[str] = []
    loop.add_writer(ready[0], seen.append, "writable")
    loop.add_reader(ready[0], seen.append, "readable")
    turn(loop)
    loop.remove_reader(ready[0])
    loop.remove_writer(ready[0])
    assert seen == ["readable", "writable"]


def test_reader_removed_earlier_in_the_tick_is_not_called(
    loop: Loop, ready: tuple[socket.socket, socket.socket]
) -> None:
    seen: list[str] = []
    loop.add_reader(ready[0], lambda: (seen.append("readable"), loop.remove_writer(ready[0])))
    loop.add_writer(ready[0], seen.append, "writable")
    turn(loop)
    loop.remove_reader(ready[0])
    assert seen == ["readable"]


def test_callback_of_a_descriptor_is_followed_by_the_next_tick(
    loop: Loop, ready: tuple[socket.socket, socket.socket]
) -> None:
    seen: list[str] = []

    def readable() -> None:
        seen.append("readable")
        loop.remove_reader(ready[0])
        loop.call_soon(seen.append, "after")

    loop.add_reader(ready[0], readable)
    loop.call_at(loop.time() - 1, seen.append, "timer")
    turn(loop, ticks=2)
    assert seen == ["readable", "timer", "after"]


def test_timer_due_in_the_past_runs_in_this_tick(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_at(0, seen.append, "long ago")
    turn(loop)
    assert seen == ["long ago"]


def test_timer_made_due_by_a_callback_waits_for_the_next_tick(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(lambda: loop.call_at(0, seen.append, "timer"))
    turn(loop)
    assert seen == []
    turn(loop)
    assert seen == ["timer"]


def test_calls_during_the_wait_come_before_timers(loop: Loop) -> None:
    """Both are due when the loop, which waits, gets to run again: it lacks the GIL until then."""
    seen: list[str] = []
    waiting = threading.Event()
    due = loop.time() + 0.25  # By then the other thread has begun, on a busy machine, too.

    def interrupt() -> None:
        waiting.wait()  # The loop's thread lets go of the GIL only when it waits.
        loop.call_soon_threadsafe(seen.append, "thread")
        while loop.time() < due + 0.01:
            pass

    interval = sys.getswitchinterval()
    sys.setswitchinterval(10)
    try:
        thread = threading.Thread(target=interrupt)
        thread.start()
        loop.call_at(due, seen.append, "timer")
        loop.call_at(due, loop.stop)
        loop.call_soon(waiting.set)
        loop.run_forever()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert seen == ["thread", "timer"]
