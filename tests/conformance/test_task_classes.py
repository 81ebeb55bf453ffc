"""What futures and tasks of ours are, beside asyncio's.

Everything here runs with asyncio's classes and with ours, on every loop.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import io
import sys
from typing import Any

import pytest
from support.protocols import PATIENCE
from support.tasks import awaits, makes_ours, native_tasks, nothing
from support.ticks import pause

if not native_tasks():
    pytest.skip("without tasks of ours", allow_module_level=True)

import oxlip

pytestmark = [pytest.mark.sim, pytest.mark.usefixtures("classes")]

Loop = asyncio.AbstractEventLoop


async def test_types(loop: Loop, kind: str, classes: str) -> None:
    task, future = loop.create_task(nothing()), loop.create_future()
    ours = makes_ours(kind, classes)
    assert type(task) is (oxlip.Task if ours else asyncio.Task)
    assert type(future) is (oxlip.Future if ours else asyncio.Future)
    for made in (task, future):
        assert isinstance(made, asyncio.Future)
        assert asyncio.isfuture(made)
        assert made.get_loop() is loop
    assert isinstance(task, asyncio.Task)
    assert not isinstance(future, asyncio.Task)
    named = asyncio.create_task(nothing(), name="named")
    assert type(named) is type(task)
    assert named.get_name() == "named"
    assert asyncio.ensure_future(task) is task
    await asyncio.gather(task, named)


async def test_not_in_debug_mode(loop: Loop) -> None:
    """There they say where they were made."""
    loop.set_debug(True)
    task, future = loop.create_task(nothing()), loop.create_future()
    loop.set_debug(False)
    assert type(task) is asyncio.Task
    assert type(future) is asyncio.Future
    await task


async def test_replaced_classes_are_made(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.tasks, "Task", asyncio.tasks._PyTask)  # type: ignore[attr-defined]
    task = loop.create_task(nothing())
    assert type(task) is asyncio.tasks._PyTask  # type: ignore[attr-defined]
    await task


@pytest.mark.parametrize("ours", [oxlip.Future, oxlip.Task])
def test_everything_of_asyncios_is_overridden(ours: type[Any]) -> None:
    """What asyncio's own functions would look at is empty, but who waits for it."""
    stock = ours.__mro__[2]
    assert stock.__module__ == "_asyncio"
    same = {"__doc__", "__module__", "__new__", "__class_getitem__", "_asyncio_awaited_by"}
    for name in vars(stock).keys() - same:
        owner = next(cls for cls in ours.__mro__ if name in vars(cls))
        assert owner is not stock, name
    for name in vars(asyncio.Future).keys() | vars(asyncio.Task).keys():
        assert hasattr(ours, name) == hasattr(stock, name), name


async def test_asyncios_own_functions_on_ours(loop: Loop) -> None:
    """They find an object that was not initialised."""
    future = oxlip.Future(loop=loop)
    task = oxlip.Task(nothing(), loop=loop)
    for made, stock in ((future, asyncio.Future), (task, asyncio.Task)):
        for name, function in vars(stock).items():
            if name in ("__init__", "__new__", "__class_getitem__", "__doc__", "__module__"):
                continue
            for arguments in ((), (None,)):
                try:
                    if callable(function):
                        function(made, *arguments)
                    else:
                        function.__get__(made)
                except (RuntimeError, TypeError, asyncio.InvalidStateError):
                    pass
    assert not future.done()
    await task


async def test_asyncios_init_on_ours(loop: Loop) -> None:
    """Nonsense, and nothing is lost or freed twice."""
    task = oxlip.Task(nothing(), loop=loop)
    asyncio.Task.__init__(task, nothing(), loop=loop)
    await task
    await pause(3)


@pytest.mark.skipif(sys.version_info < (3, 15), reason="it can be done before 3.15")
async def test_initialised_again(loop: Loop) -> None:
    future, task, coro = loop.create_future(), loop.create_task(nothing()), nothing()
    with pytest.raises(RuntimeError, match=r"Future object is already initialized"):
        future.__init__(loop=loop)  # type: ignore[misc]
    with pytest.raises(RuntimeError, match=r"Task object is already initialized"):
        task.__init__(coro, loop=loop)  # type: ignore[misc]
    coro.close()
    await task


@pytest.mark.skipif(sys.version_info < (3, 15), reason="anything goes before 3.15")
async def test_no_context(loop: Loop) -> None:
    coro = nothing()
    for context in (1, ""):
        with pytest.raises(TypeError, match=r"a contextvars.Context was expected, got (int|str)"):
            loop.create_task(coro, context=context)  # type: ignore[arg-type]
    coro.close()


def test_not_initialised() -> None:
    for ours in (oxlip.Future, oxlip.Task):
        made = ours.__new__(ours)
        assert not made.done()
        assert not made.cancelled()
        for method in ("get_loop", "__repr__", "__await__"):
            with pytest.raises(RuntimeError, match="not initialized"):
                getattr(made, method)()
        for method in ("result", "exception"):
            with pytest.raises(asyncio.InvalidStateError):
                getattr(made, method)()


def test_the_class_in_between() -> None:
    for ours in (oxlip.Future, oxlip.Task):
        between: Any = ours.__mro__[1]

        class Derived(between):  # type: ignore[misc]
            pass

        for cls in (between, Derived):
            with pytest.raises(TypeError):
                cls.__new__(cls)


async def test_derived_classes(loop: Loop) -> None:
    seen = []

    class Own(oxlip.Future[int]):
        def add_done_callback(self, fn: Any, *, context: Any = None) -> None:
            seen.append("added")
            super().add_done_callback(fn, context=context)

    class OwnTask(oxlip.Task[int]):
        def __init__(self, coro: Any, *, more: int, **options: Any) -> None:
            super().__init__(coro, **options)
            self.more = more

        def cancel(self, msg: Any = None) -> bool:
            seen.append("cancelled")
            return super().cancel(msg)

    future = Own(loop=loop)

    async def wait() -> int:
        return await future

    task = OwnTask(wait(), loop=loop, more=1)
    await pause()
    future.set_result(5)
    assert await task == 5
    assert task.more == 1
    sleeping = OwnTask(asyncio.sleep(PATIENCE), loop=loop, more=2)  # type: ignore[arg-type]
    await pause()
    waiting = loop.create_task(awaits(sleeping))
    await pause()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert seen == ["added", "cancelled"]


async def test_class_is_as_fixed_as_asyncios(loop: Loop, kind: str, classes: str) -> None:
    from_asyncio: Any = asyncio.tasks
    base: Any = oxlip.Task if makes_ours(kind, classes) else asyncio.Task
    other_base: Any = asyncio.Task if base is oxlip.Task else oxlip.Task

    class Plain(base):  # type: ignore[misc]
        pass

    class Alike(base):  # type: ignore[misc]
        def cancel(self, *args: Any) -> bool:
            cancels.append(self)
            return bool(super().cancel(*args))

    class WithSlot(base):  # type: ignore[misc]
        __slots__ = ("slot",)

    class OfFuture(type(loop.create_future())):  # type: ignore[misc]
        pass

    class OfOther(other_base):  # type: ignore[misc]
        pass

    cancels: list[Any] = []
    fixed = [
        *(asyncio.Task, asyncio.Future, from_asyncio._PyTask, oxlip.Task, oxlip.Future),
        *(OfOther, object, int),
    ]
    future: Any = loop.create_future()
    task: Any = loop.create_task(awaits(loop.create_future()))
    derived: Any = Plain(awaits(loop.create_future()), loop=loop)
    for other in (*fixed, Plain, Alike, WithSlot):
        with pytest.raises(TypeError, match="__class__ assignment"):
            task.__class__ = other
    with pytest.raises(TypeError, match="__class__ assignment"):
        future.__class__ = OfFuture
    for made in (type(task), type(future)):
        with pytest.raises(TypeError, match="immutable type"):
            made.attribute = 1
    for other in (*fixed, WithSlot):
        with pytest.raises(TypeError, match="__class__ assignment"):
            derived.__class__ = other
    await pause(1)
    # What Python lets a program do with classes of its own.
    derived.__class__ = Alike
    assert type(derived) is Alike
    assert {task, derived} <= asyncio.all_tasks()
    assert task.cancel() and derived.cancel()
    assert cancels == [derived]
    await asyncio.wait([task, derived])
    assert task.cancelled() and derived.cancelled()
    derived.__class__ = Plain
    assert repr(derived).startswith("<Plain cancelled ")


async def test_attributes_and_names(loop: Loop) -> None:
    task: Any = loop.create_task(pause(), name=5)  # type: ignore[arg-type]
    assert task.get_name() == "5"
    task.set_name("six")
    assert task.get_name() == "six"
    assert "name='six'" in repr(task)
    assert task.get_coro().__name__ == "pause"
    assert task._coro is task.get_coro()
    assert task._state == "PENDING"
    assert (task._must_cancel, task._fut_waiter, task._loop) == (False, None, loop)
    task.anything = 1
    for method in ("set_result", "set_exception"):
        with pytest.raises(RuntimeError, match=f"Task does not support {method} operation"):
            getattr(task, method)(None)
    assert task.get_stack()
    printed = io.StringIO()
    task.print_stack(file=printed)
    assert "pause" in printed.getvalue()
    await task
    assert task._state == "FINISHED"
    assert task._result is None
    numbered = [loop.create_task(nothing()).get_name() for _ in range(2)]
    first, second = (int(name.removeprefix("Task-")) for name in numbered)
    assert second == first + 1
    assert type(task)[int] == type(task)[int]
    await pause()
