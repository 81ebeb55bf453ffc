"""Handles that have run are used again. One that a program had found meanwhile among the objects
of the collector became another call's, which could then be cancelled by mistake, or not at all."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop
Schedule = Callable[[Loop, Callable[[], None]], asyncio.Handle]
SCHEDULE: dict[str, Schedule] = {
    "soon": lambda loop, callback: loop.call_soon(callback),
    "in a context": lambda loop, callback: loop.call_soon(callback, context=contextvars.Context()),
    "later": lambda loop, callback: loop.call_later(0, callback),
}


def handles(running: Callable[[], None] | None = None) -> list[Any]:
    """Those that wait for nothing any more, and the running one."""
    found: list[Any] = [it for it in gc.get_objects() if isinstance(it, asyncio.Handle)]
    return [handle for handle in found if handle._callback in (running, None)]


async def passed(loop: Loop) -> None:
    """All that is due now has been called."""
    waiter = loop.create_future()
    loop.call_later(0.001, waiter.set_result, None)
    await waiter


@pytest.fixture(params=["scheduled before the run", "scheduled in the run"])
def before(request: pytest.FixtureRequest) -> bool:
    return request.param == "scheduled before the run"  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", SCHEDULE)
def test_a_handle_that_was_found_stands_for_no_other_call(
    loop: Loop, how: str, before: bool
) -> None:
    looked = loop.create_future()
    called: list[int] = []

    def look() -> None:
        looked.set_result(handles(look))

    async def go_on() -> None:
        if not before:
            SCHEDULE[how](loop, look)
        found = await looked
        for number in range(5):
            SCHEDULE[how](loop, lambda number=number: called.append(number))  # type: ignore[misc]
        for handle in found:
            handle.cancel()
        found.clear()
        await passed(loop)

    if before:
        SCHEDULE[how](loop, look)
    loop.run_until_complete(go_on())
    assert called == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("how", SCHEDULE)
def test_handles_after_all_were_cancelled_can_be_cancelled(
    loop: Loop, how: str, before: bool
) -> None:
    looked = loop.create_future()
    called: list[int] = []

    def cancel_all() -> None:
        for handle in handles(cancel_all):
            handle.cancel()
        looked.set_result(None)

    async def go_on() -> None:
        if not before:
            SCHEDULE[how](loop, cancel_all)
        await looked
        made = [
            SCHEDULE[how](loop, lambda number=number: called.append(number))  # type: ignore[misc]
            for number in range(5)
        ]
        assert not any(handle.cancelled() for handle in made)
        made[1].cancel()
        made[3].cancel()
        await passed(loop)

    if before:
        SCHEDULE[how](loop, cancel_all)
    loop.run_until_complete(go_on())
    assert called == [0, 2, 4]


def test_a_handle_that_was_found_before_it_is_used_again(loop: Loop) -> None:
    """It lies empty in the loop."""
    called: list[int] = []

    async def go_on() -> None:
        await passed(loop)
        await asyncio.sleep(0)
        found = handles()
        made = [loop.call_soon(called.append, 1) for _ in range(5)]
        made += [loop.call_later(0, called.append, 1) for _ in range(5)]
        for handle in found:
            handle.cancel()
        assert not any(handle.cancelled() for handle in made)
        await passed(loop)

    for _ in range(5):
        loop.call_soon(int)
        loop.call_later(0, int)
    loop.run_until_complete(go_on())
    assert len(called) == 10


def test_weak_references_to_more_than_are_kept(loop: asyncio.AbstractEventLoop) -> None:
    """The loop's state was borrowed while one too many was dropped, whose end called the loop."""
    called: list[object] = []
    references = []

    def ended(reference: object) -> None:
        called.append(loop.call_soon(called.append, 1))

    def find() -> None:
        for seen in gc.get_objects():
            if isinstance(seen, asyncio.Handle) and getattr(seen, "_callback", 1) is None:
                references.append(weakref.ref(seen, ended))

    for _ in range(3000):
        loop.call_soon(len, "")
    loop.call_soon(find)
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0))
    assert all(isinstance(one, (int, asyncio.Handle)) for one in called)
