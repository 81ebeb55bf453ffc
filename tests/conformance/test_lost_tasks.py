"""Which tasks `asyncio.all_tasks()` has while one is ended that nobody refers to any more."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.primitives import BOTH, behind_names_if
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]

pytestmark = pytest.mark.parametrize("ours", BOTH)

# From then on the interpreter itself has a list of tasks, which are in it while they are garbage.
has_set = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="Python 3.14 finds tasks that are garbage"
)


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    """But those that the test asks for."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def hang() -> None:
    await asyncio.get_running_loop().create_future()


async def lose(loop: Loop, *names: str, what: Any = hang) -> None:
    """Makes tasks in cycles that nothing else refers to."""
    for name in names:
        loop.create_task(what()).set_name(name)
    await pause(3)


class Names:
    """Calls for a handler or a weak reference: the names of tasks that are found by each."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.before = {it.get_name() for it in asyncio.all_tasks(loop)}
        self.seen: list[set[str]] = []

    def __call__(self, *_: object) -> None:
        names = {it.get_name() for it in asyncio.all_tasks(self.loop)}
        self.seen.append(names - self.before)


@has_set
async def test_reports_find_no_other_that_is_garbage(loop: Loop, ours: str) -> None:
    with behind_names_if(ours):
        names = Names(loop)
        loop.set_exception_handler(names)
        await lose(loop, "a", "b")
        gc.collect()
        assert names.seen == [set(), set()]


@has_set
async def test_a_weak_reference_that_is_cleared_finds_its_task_no_more(
    loop: Loop, ours: str
) -> None:
    with behind_names_if(ours):
        names = Names(loop)
        loop.set_exception_handler(lambda *_: None)
        task = loop.create_task(hang())
        await pause(2)
        reference = weakref.ref(task, names)
        del task
        gc.collect()
        assert reference() is None
        assert names.seen == [set()]


@has_set
async def test_each_of_several_at_one_address_is_found_no_more(loop: Loop, ours: str) -> None:
    with behind_names_if(ours):
        names = Names(loop)
        loop.set_exception_handler(names)
        for _ in range(4):
            await lose(loop, "lost")
            gc.collect()
        assert names.seen == [set()] * 4


async def test_clearing_finds_none_that_is_cleared(loop: Loop, ours: str) -> None:
    """What runs while the collector clears a task can ask for all tasks."""
    with behind_names_if(ours):
        names = Names(loop)
        loop.set_exception_handler(lambda *_: None)
        references = []

        async def cancelled() -> None:
            # Has weak references, and is not followed by the collector: they tell of the clearing.
            message = compile("1", "<message>", "eval")
            references.append(weakref.ref(message, names))
            task = asyncio.current_task()
            assert task is not None
            task.cancel(message)
            del message, task
            try:
                await hang()
            except asyncio.CancelledError:
                pass
            await hang()

        await lose(loop, "lost", what=cancelled)
        assert [it() is None for it in references] == [False]
        gc.collect()
        assert [it() is None for it in references] == [True]
        assert names.seen == [set()]


@pytest.mark.filterwarnings("ignore:coroutine 'hang' was never awaited")
async def test_a_report_finds_its_task_and_may_keep_it(
    loop: Loop, new_loop: NewLoop, ours: str
) -> None:
    with behind_names_if(ours):
        kept = []
        found = []

        def handler(loop: Loop, context: dict[str, Any]) -> None:
            kept.append(context["task"])
            found.append(kept[-1] in asyncio.all_tasks(loop))

        loop.set_exception_handler(handler)
        other = new_loop()
        other.set_exception_handler(handler)
        task = other.create_task(hang())
        other.close()  # And with that what refers to the task.
        del task
        gc.collect()
        assert found == [True]
        assert kept[0] in asyncio.all_tasks(other)
        kept.clear()
        gc.collect()
        assert not asyncio.all_tasks(other)
