"""`gather()`, `wait()` and `TaskGroup` as asyncio has them, before the switch and after it.

Random programs are in test_random_groups.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from support.primitives import BOTH, behind_names_if
from support.tasks import nothing
from support.ticks import pause

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop

GROUPS = sys.version_info >= (3, 11)
with_groups = pytest.mark.skipif(not GROUPS, reason="TaskGroup is of Python 3.11")
TaskGroup: Any = getattr(asyncio, "TaskGroup", None)


@pytest.fixture(params=BOTH, autouse=True)
def switch(request: pytest.FixtureRequest) -> Iterator[str]:
    with behind_names_if(request.param):
        yield request.param


class Awaitable:
    def __init__(self, make: Any) -> None:
        self.make = make

    def __await__(self) -> Any:
        return self.make().__await__()


async def give(value: Any, ticks: int = 0) -> Any:
    await pause(ticks)
    return value


async def test_what_gather_returns(loop: Loop) -> None:
    outer: Any = asyncio.gather(give(1), give(2, 1), loop.create_task(give(3)))
    assert isinstance(outer, asyncio.Future)
    assert type(outer).__name__ == "_GatheringFuture"
    assert outer.get_loop() is loop
    assert "gather.<locals>._done_callback" in repr(outer._children[0])
    assert [child.done() for child in outer._children] == [False] * 3
    assert await outer == [1, 2, 3]
    assert not outer.cancel()


async def test_gather_of_nothing(loop: Loop) -> None:
    outer: Any = asyncio.gather()
    assert outer.done()
    assert await outer == []
    assert await asyncio.gather(return_exceptions=True) == []


async def test_gather_of_the_same_twice(loop: Loop) -> None:
    coro = give("once", 1)
    future: asyncio.Future[str] = loop.create_future()
    loop.call_soon(future.set_result, "set")
    assert await asyncio.gather(coro, future, coro, future) == ["once", "set", "once", "set"]

    class Equal(Awaitable):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        def __hash__(self) -> int:
            return 1

    awaitables = [Equal(lambda: give("equal")), Equal(None)]
    assert await asyncio.gather(*awaitables) == ["equal", "equal"]


async def test_what_gather_refuses(loop: Loop, new_loop: Callable[[], Loop]) -> None:
    other = new_loop().create_future()
    here = loop.create_future()
    with pytest.raises(ValueError, match="belongs to a different loop"):
        asyncio.gather(here, other)
    with pytest.raises(TypeError, match="awaitable is required"):
        asyncio.gather(here, 5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="unhashable"):
        asyncio.gather([])  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        asyncio.gather(here, loop=loop)  # type: ignore[call-overload]
    here.set_result(None)


def test_gather_outside_of_a_running_loop(loop: Loop) -> None:
    tasks = [loop.create_task(give(value)) for value in range(3)]
    outer = asyncio.gather(*tasks, tasks[0])
    assert loop.run_until_complete(outer) == [0, 1, 2, 0]
    # The first one says which loop, also to coroutines.
    outer = asyncio.gather(loop.create_task(give("first")), give("second"))
    assert loop.run_until_complete(outer) == ["first", "second"]


async def test_errors_that_nobody_asks_for(loop: Loop) -> None:
    """Only the first is told; the others count as seen."""

    async def fail(text: str, ticks: int) -> None:
        await pause(ticks)
        raise ValueError(text)

    with pytest.raises(ValueError, match="first"):
        await asyncio.gather(fail("second", 2), fail("first", 1), fail("third", 3))
    await pause(4)
    outcome = await asyncio.gather(fail("a", 1), give(2), fail("b", 0), return_exceptions=True)
    assert [str(each) for each in outcome] == ["a", "2", "b"]
    gc.collect()


@pytest.mark.parametrize("collection", [list, tuple, set, frozenset, iter, dict.fromkeys])
async def test_what_wait_is_given(loop: Loop, collection: Any) -> None:
    tasks = [loop.create_task(give(value, value)) for value in range(4)]
    done, pending = await asyncio.wait(collection(tasks))
    assert done == set(tasks)
    assert pending == set()
    assert not any(task._callbacks for task in tasks)


async def test_what_wait_refuses(loop: Loop) -> None:
    future = loop.create_future()
    with pytest.raises(ValueError, match="empty"):
        await asyncio.wait([])
    with pytest.raises(ValueError, match="Invalid return_when value: sometime"):
        await asyncio.wait([future], return_when="sometime")
    with pytest.raises(TypeError, match="expect a list of futures"):
        await asyncio.wait(future)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        await asyncio.wait([future], 1)  # type: ignore[call-overload]
    assert inspect.iscoroutinefunction(asyncio.wait)


async def test_wait_with_a_timeout(loop: Loop) -> None:
    never, soon = loop.create_future(), loop.create_task(give(1))
    done, pending = await asyncio.wait([never, soon], timeout=0.001)
    assert (done, pending) == ({soon}, {never})
    assert not never._callbacks
    done, pending = await asyncio.wait([never, soon], timeout=0)
    assert (done, pending) == ({soon}, {never})
    done, pending = await asyncio.wait([soon], timeout=1000)
    assert (done, pending) == ({soon}, set())
    never.cancel()


async def test_wait_that_is_cancelled(loop: Loop) -> None:
    futures = [loop.create_future() for _ in range(3)]
    waiting = loop.create_task(asyncio.wait(futures, timeout=1000))
    await pause()
    assert all(len(future._callbacks or ()) == 1 for future in futures)
    waiting.cancel()
    await pause(2)
    assert waiting.cancelled()
    assert not any(future._callbacks or future.done() for future in futures)


@with_groups
async def test_groups_know_their_tasks(loop: Loop) -> None:
    async with TaskGroup() as group:
        first = group.create_task(give(1, 1), name="first")
        second = group.create_task(coro=give(2, 2))
        assert first.get_name() == "first"
        assert group._tasks == {first, second}
        assert first.remove_done_callback(group._on_task_done) == 1
        first.add_done_callback(group._on_task_done)
        variable = contextvars.ContextVar("variable", default=0)
        context = contextvars.copy_context()
        context.run(variable.set, 5)

        async def look() -> int:
            return variable.get()

        third = group.create_task(look(), context=context)
    assert (first.result(), second.result(), third.result()) == (1, 2, 5)
    assert not group._tasks
    with pytest.raises(TypeError):
        group.create_task()
    with pytest.raises(RuntimeError, match="is finished"):
        group.create_task(coro := give(1))
    coro.close()
    with pytest.raises(RuntimeError, match="has not been entered"):
        TaskGroup().create_task(coro := give(1))
    coro.close()
    with pytest.raises(TypeError):
        TaskGroup(1)


@with_groups
async def test_groups_of_the_programs_own(loop: Loop) -> None:
    class Own(TaskGroup):  # type: ignore[misc]
        def __init__(self, note: str) -> None:
            super().__init__()
            self.notes = [note]

        def create_task(self, coro: Any, **options: Any) -> Any:
            self.notes.append("made")
            return super().create_task(coro, **options)

        def _on_task_done(self, task: Any) -> None:
            self.notes.append("done")
            super()._on_task_done(task)

    async with Own("begun") as group:
        group.create_task(give(1))
        group.create_task(give(1))
    assert group.notes == ["begun", "made", "made", "done", "done"]


@with_groups
async def test_methods_of_groups_that_are_replaced(loop: Loop) -> None:
    with mock.patch.object(TaskGroup, "_on_task_done", autospec=True) as replaced:
        group = TaskGroup()
        assert type(group) is TaskGroup
        replaced.side_effect = lambda group, task: group._tasks.discard(task)
        async with group:
            task = group.create_task(give(1))
            await task
            await pause()
    replaced.assert_called_once_with(group, task)


async def test_create_task_replaced_on_the_loop(loop: Loop) -> None:
    made = []

    def create_task(coro: Any, **options: Any) -> Any:
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    loop.create_task = create_task  # type: ignore[method-assign]
    try:
        await asyncio.gather(give(1), give(2))
        if GROUPS:
            async with TaskGroup() as group:
                group.create_task(give(3))
    finally:
        del loop.create_task
    assert len(made) == (3 if GROUPS else 2)


async def test_what_the_queue_shows(loop: Loop) -> None:
    """Callbacks that lie in it natively are handles to who looks, and run in their places."""
    log: list[str] = []
    tasks = [loop.create_task(give(index)) for index in range(3)]
    for index, task in enumerate(tasks):
        task.add_done_callback(lambda _, index=index: log.append(f"{index}"))  # type: ignore[misc]
    outer = asyncio.gather(*tasks)
    outer.add_done_callback(lambda _: log.append("outer"))
    await pause()
    ready = getattr(loop, "_ready", None)
    if ready is not None:
        callbacks = [handle._callback for handle in list(ready)]
        names = [getattr(callback, "__qualname__", "") for callback in callbacks]
        assert names.count("gather.<locals>._done_callback") == 3
    await outer
    assert log == ["0", "1", "2", "outer"]


async def test_debug_mode_that_comes_late(loop: Loop) -> None:
    outer = asyncio.gather(*[give(index, 1) for index in range(3)])
    waited = loop.create_task(asyncio.wait([loop.create_task(give(index)) for index in range(3)]))
    await pause()
    loop.set_debug(True)
    await pause()
    loop.set_debug(False)
    assert await outer == [0, 1, 2]
    assert len((await waited)[0]) == 3


@pytest.mark.parametrize("what", ["gather", "wait", *(["group"] if GROUPS else [])])
async def test_nothing_keeps_them(loop: Loop, what: str) -> None:
    """Neither when they have ended nor, in a cycle, when they never will."""

    class Thing:
        pass

    async def keep(thing: Any, future: Any) -> Any:
        return await future

    async def use(*awaitables: Any) -> None:
        if what == "gather":
            await asyncio.gather(*awaitables)
        elif what == "wait":
            await asyncio.wait([loop.create_task(each) for each in awaitables])
        else:
            async with TaskGroup() as group:
                for each in awaitables:
                    group.create_task(each)

    thing = Thing()
    watch = weakref.ref(thing)
    future = loop.create_future()
    loop.call_soon(future.set_result, None)
    await use(keep(thing, future), keep(thing, future), nothing())
    del thing
    gc.collect()
    assert watch() is None

    thing = Thing()
    watch = weakref.ref(thing)
    messages: list[str] = []
    loop.set_exception_handler(lambda _, context: messages.append(context["message"]))
    task = loop.create_task(use(keep(thing, loop.create_future()), nothing()))
    await pause(3)
    del thing, task
    gc.collect()
    await pause()
    gc.collect()
    with contextlib.suppress(AttributeError):
        loop.set_exception_handler(None)
    assert watch() is None
    assert set(messages) <= {"Task was destroyed but it is pending!"}


# What a program does to those who are told.


async def test_children_taken_away(loop: Loop) -> None:
    """asyncio's error then is of the child that was told."""
    for empty in (False, True):
        children = (give(number, number) for number in range(3))
        outer = asyncio.gather(*children, return_exceptions=True)
        await pause()
        outer.cancel()
        if empty:
            outer._children.clear()  # type: ignore[attr-defined]
        with pytest.raises(asyncio.CancelledError):
            await outer


@with_groups
async def test_context_of_what_a_group_calls(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of who has made the task: what the task sets is not seen."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    class Future(asyncio.Future):  # type: ignore[type-arg]
        def set_result(self, result: Any) -> None:
            seen.append(variable.get())
            super().set_result(result)

    async def child() -> None:
        variable.set("of the child")

    async def program() -> None:
        async with TaskGroup() as group:
            group.create_task(child())
            monkeypatch.setattr(loop, "create_future", lambda: Future(loop=loop))

    await loop.create_task(program())
    assert seen == ["unset"]


@pytest.mark.parametrize("look", ["nothing", "debug", "_ready"])
async def test_a_task_that_begins_again(loop: Loop, look: str) -> None:
    """While those who wait for its first end are still to be told: they are, or hear of it.

    Since Python 3.15 it is refused, and they are told of the first end.
    """
    if look == "_ready" and not hasattr(loop, "_ready"):
        pytest.skip("asyncio's and ours only")
    is_refused = sys.version_info >= (3, 15)
    tasks = [loop.create_task(give(number)) for number in range(3)]
    outer = asyncio.gather(*tasks)
    if not is_refused:
        loop.set_exception_handler(lambda _loop, _context: None)
    looked = []

    def begin_again() -> None:
        again = give(9)
        if is_refused:
            with pytest.raises(RuntimeError, match="already initialized"):
                tasks[0].__init__(again, loop=loop)  # type: ignore[misc]
            again.close()
        else:
            tasks[0].__init__(again, loop=loop)  # type: ignore[misc]
        if look == "debug":
            loop.set_debug(True)
        elif look == "_ready":
            assert list(loop._ready)  # type: ignore[attr-defined]
        looked.append(look)

    loop.call_soon(begin_again)
    await pause(3)
    loop.set_debug(False)
    assert looked == [look]
    assert [task.done() for task in tasks] == [True] * 3
    if is_refused:
        assert await outer == [0, 1, 2]
    outer.cancel()
    await pause()
