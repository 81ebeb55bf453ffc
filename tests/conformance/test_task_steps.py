"""How tasks of ours go on: in which order and context, and who sees it.

Everything here runs with asyncio's classes and with ours, on every loop.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.protocols import PATIENCE
from support.tasks import awaits, fail, native_tasks, nothing
from support.ticks import pause, turn

if not native_tasks():
    pytest.skip("without tasks of ours", allow_module_level=True)

import oxlip

pytestmark = [pytest.mark.sim, pytest.mark.usefixtures("classes")]

Loop = asyncio.AbstractEventLoop
number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


async def test_each_awaits_the_other(loop: Loop) -> None:
    for make in (loop.create_future, lambda: asyncio.Future(loop=loop)):
        for make_task in (loop.create_task, lambda coro: asyncio.Task(coro, loop=loop)):
            future: Any = make()  # type: ignore[no-untyped-call]
            task: Any = make_task(awaits(future))
            outer = loop.create_task(awaits(task))
            await pause(2)
            assert task._fut_waiter is future
            future.set_result(7)
            assert await outer == 7
            cancelled = make()  # type: ignore[no-untyped-call]
            task = make_task(awaits(cancelled))
            await pause()
            task.cancel("both")
            with pytest.raises(asyncio.CancelledError, match="both"):
                await task
            assert cancelled.cancelled()


async def test_order(loop: Loop, kind: str) -> None:
    """A step has the place that call_soon() would have given it, among all others."""
    order: list[Any] = []
    future = loop.create_future()

    async def work(name: str, waits: bool) -> None:
        order.append(f"{name} begins")
        if waits:
            await future
        else:
            await asyncio.sleep(0)
        order.append(f"{name} goes on")

    loop.call_soon(order.append, "first")
    future.add_done_callback(lambda _: order.append("before"))
    tasks = [loop.create_task(work(f"{index}", index % 2 == 0)) for index in range(3)]
    loop.call_soon(order.append, "second")
    stock = asyncio.Task(work("stock", True), loop=loop)
    await pause()
    future.add_done_callback(lambda _: order.append("after"))
    loop.call_soon(future.set_result, None)
    loop.call_soon(order.append, "third")
    await asyncio.gather(*tasks, stock)
    assert order == [
        *("first", "0 begins", "1 begins", "2 begins", "second", "stock begins"),
        *("1 goes on", "third", "before", "0 goes on", "2 goes on", "stock goes on", "after"),
    ]


async def test_all_and_current_task(loop: Loop) -> None:
    seen: list[Any] = []

    async def look() -> None:
        seen.append(asyncio.current_task())
        loop.call_soon(lambda: seen.append(asyncio.current_task()))
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    tasks = [loop.create_task(look()), asyncio.Task(look(), loop=loop), loop.create_task(look())]
    main = asyncio.current_task()
    assert asyncio.all_tasks() == {*tasks, main}
    await asyncio.gather(*tasks)
    assert seen == [*tasks, None, tasks[0], None, tasks[1], None, tasks[2]] or seen == [
        *(tasks),
        *(None, None, None),
        *(tasks),
    ]
    assert asyncio.current_task() is main
    assert asyncio.all_tasks() == {main}


def test_no_entry_is_left(loop: Loop) -> None:
    loop.run_until_complete(pause(3))
    turn(loop)
    assert loop not in asyncio.tasks._current_tasks  # type: ignore[attr-defined]
    assert asyncio.current_task(loop) is None


async def test_contexts(loop: Loop) -> None:
    future = loop.create_future()
    seen = []

    async def work() -> None:
        number.set(number.get() + 1)
        future.add_done_callback(lambda _: seen.append(number.get()))
        await future
        seen.append(number.get())

    number.set(5)
    task = loop.create_task(work())
    number.set(6)
    await pause()
    future.set_result(None)
    await task
    assert seen == [6, 6]
    assert task.get_context()[number] == 6
    context = contextvars.copy_context()
    await loop.create_task(work(), context=context)
    assert context[number] == 7


async def test_callbacks(loop: Loop) -> None:
    future = loop.create_future()
    assert not future._callbacks
    seen: list[Any] = []
    future.add_done_callback(seen.append)
    task = loop.create_task(awaits(future))
    await pause()
    future.add_done_callback(seen.append)
    future.add_done_callback(print)
    shown = future._callbacks
    assert [callback for callback, _ in shown[::2]] == [seen.append, seen.append]  # type: ignore[index]
    wakeup, context = shown[1]  # type: ignore[index]
    assert wakeup.__self__ is task  # type: ignore[attr-defined]
    assert wakeup.__qualname__ == "Task.task_wakeup"
    assert context is task.get_context()
    assert "cb=[" in repr(future)
    assert future.remove_done_callback(seen.append) == 2
    assert future.remove_done_callback(print) == 1
    assert future.remove_done_callback(print) == 0
    assert future.remove_done_callback(wakeup) == 1
    assert not future._callbacks
    future.add_done_callback(wakeup)
    future.set_result(5)
    assert await task == 5
    future.add_done_callback(seen.append)
    await pause()
    assert seen == [future]


async def test_call_soon_of_the_program(loop: Loop) -> None:
    """Whoever replaces it sees every step."""
    calls: list[str] = []
    original = loop.call_soon

    def call_soon(callback: Any, *args: Any, **options: Any) -> Any:
        calls.append(getattr(callback, "__name__", type(callback).__name__))
        return original(callback, *args, **options)

    future = loop.create_future()
    loop.call_soon = call_soon  # type: ignore[method-assign,assignment]
    try:
        task = loop.create_task(awaits(future))
        await pause()
        assert len(calls) == 2
        future.set_result(None)
        await task
    finally:
        del loop.call_soon
    assert "task_wakeup" in " ".join(calls).lower().replace("taskwakeup", "task_wakeup")
    assert len(calls) == 4


def test_steps_in_the_queue(loop: Loop, kind: str) -> None:
    """Who looks into it finds handles, whose callback belongs to the task."""
    task = loop.create_task(nothing())
    (handle,) = loop._ready  # type: ignore[attr-defined]
    assert handle._callback.__self__ is task
    assert isinstance(handle, asyncio.Handle)
    turn(loop)
    assert task.done()


async def test_debug_mode_in_between(
    loop: Loop, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The slow callback is named as the task whose step it is."""
    task = loop.create_task(pause(3), name="slow one")
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.slow_callback_duration = 0
        loop.set_debug(True)
        await pause(3)
        loop.set_debug(False)
    await task
    assert any("slow one" in record.getMessage() for record in caplog.records)


async def test_eager_start(loop: Loop) -> None:
    for make in (asyncio.Task, oxlip.Task):
        began = make(nothing(), loop=loop, eager_start=True)
        assert began.done()
        waits = make(pause(), loop=loop, eager_start=True, name="eager")
        assert not waits.done()
        assert waits in asyncio.all_tasks()
        await waits
        failed = make(fail(KeyError()), loop=loop, eager_start=True)
        assert isinstance(failed.exception(), KeyError)
    assert asyncio.current_task() is not None


@pytest.mark.parametrize("cancelled", [False, True])
def test_threads(new_loop: Callable[[], Loop], kind: str, cancelled: bool) -> None:
    if kind.endswith("sim"):
        pytest.skip("other threads are not of its time")
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for index in range(20):
            if cancelled:
                future = asyncio.run_coroutine_threadsafe(asyncio.sleep(PATIENCE), loop)
                future.cancel()
                assert future.cancelled()
            else:
                answered = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, index), loop)
                assert answered.result(PATIENCE) == index
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
    loop.run_until_complete(pause(3))
