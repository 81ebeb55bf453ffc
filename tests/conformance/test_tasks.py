"""create_task, create_future and the task factory."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest
from support.ticks import pause, turn

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop
number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


async def nothing() -> None: ...


async def test_types(loop: Loop) -> None:
    task = loop.create_task(nothing())
    assert type(task) is asyncio.Task
    assert type(loop.create_future()) is asyncio.Future
    assert task.get_loop() is loop
    assert loop.create_future().get_loop() is loop
    await task


async def test_all_and_current_task(loop: Loop) -> None:
    task = loop.create_task(nothing())
    assert asyncio.all_tasks() == {task, asyncio.current_task()}
    await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_name(loop: Loop) -> None:
    task = loop.create_task(nothing(), name="chosen")
    assert task.get_name() == "chosen"
    assert loop.create_task(nothing()).get_name().startswith("Task-")
    await pause()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the argument came with 3.11")
async def test_context(loop: Loop) -> None:
    async def increment() -> None:
        number.set(number.get() + 1)
        await asyncio.sleep(0)
        number.set(number.get() + 1)

    context = contextvars.copy_context()
    await loop.create_task(increment(), context=context)
    assert context[number] == 2
    await loop.create_task(increment())
    assert number.get() == 0, "without one the task works on a copy"


async def test_tasks_take_turns(loop: Loop) -> None:
    seen: list[tuple[str, int]] = []

    async def steps(name: str) -> None:
        for step in range(3):
            seen.append((name, step))
            await asyncio.sleep(0)

    await asyncio.gather(steps("a"), steps("b"))
    assert seen == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]


async def test_futures_wake_in_the_order_they_were_awaited(loop: Loop) -> None:
    future = loop.create_future()
    seen: list[int] = []

    async def wait(value: int) -> None:
        await future
        seen.append(value)

    tasks = [loop.create_task(wait(value)) for value in range(10)]
    await pause()
    future.set_result(None)
    await asyncio.gather(*tasks)
    assert seen == list(range(10))


async def test_done_callbacks_run_in_the_next_tick(loop: Loop) -> None:
    future = loop.create_future()
    seen: list[Any] = []
    future.add_done_callback(seen.append)
    future.set_result(None)
    assert seen == []
    await pause()
    assert seen == [future]


async def test_cancellation(loop: Loop) -> None:
    async def wait() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("cleaned")

    seen: list[str] = []
    task = loop.create_task(wait())
    await pause()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert seen == ["cleaned"]


def test_error_that_nobody_retrieves(loop: Loop, contexts: list[dict[str, Any]]) -> None:
    async def fail() -> None:
        raise ValueError("on purpose")

    task = loop.create_task(fail())
    turn(loop, ticks=2)
    del task
    gc.collect()
    (context,) = contexts
    assert context["message"] == "Task exception was never retrieved"
    assert isinstance(context["exception"], ValueError)
    contexts.clear()


def test_a_pending_task_that_is_destroyed(loop: Loop, contexts: list[dict[str, Any]]) -> None:
    async def main() -> None:
        await loop.create_future()

    task = loop.create_task(main())
    turn(loop, ticks=2)
    watch = weakref.ref(task)
    del task
    gc.collect()
    (context,) = contexts
    assert context["message"] == "Task was destroyed but it is pending!"
    # The report has brought the task back, which weak references outlive since 3.15.
    contexts.clear()
    del context
    gc.collect()
    assert watch() is None, "only the future that nobody holds kept it"


async def test_task_factory(loop: Loop) -> None:
    made: list[Any] = []

    class Special(asyncio.Task[Any]):
        pass

    def factory(
        loop: Loop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        made.append((coroutine, options))
        return Special(coroutine, loop=loop, **options)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(nothing(), name="named")
    assert type(task) is Special
    assert task.get_name() == "named"
    await task
    assert made[0][0] is task.get_coro()
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    assert type(loop.create_task(nothing())) is asyncio.Task
    await pause()


def test_task_factory_must_be_callable(loop: Loop) -> None:
    with pytest.raises(TypeError, match="task factory must be a callable"):
        loop.set_task_factory(5)  # type: ignore[arg-type]


async def test_task_factory_that_fails(loop: Loop) -> None:
    def factory(loop: Loop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> Any:
        coroutine.close()
        raise LookupError("on purpose")

    loop.set_task_factory(factory)
    try:
        with pytest.raises(LookupError):
            loop.create_task(nothing())
    finally:
        loop.set_task_factory(None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
class TestEager:
    async def test_runs_at_once(self, loop: Loop) -> None:
        seen: list[Any] = []

        async def body() -> str:
            seen.append(asyncio.current_task())
            return "result"

        caller = asyncio.current_task()
        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(body())
        assert seen == [task]
        assert task.done()
        assert asyncio.current_task() is caller
        assert await task == "result"

    async def test_that_waits_goes_on_later(self, loop: Loop) -> None:
        future = loop.create_future()

        async def body() -> Any:
            return await future

        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(body())
        assert not task.done()
        assert task in asyncio.all_tasks()
        future.set_result(3)
        assert await task == 3

    async def test_that_raises(self, loop: Loop) -> None:
        async def body() -> None:
            raise ValueError("on purpose")

        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(body())
        assert task.done()
        with pytest.raises(ValueError, match="on purpose"):
            await task

    def test_in_a_callback(self, loop: Loop) -> None:
        seen: list[bool] = []
        loop.set_task_factory(asyncio.eager_task_factory)
        loop.call_soon(lambda: seen.append(loop.create_task(nothing()).done()))
        turn(loop)
        assert seen == [True]


async def test_call_soon_of_the_instance_is_used_by_tasks(loop: Loop) -> None:
    calls: list[Any] = []
    original = loop.call_soon

    def replaced(callback: Any, *arguments: Any, context: Any = None) -> asyncio.Handle:
        calls.append(callback)
        return original(callback, *arguments, context=context)

    loop.call_soon = replaced  # type: ignore[method-assign]
    try:
        await loop.create_task(asyncio.sleep(0))
    finally:
        del loop.call_soon  # type: ignore[method-assign]
    assert calls


async def test_gather_wait_and_queues(loop: Loop) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(2)

    async def produce() -> None:
        for value in range(50):
            await queue.put(value)

    async def consume() -> list[int]:
        return [await queue.get() for _ in range(50)]

    _, consumed = await asyncio.gather(produce(), consume())
    assert consumed == list(range(50))
    done, pending = await asyncio.wait(
        [loop.create_task(nothing()), loop.create_task(asyncio.sleep(3600))],
        return_when=asyncio.FIRST_COMPLETED,
    )
    assert len(done) == len(pending) == 1
    pending.pop().cancel()
