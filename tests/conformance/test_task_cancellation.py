"""Futures and tasks of ours are cancelled.

Everything here runs with asyncio's classes and with ours, on every loop.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from support.protocols import PATIENCE
from support.tasks import awaits, makes_ours, native_tasks
from support.ticks import pause, turn

if not native_tasks():
    pytest.skip("without tasks of ours", allow_module_level=True)

import oxlip

pytestmark = [pytest.mark.sim, pytest.mark.usefixtures("classes")]

Loop = asyncio.AbstractEventLoop
Contexts = list[dict[str, Any]]


async def test_cancel_messages(loop: Loop) -> None:
    future = loop.create_future()
    assert future.cancel("why")
    assert not future.cancel()
    with pytest.raises(asyncio.CancelledError, match="why"):
        await future

    sleeping = loop.create_task(asyncio.sleep(PATIENCE))
    unbegun = loop.create_task(asyncio.sleep(PATIENCE))
    await pause()
    late = loop.create_task(asyncio.sleep(PATIENCE))
    for task in (sleeping, unbegun, late):
        task.cancel("a reason")
        assert task.cancelling() == 1
        with pytest.raises(asyncio.CancelledError, match="a reason"):
            await task
        assert task.cancelled()
        assert not task.cancel()


async def test_cancelled_in_its_last_step(loop: Loop) -> None:
    async def end() -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("too late")
        return 5

    task = loop.create_task(end())
    with pytest.raises(asyncio.CancelledError, match="too late"):
        await task


async def test_cancelled_before_it_waits(loop: Loop) -> None:
    future = loop.create_future()

    async def wait() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await future

    with pytest.raises(asyncio.CancelledError):
        await loop.create_task(wait())
    assert future.cancelled()


async def test_uncancel(loop: Loop) -> None:
    rounds = []

    async def stubborn() -> str:
        for _ in range(2):
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                rounds.append((task.cancelling(), task.uncancel()))
        return "done"

    task = loop.create_task(stubborn())
    for _ in range(2):
        await pause()
        assert task.cancel()
    assert await task == "done"
    assert rounds == [(1, 0), (1, 0)]


async def test_chain_of_tasks_is_cancelled(loop: Loop) -> None:
    future = loop.create_future()
    task: asyncio.Task[Any] = loop.create_task(awaits(future))
    chain = [task]
    for _ in range(10):
        chain.append(task := loop.create_task(awaits(task)))
    await pause(2)
    chain[-1].cancel("all")
    with pytest.raises(asyncio.CancelledError, match="all"):
        await chain[-1]
    assert all(link.cancelled() for link in chain)
    assert future.cancelled()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_tasks_that_wait_for_each_other(
    loop: Loop, kind: str, classes: str, count: int, contexts: Contexts
) -> None:
    """There is no end to cancelling them, but not the end of the process either."""
    tasks: list[asyncio.Task[Any]] = []

    async def wait(index: int) -> None:
        await tasks[(index + 1) % count]

    class Derived(oxlip.Task[Any]):
        pass

    # asyncio's own may overflow the stack.
    make: Any = loop.create_task if makes_ours(kind, classes) else Derived
    options = {} if makes_ours(kind, classes) else {"loop": loop}
    tasks += [make(wait(index), **options) for index in range(count)]
    turn(loop)
    with pytest.raises(RecursionError):
        tasks[0].cancel()
    loop.close()
    tasks.clear()
    gc.collect()
    assert {context["message"] for context in contexts} == {"Task was destroyed but it is pending!"}
    contexts.clear()


async def test_long_chain_is_cancelled(loop: Loop, kind: str, classes: str) -> None:
    future = loop.create_future()
    task: asyncio.Task[Any] = loop.create_task(awaits(future))
    for _ in range(30_000 if makes_ours(kind, classes) else 100):
        task = loop.create_task(awaits(task))
    await pause(2)
    task.cancel("all")
    with pytest.raises(asyncio.CancelledError, match="all"):
        await task
