"""The set behind `asyncio.all_tasks()`, with native functions in the place of two in Python."""

from __future__ import annotations

import asyncio
import copy
import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.loops import STOCK_ONLY
from support.primitives import BOTH, behind_names_if
from support.ticks import pause

Loop = asyncio.AbstractEventLoop

needs_ours = pytest.mark.skipif(
    STOCK_ONLY or not hasattr(weakref.WeakSet(), "_iterating"),
    reason="is about oxlip's functions, which the simpler set of newer Pythons does not need",
)


class Item:
    """Stands for a task."""


class Sets:
    """A set with native functions beside one without; both see the same items, by number."""

    def __init__(self) -> None:
        from oxlip import _task_set

        self.plain: weakref.WeakSet[Item] = weakref.WeakSet()
        self.native: weakref.WeakSet[Item] = weakref.WeakSet()
        assert _task_set.make_native(self.native)
        self.items: dict[int, Item] = {}
        self.walks: list[Iterator[Item]] = []

    def add(self, number: int) -> None:
        item = self.items.setdefault(number, Item())
        self.plain.add(item)
        self.native.add(item)

    def free(self, number: int) -> None:
        self.items.pop(number, None)

    def discard(self, number: int) -> None:
        if item := self.items.get(number):
            self.plain.discard(item)
            self.native.discard(item)

    def clear(self, _: int) -> None:
        self.plain.clear()
        self.native.clear()

    def walk(self, _: int) -> None:
        """Begins to go through both: what is freed meanwhile leaves later."""
        for each in (self.plain, self.native):
            walk = iter(each)
            next(walk, None)
            self.walks.append(walk)

    def end_walks(self, _: int) -> None:
        self.walks.clear()

    def check(self) -> None:
        assert len(self.plain) == len(self.native)
        assert len(self.plain._pending_removals) == len(self.native._pending_removals)  # type: ignore[attr-defined]
        for item in self.items.values():
            assert (item in self.plain) == (item in self.native)


STEPS = ["add", "add", "free", "discard", "clear", "walk", "end_walks"]


@needs_ours
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 4)), max_size=40))
def test_same_as_without(steps: list[tuple[str, int]]) -> None:
    sets = Sets()
    for step, number in steps:
        getattr(sets, step)(number)
        sets.check()
    sets.end_walks(0)
    sets.check()


@needs_ours
def test_what_cannot_be_kept_weakly() -> None:
    from oxlip import _task_set

    tasks: weakref.WeakSet[Any] = weakref.WeakSet()
    assert _task_set.make_native(tasks)
    with pytest.raises(TypeError, match="weak reference"):
        tasks.add(1)
    assert len(tasks) == 0


@needs_ours
def test_set_goes_with_its_functions() -> None:
    from oxlip import _task_set

    tasks: weakref.WeakSet[Item] = weakref.WeakSet()
    assert _task_set.make_native(tasks)
    assert not _task_set.make_native(tasks), "has them"
    item = Item()
    tasks.add(item)
    alive = weakref.ref(tasks)
    del tasks
    gc.collect()
    assert alive() is None
    del item


@pytest.mark.skipif(STOCK_ONLY, reason="is about oxlip's functions")
def test_other_set_is_left_alone() -> None:
    """As that of Python 3.14 is, which has no list of what is to leave later."""
    from oxlip import _task_set

    tasks: Any = weakref.WeakSet()
    vars(tasks).pop("_iterating", None)
    assert not _task_set.make_native(tasks)
    assert "add" not in vars(tasks)
    assert not _task_set.make_native(None)


@pytest.mark.parametrize("ours", BOTH)
async def test_all_tasks(loop: Loop, ours: str) -> None:
    async def wait() -> None:
        await asyncio.sleep(3600)

    with behind_names_if(ours):
        before = asyncio.all_tasks()
        tasks = [asyncio.ensure_future(wait()) for _ in range(10)]
        assert asyncio.all_tasks() - before == set(tasks)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.wait(tasks[::2])
        assert asyncio.all_tasks() - before == set(tasks[1::2])
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("ours", BOTH)
async def test_freed_task_leaves_no_trace(loop: Loop, ours: str) -> None:
    from_asyncio: Any = asyncio.tasks

    async def nothing() -> None:
        pass

    with behind_names_if(ours):
        kept = getattr(from_asyncio, "_scheduled_tasks", None)
        kept = from_asyncio._all_tasks if kept is None else kept
        gc.collect()
        before = len(kept.data)
        await asyncio.gather(*[nothing() for _ in range(20)])
        # The task that has waited still knows what it was woken by.
        await pause(2)
        gc.collect()
        assert len(kept.data) == before


async def test_tasks_of_both_kinds_are_found(loop: Loop) -> None:
    """Made before the switch, and after it."""

    async def wait() -> None:
        await asyncio.sleep(3600)

    before = asyncio.all_tasks()
    tasks = [asyncio.ensure_future(wait())]
    for ours in BOTH:
        with behind_names_if(ours):
            tasks.append(asyncio.ensure_future(wait()))
            assert asyncio.all_tasks() - before == set(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize("ours", BOTH)
async def test_set_knows_the_tasks_however_it_is_asked(loop: Loop, ours: str) -> None:
    async def wait() -> None:
        await asyncio.sleep(3600)

    from_asyncio: Any = asyncio.tasks
    with behind_names_if(ours):
        kept = getattr(from_asyncio, "_scheduled_tasks", None)
        kept = from_asyncio._all_tasks if kept is None else kept
        gc.collect()
        if sys.version_info >= (3, 14):
            pytest.skip("this Python keeps its own tasks elsewhere")
        before = len(kept)
        tasks = [asyncio.ensure_future(wait()) for _ in range(4)]
        assert tasks[0] in kept
        tasks.append(asyncio.ensure_future(wait()))
        assert len(kept) == before + 5
        tasks.append(asyncio.ensure_future(wait()))
        assert kept >= set(tasks)
        tasks.append(asyncio.ensure_future(wait()))
        kept.discard(tasks[-1])
        assert tasks[-1] not in asyncio.all_tasks()
        kept.add(tasks[-1])
        assert tasks[-1] in asyncio.all_tasks()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("ours", BOTH)
async def test_copies_of_the_set_have_its_tasks(loop: Loop, ours: str) -> None:
    async def wait() -> None:
        await asyncio.sleep(3600)

    from_asyncio: Any = asyncio.tasks
    with behind_names_if(ours):
        kept = getattr(from_asyncio, "_scheduled_tasks", None)
        kept = from_asyncio._all_tasks if kept is None else kept
        gc.collect()
        if sys.version_info >= (3, 14):
            pytest.skip("this Python keeps its own tasks elsewhere")
        other: weakref.WeakSet[Any] = weakref.WeakSet()
        tasks = set(kept)
        for copied in (
            kept.copy,
            lambda: copy.copy(kept),
            lambda: kept | set(),
            lambda: kept.union(other),
            lambda: other | kept,
            lambda: other.union(kept),
            lambda: kept - other,
            lambda: kept.difference([]),
            lambda: kept ^ other,
            lambda: kept & list(tasks),
            lambda: kept.intersection(asyncio.all_tasks() | tasks),
            lambda: weakref.WeakSet(kept),
        ):
            tasks.add(asyncio.ensure_future(wait()))
            assert set(copied()) == tasks
        tasks.add(asyncio.ensure_future(wait()))
        before = kept.copy()
        assert before == kept
        assert not kept - before
        tasks.add(task := asyncio.ensure_future(wait()))
        assert task not in before
        assert len(before) == len(tasks) - 1
        assert before < kept
        assert set(kept - before) == set(kept ^ before) == {task}
        assert not before - kept
        before.clear()
        assert set(kept) == tasks
        own = tasks - {asyncio.current_task()}
        for task in own:
            task.cancel()
        await asyncio.wait(own)


@pytest.mark.parametrize("ours", BOTH)
async def test_looked_for_while_a_task_ends(loop: Loop, ours: str) -> None:
    """By the callback of a weak reference, and by what the task was the last to refer to."""
    seen: list[set[Any]] = []

    class Look:
        def __del__(self) -> None:
            seen.append(asyncio.all_tasks(loop))

    async def work(look: Look) -> Look:
        await asyncio.sleep(0)
        return look

    with behind_names_if(ours):
        me = asyncio.current_task()
        for _ in range(3):
            others = [asyncio.ensure_future(asyncio.sleep(3600)) for _ in range(3)]
            task = asyncio.ensure_future(work(Look()))
            end = weakref.ref(task, lambda _: seen.append(asyncio.all_tasks(loop)))
            await pause(4)
            assert task.done()
            del task
            await pause(2)
            gc.collect()
            assert end() is None
            assert len(seen) == 2
            for each in seen:
                assert each == {me, *others}
            seen.clear()
            del each
            for other in others:
                other.cancel()
            await asyncio.wait(others)
            del other, others


@pytest.mark.parametrize("ours", BOTH)
async def test_pending_tasks_that_are_collected(loop: Loop, ours: str) -> None:
    """Whoever looks for tasks while the collector ends some gets none that is half gone."""
    said: list[str] = []

    def handler(_: Loop, context: dict[str, Any]) -> None:
        assert all(task.get_loop() is loop for task in asyncio.all_tasks(loop))
        said.append(context["message"])

    async def wait() -> None:
        await loop.create_future()

    loop.set_exception_handler(handler)
    with behind_names_if(ours):
        for _ in range(5):
            loop.create_task(wait())
        await pause(2)
        gc.collect()
        assert len(asyncio.all_tasks(loop)) == 1
    assert said == ["Task was destroyed but it is pending!"] * 5


@pytest.mark.parametrize("ours", BOTH)
async def test_derived_task_whose_end_looks_for_tasks(loop: Loop, ours: str) -> None:
    """While a slot of it is emptied, nobody refers to it."""
    seen: list[int] = []

    class Look:
        def __del__(self) -> None:
            seen.append(len(asyncio.all_tasks(loop)))

    async def nothing() -> None:
        pass

    with behind_names_if(ours):

        class Derived(asyncio.Task):  # type: ignore[type-arg]
            __slots__ = ("look",)

        for _ in range(3):
            task: Any = Derived(nothing(), loop=loop)
            task.look = Look()
            await task
            await pause(2)
            del task
            gc.collect()
    assert seen == [1, 1, 1]


@pytest.mark.parametrize("name", [None, "a name"])
async def test_create_task_by_keyword(loop: Loop, name: str | None) -> None:
    async def nothing() -> int:
        return 1

    task: Any = loop.create_task(coro=nothing(), name=name)
    assert (task.get_name() == name) == (name is not None)
    assert await task == 1


async def test_create_task_with_wrong_arguments(loop: Loop) -> None:
    async def nothing() -> None:
        pass

    create_task: Any = loop.create_task
    coro = nothing()
    with pytest.raises(TypeError):
        create_task()
    with pytest.raises(TypeError):
        create_task(coro, "name")
    with pytest.raises(TypeError):
        create_task(coro, coro=coro)
    with pytest.raises(TypeError, match=r"unexpected keyword|invalid keyword"):
        create_task(coro, wrong=1)
    with pytest.raises(TypeError):
        create_task(coro, loop=loop)
    with pytest.raises(TypeError, match="coroutine was expected"):
        create_task(None)
    coro.close()


@needs_ours
def test_many_tasks_while_some_are_to_leave(loop: Loop) -> None:
    # What is freed while somebody goes through the set leaves it later. No task is lost by that.
    from oxlip import _task_set

    with behind_names_if("oxlip"):
        tasks: Any = _task_set.task_set()

        async def forever() -> None:
            await loop.create_future()

        async def main() -> None:
            mine = [asyncio.ensure_future(forever()) for _ in range(3)]
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 4
            walk = iter(tasks)
            next(walk)
            for task in mine:
                task.cancel()
            await asyncio.gather(*mine, return_exceptions=True)
            del task
            mine.clear()
            await pause(2)  # until nothing refers to them
            gc.collect()
            assert tasks._pending_removals
            mine += [asyncio.ensure_future(forever()) for _ in range(2000)]
            walk.close()  # type: ignore[attr-defined]
            assert len(asyncio.all_tasks()) == 2001
            for task in mine:
                task.cancel()
            await asyncio.gather(*mine, return_exceptions=True)

        loop.run_until_complete(main())
