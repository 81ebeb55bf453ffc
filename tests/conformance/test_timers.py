"""call_later and call_at: order, cancellation, precision, handles."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import random
import time
import weakref
from typing import Any

import pytest
from support.loops import live_objects
from support.ticks import turn

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop
number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


def run_until(loop: Loop, when: float) -> None:
    """Runs the loop until that time of its own clock."""
    loop.call_at(when, loop.stop)
    loop.run_forever()


def test_timers_run_in_the_order_of_their_time(loop: Loop) -> None:
    seen: list[int] = []
    start = loop.time() + 0.001
    order = list(range(200))
    random.Random(1).shuffle(order)
    for value in order:
        loop.call_at(start + value * 1e-5, seen.append, value)
    run_until(loop, start + 0.01)
    assert seen == list(range(200))


@pytest.mark.ours
def test_timers_of_the_same_time_run_as_they_were_made(loop: Loop) -> None:
    seen: list[int] = []
    when = loop.time() + 0.001
    for value in range(100):
        loop.call_at(when, seen.append, value)
    run_until(loop, when + 0.001)
    assert seen == list(range(100))


@pytest.mark.parametrize("delay", [0, 1e-9, 1e-6, 1e-4, 0.0009, 0.001, 0.0011, 0.0049])
def test_a_timer_never_fires_early(loop: Loop, delay: float) -> None:
    resolution = time.get_clock_info("monotonic").resolution
    late: list[float] = []
    for _ in range(5):
        handle = loop.call_later(delay, lambda: (late.append(loop.time()), loop.stop()))
        when = handle.when()
        loop.run_forever()
        assert late.pop() >= when - resolution


def test_sleep_is_never_short(loop: Loop) -> None:
    async def main() -> None:
        for delay in (0.0001, 0.0013, 0.002):
            start = loop.time()
            await asyncio.sleep(delay)
            assert loop.time() - start >= delay - 1e-6

    loop.run_until_complete(main())


def test_time_does_not_go_back(loop: Loop) -> None:
    times = [loop.time() for _ in range(100)]
    assert times == sorted(times)
    assert isinstance(times[0], float)


def test_when(loop: Loop) -> None:
    earliest = loop.time() + 5
    handle = loop.call_later(5, print)
    assert earliest <= handle.when() <= loop.time() + 5
    exact = loop.call_at(12345.678, print)
    assert exact.when() == 12345.678
    exact.cancel()
    assert exact.when() == 12345.678, "a cancelled timer still says when"
    handle.cancel()


def test_arguments_and_context(loop: Loop) -> None:
    seen: list[Any] = []
    context = contextvars.copy_context()
    context.run(number.set, 3)
    loop.call_later(0, lambda *args: seen.append(args), 1, 2)
    loop.call_later(0.0001, lambda: seen.append(number.get()), context=context)
    loop.call_at(loop.time() + 0.0002, lambda: seen.append(number.get()))
    run_until(loop, loop.time() + 0.002)
    assert seen == [(1, 2), 3, 0]


def test_cancelled_timer_does_not_run(loop: Loop) -> None:
    seen: list[str] = []
    handle = loop.call_later(0.0001, seen.append, "never")
    assert not handle.cancelled()
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    run_until(loop, loop.time() + 0.001)
    assert seen == []


def test_due_timer_cancelled_earlier_in_its_tick(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_at(1, lambda: second.cancel())
    second = loop.call_at(2, seen.append, "never")
    turn(loop)
    assert seen == []


def test_cancel_after_the_timer_ran(loop: Loop) -> None:
    seen: list[int] = []
    handle = loop.call_at(0, seen.append, 1)
    turn(loop)
    handle.cancel()
    turn(loop)
    assert seen == [1]


def test_cancelled_timers_do_not_delay_nor_wake(loop: Loop) -> None:
    seen: list[str] = []
    start = loop.time()
    for offset in range(50):
        loop.call_later(0.0001 * offset, seen.append, "never").cancel()
    loop.call_later(3600, seen.append, "never").cancel()
    run_until(loop, start + 0.002)
    assert seen == []
    assert loop.time() - start < 5


def test_cancel_frees_callback_and_arguments_at_once(loop: Loop) -> None:
    class Big:
        pass

    big = Big()
    watch = weakref.ref(big)
    handle = loop.call_later(3600, lambda _: None, big)
    del big
    handle.cancel()
    assert watch() is None


def test_many_timers_many_cancelled(loop: Loop) -> None:
    source = random.Random(2)
    seen: list[float] = []
    start = loop.time()
    handles = []
    for _ in range(20_000):
        when = start + source.uniform(0, 0.02)
        handles.append(loop.call_at(when, seen.append, when))
    kept = []
    for handle in handles:
        if source.random() < 0.7:
            handle.cancel()
        else:
            kept.append(handle.when())
    run_until(loop, start + 0.03)
    assert seen == sorted(kept)


def test_cancelled_timers_do_not_pile_up(loop: Loop) -> None:
    class Big:
        alive = 0

        def __init__(self) -> None:
            Big.alive += 1

        def __del__(self) -> None:
            Big.alive -= 1

    async def main() -> None:
        for _ in range(1000):
            loop.call_later(3600, lambda _: None, Big()).cancel()
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    gc.collect()
    assert Big.alive == 0


def test_a_timer_may_schedule_another(loop: Loop) -> None:
    times: list[float] = []

    def again(left: int) -> None:
        times.append(loop.time())
        if left:
            loop.call_later(0.0005, again, left - 1)
        else:
            loop.stop()

    loop.call_later(0, again, 5)
    loop.run_forever()
    assert len(times) == 6
    assert all(later - earlier >= 0.0005 for earlier, later in itertools.pairwise(times))


def test_negative_delay_is_due_at_once(loop: Loop) -> None:
    seen: list[int] = []
    loop.call_later(-5, seen.append, 1)
    turn(loop)
    assert seen == [1]


def test_far_away_timer_does_not_overflow(loop: Loop) -> None:
    seen: list[str] = []
    for delay in (1e6, 1e9, 1e12):
        loop.call_later(delay, seen.append, "never")
    run_until(loop, loop.time() + 0.001)
    assert seen == []


def test_timers_can_be_compared(loop: Loop) -> None:
    early = loop.call_at(loop.time() + 100, print)
    late = loop.call_at(loop.time() + 200, print)
    assert early < late
    assert early <= late
    assert late > early
    assert late >= early
    assert early != late
    assert early == early
    assert isinstance(hash(early), int)
    assert sorted([late, early]) == [early, late]
    early.cancel()
    late.cancel()


def test_invalid_time(loop: Loop) -> None:
    with pytest.raises(TypeError):
        loop.call_later("soon", print)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        loop.call_later(None, print)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        loop.call_at(None, print)  # type: ignore[arg-type]


def test_wait_for_and_timeout_use_the_loop_clock(loop: Loop) -> None:
    async def main() -> None:
        start = loop.time()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.create_future(), 0.002)
        assert loop.time() - start >= 0.002

    loop.run_until_complete(main())


@pytest.mark.ours
def test_cancelled_timer_is_let_go_at_once(loop: Loop) -> None:
    before = live_objects()
    for _ in range(3):
        loop.call_later(3600, int).cancel()
    gc.collect()
    assert live_objects() == before
