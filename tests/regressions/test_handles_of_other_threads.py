"""Handles that other threads schedule are used again by later calls, unless a program still has
them or has found them meanwhile; and a burst's memory is given back."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support import loops, patience

Loop = asyncio.AbstractEventLoop
BURST = 20_000


async def in_thread(function: Callable[[], Any]) -> Any:
    """Its result, while the loop does nothing else; no executor, which would schedule more."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(function())
        finally:
            loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=work)
    thread.start()
    await done
    thread.join()
    return results[0]


async def while_it_waits(function: Callable[[], Any]) -> Any:
    """Its result, from a thread that has ended before the loop goes on and runs what was scheduled;
    then the loop has slept, too."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    await asyncio.sleep(0.001)
    return results[0]


async def burst(callback: Callable[[int], Any], count: int) -> None:
    loop = asyncio.get_running_loop()

    def schedule() -> None:
        for number in range(count):
            loop.call_soon_threadsafe(callback, number)

    await in_thread(schedule)
    await asyncio.sleep(0.001)  # a loop that sleeps has lent what is used


@pytest.mark.parametrize("count", [3, 300, 3000])
async def test_every_call_is_made_in_order(loop: Loop, count: int) -> None:
    called: list[int] = []
    for _ in range(4):
        called.clear()
        await burst(called.append, count)
        assert called == list(range(count))


async def test_a_handle_that_is_kept_stands_for_no_other_call(loop: Loop) -> None:
    called: list[int] = []

    def schedule(first: int) -> list[asyncio.Handle]:
        return [
            loop.call_soon_threadsafe(called.append, number) for number in range(first, first + 200)
        ]

    await burst(len_of_nothing, 200)
    first = await while_it_waits(lambda: schedule(0))
    second = await while_it_waits(lambda: schedule(200))
    assert called == list(range(400))
    assert len({id(handle) for handle in first + second}) == 400

    def cancel_the_past() -> list[asyncio.Handle]:
        third = schedule(400)
        for handle in first + second:
            handle.cancel()
        assert not any(handle.cancelled() for handle in third)
        assert all(handle.cancelled() for handle in first + second)
        third[7].cancel()
        return third

    third = await while_it_waits(cancel_the_past)
    assert called == [number for number in range(600) if number != 407]
    assert [handle.cancelled() for handle in third].count(True) == 1


def len_of_nothing(_number: int) -> int:
    return 0


def found_in(loop: Loop) -> list[Any]:
    """The empty handles that the loop keeps, as the collector shows them."""
    found: list[Any] = [it for it in gc.get_referents(loop) if isinstance(it, asyncio.Handle)]
    return [handle for handle in found if handle._callback is None]


@pytest.mark.parametrize("let_go", [False, True])
async def test_a_handle_that_was_found_stands_for_no_other_call(loop: Loop, let_go: bool) -> None:
    called: list[int] = []
    await burst(len_of_nothing, 20)

    def schedule() -> list[asyncio.Handle]:
        found = found_in(loop)
        if let_go:
            while found:
                found.pop().cancel()
        made = [loop.call_soon_threadsafe(called.append, number) for number in range(20)]
        for handle in found:
            handle.cancel()
        assert not any(handle.cancelled() for handle in made)
        made[4].cancel()
        return made

    await while_it_waits(schedule)
    assert called == [number for number in range(20) if number != 4]


async def test_contexts_and_arguments_of_the_last_call_are_gone(loop: Loop) -> None:
    class Argument:
        alive = 0

        def __init__(self) -> None:
            Argument.alive += 1

        def __del__(self) -> None:
            Argument.alive -= 1

    def schedule() -> None:
        for _ in range(50):
            loop.call_soon_threadsafe(id, Argument())

    for _ in range(3):
        await while_it_waits(schedule)
        gc.collect()
        assert Argument.alive == 0


async def test_the_memory_of_a_burst_is_given_back_by_a_loop_that_sleeps(loop: Loop) -> None:
    """Natively counted handles, in builds that count."""

    def alive() -> int:
        return loops.live_objects().get("Handle", 0)

    before = alive()

    def schedule() -> None:
        for number in range(BURST):
            loop.call_soon_threadsafe(len_of_nothing, number)

    for _ in range(2):
        await while_it_waits(schedule)

    def look() -> int:
        deadline = time.monotonic() + 20 * patience.FACTOR
        while alive() - before > 3000 and time.monotonic() < deadline:
            time.sleep(0.01)
        return alive() - before

    assert await in_thread(look) <= 3000


def test_nothing_is_kept_when_the_loop_stops(loop: Loop) -> None:
    before = loops.live_objects().get("Handle", 0)
    loop.run_until_complete(burst(len_of_nothing, 5000))
    loop.run_until_complete(burst(len_of_nothing, 10))
    gc.collect()
    assert loops.live_objects().get("Handle", 0) - before <= 5
