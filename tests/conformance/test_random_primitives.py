"""Our locks and queues beside asyncio's: the same random calls and cancellations, step by step.

Each step writes down what was returned and raised, and the attributes. What asyncio's class does is
expected of ours.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.loops import STOCK_ONLY
from support.ticks import pause

if STOCK_ONLY:
    pytest.skip("without oxlip", allow_module_level=True)

import oxlip

TICKS = st.tuples(st.just("pause"), st.integers(1, 3))
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 3))
# So many that wait for each other, before the rest.
CROWD = st.sampled_from([0, 1, 3, 5])
OF_LOCKS = st.one_of(
    TICKS,
    CANCEL,
    st.sampled_from([("acquire",), ("release",), ("with", 0), ("with", 1), ("with", 2)]),
)
OF_EVENTS = st.one_of(
    TICKS, CANCEL, st.sampled_from([("wait",), ("wait",), ("set",), ("clear",), ("is_set",)])
)
OF_CONDITIONS = st.one_of(
    TICKS,
    CANCEL,
    st.tuples(st.just("notify"), st.sampled_from([-1, 0, 1, 2, 1.5, True])),
    st.sampled_from([("acquire",), ("release",), ("with", 0), ("with", 2), ("notify_all",)]),
    st.sampled_from([("wait within", 0), ("wait within", 0), ("wait within", 2), ("wait",)]),
)
OF_QUEUES = st.one_of(
    TICKS,
    CANCEL,
    st.tuples(st.sampled_from(["put", "put_nowait"]), st.integers(0, 9)),
    st.sampled_from([("get",), ("get",), ("get_nowait",), ("task_done",), ("join",)]),
    st.sampled_from([("full",), ("empty",), ("qsize",), ("shutdown", False), ("shutdown", True)]),
)
# Who is woken and then cancelled in the same tick passes it on.
PASSED_ON = st.sampled_from(
    [
        [("put_nowait", 1), ("cancel", 0), ("pause", 2)],
        [("get_nowait",), ("cancel", 0), ("pause", 2)],
        [("release",), ("cancel", 0), ("pause", 2)],
        [("set",), ("clear",), ("cancel", 0), ("pause", 2)],
        [("acquire",), ("pause", 2), ("notify", 1), ("cancel", 0), ("pause", 2), ("release",)],
        [("acquire",), ("pause", 2), ("notify", 2), ("pause", 2), ("cancel", 0), ("cancel", 1)],
    ]
)


def sequences(acts: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    parts = st.lists(st.one_of(acts.map(lambda act: [act]), PASSED_ON), max_size=30)
    return parts.map(lambda parts: [act for part in parts for act in part])


async def play(thing: Any, acts: list[Any]) -> list[Any]:
    """Does it all, and tells everything that could be seen."""
    seen: list[Any] = []
    tasks: list[asyncio.Task[None]] = []

    async def within(ticks: int) -> None:
        async with thing as nothing:
            seen.append(("in", len(tasks), nothing))
            await pause(ticks)

    async def wait_within(ticks: int) -> Any:
        async with thing:
            try:
                return await thing.wait()
            finally:
                seen.append(("after", thing.locked()))
                await pause(ticks)

    async def noting(number: int, call: Callable[..., Any], *arguments: Any) -> None:
        try:
            seen.append((number, await call(*arguments)))
        except BaseException as error:
            seen.append((number, repr(error), repr(error.__context__)))
            raise

    for name, *arguments in acts:
        if name == "pause":
            await pause(*arguments)
        elif name == "cancel":
            left = [task for task in tasks if not task.done()]
            if left:
                left[arguments[0] % len(left)].cancel(f"in step {len(seen)}")
        elif name == "with":
            tasks.append(asyncio.ensure_future(noting(len(tasks), within, *arguments)))
        elif name == "wait within":
            tasks.append(asyncio.ensure_future(noting(len(tasks), wait_within, *arguments)))
        elif inspect.iscoroutinefunction(call := getattr(thing, name, None)):
            tasks.append(asyncio.ensure_future(noting(len(tasks), call, *arguments)))
        elif call is not None:
            try:
                seen.append((name, call(*arguments)))
            except Exception as error:
                seen.append((name, repr(error)))
        seen.append(state(thing))
    for task in tasks:
        task.cancel()
    while not all(task.done() for task in tasks):
        if hasattr(thing, "_lock") and thing.locked():
            thing.release()  # Who waited for a condition wants it first, cancelled or not.
        await pause()
    await asyncio.gather(*tasks, return_exceptions=True)
    return [*seen, state(thing)]


def state(thing: Any) -> dict[str, Any]:
    """Its attributes; of futures whether they are done or cancelled."""
    names = ("_locked", "_value", "_waiters", "_queue", "_getters", "_putters", "_unfinished_tasks")
    shown = {name: getattr(thing, name) for name in names if hasattr(thing, name)}
    for name, value in shown.items():
        if name in ("_waiters", "_getters", "_putters") and value is not None:
            shown[name] = [(waiter.done(), waiter.cancelled()) for waiter in value]
        elif name == "_queue":
            shown[name] = list(value)
    if hasattr(thing, "_lock"):
        shown["lock"] = state(thing._lock)
    if hasattr(thing, "_finished"):
        shown["finished"] = thing._finished.is_set()
        shown["text"] = thing._format()
    else:
        shown["text"] = repr(thing).partition("[")[2]
    return shown


def compare(make_stock: Callable[[], Any], make_ours: Callable[[], Any], acts: list[Any]) -> None:
    outcomes = []
    for make in (make_stock, make_ours):
        loop = asyncio.SelectorEventLoop()
        try:

            async def main(make: Callable[[], Any] = make) -> list[Any]:
                return await play(make(), acts)

            outcomes.append(loop.run_until_complete(main()))
        finally:
            loop.close()
    assert outcomes[0] == outcomes[1]


@given(CROWD, sequences(OF_LOCKS))
def test_same_lock_as_asyncios(crowd: int, acts: list[Any]) -> None:
    compare(asyncio.Lock, oxlip.Lock, [*[("acquire",)] * crowd, ("pause", 1), *acts])


@given(CROWD, sequences(OF_EVENTS))
def test_same_event_as_asyncios(crowd: int, acts: list[Any]) -> None:
    compare(asyncio.Event, oxlip.Event, [*[("wait",)] * crowd, ("pause", 1), *acts])


@given(CROWD, sequences(OF_CONDITIONS))
def test_same_condition_as_asyncios(crowd: int, acts: list[Any]) -> None:
    acts = [*[("wait within", 0)] * crowd, ("pause", 2), *acts]
    compare(asyncio.Condition, oxlip.Condition, acts)


@given(CROWD, st.integers(0, 3), st.booleans(), sequences(OF_LOCKS))
def test_same_semaphore_as_asyncios(crowd: int, value: int, bounded: bool, acts: list[Any]) -> None:
    stock, ours = asyncio.Semaphore, oxlip.Semaphore
    if bounded:
        stock, ours = asyncio.BoundedSemaphore, oxlip.BoundedSemaphore  # type: ignore[assignment]
    acts = [*[("acquire",)] * crowd, ("pause", 1), *acts]
    compare(lambda: stock(value), lambda: ours(value), acts)


@given(CROWD, st.booleans(), st.sampled_from([-1, 0, 1, 2, 3]), sequences(OF_QUEUES))
def test_same_queue_as_asyncios(crowd: int, getters: bool, size: int, acts: list[Any]) -> None:
    waiting = [("get",) if getters else ("put", number) for number in range(crowd)]
    compare(lambda: asyncio.Queue(size), lambda: oxlip.Queue(size), [*waiting, ("pause", 1), *acts])
