"""Random programs with a `gather()`, a `wait()` or a `TaskGroup`, of asyncio's and of ours.

They must tell the same in the same order, and so must those that are cancelled at each step.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.primitives import behind_asyncios_names
from support.tasks import native_tasks
from support.ticks import turn

if not native_tasks():
    pytest.skip("without tasks of ours", allow_module_level=True)

import oxlip

Loop = asyncio.AbstractEventLoop

FUTURES = 3
TICKS = 30
ENDS = (
    *("return", "return", "return", "raise", "cancel", "future", "stubborn", "late error"),
    *("interrupt", "exit", "spawn"),
)
FORMS = ("coroutine", "coroutine", "task", "future", "stock future", "stock task", "awaitable")
ACTIONS = (
    *("cancel main", "cancel main", "cancel outer", "cancel child", "look", "look in the queue"),
    *("set result", "set exception", "cancel future", "callback", "no callback", "look at debug"),
)

Child = tuple[str, int, str]
Action = tuple[int, str, int]
children = st.lists(
    st.tuples(st.sampled_from(FORMS), st.integers(0, 3), st.sampled_from(ENDS)),
    min_size=1,
    max_size=5,
)
actions = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from(ACTIONS), st.integers(0, 4)), max_size=6
)


class Awaitable:
    def __init__(self, make: Any) -> None:
        self.make = make

    def __await__(self) -> Any:
        return self.make().__await__()


def described(outcome: Any) -> Any:
    """Without addresses."""
    if isinstance(outcome, BaseException):
        inner = [described(error) for error in getattr(outcome, "exceptions", ())]
        return type(outcome).__name__, outcome.args[:1], sorted(inner, key=repr)
    if isinstance(outcome, (list, tuple)):
        return [described(each) for each in outcome]
    if isinstance(outcome, asyncio.Future):
        return "future"
    return outcome


class World:
    """A loop, some futures, and one call of `gather()` or `wait()`, or a group."""

    def __init__(self, loop: Loop, kind: str, option: int, eager: bool) -> None:
        self.loop = loop
        self.kind = kind
        self.option = option
        self.log: list[Any] = []
        self.complaints: list[str] = []
        loop.set_exception_handler(lambda _, context: self.complaints.append(context["message"]))
        if eager:
            loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        self.futures = [loop.create_future() for _ in range(FUTURES)]
        self.stock = [asyncio.Future(loop=loop) for _ in range(FUTURES)]
        self.children: list[Any] = []
        self.coros: list[Any] = []
        self.outer: Any = None
        self.group: Any = None
        self.main: Any = None

    def note(self, *what: Any) -> None:
        self.log.append(what)

    async def child(self, index: int, ticks: int, end: str) -> Any:
        try:
            for _ in range(ticks):
                await asyncio.sleep(0)
            return await self.end_of_child(index, end)
        except asyncio.CancelledError as error:
            self.note("child", index, "cancelled", error.args)
            if end == "stubborn":
                await asyncio.sleep(0)
                return "stubborn"
            if end == "late error":
                raise ValueError(f"late {index}") from None
            raise
        finally:
            self.note("child", index, "ends")

    async def end_of_child(self, index: int, end: str) -> Any:
        if end == "raise":
            raise ValueError(index)
        if end == "cancel":
            raise asyncio.CancelledError(f"own {index}")
        if end == "interrupt":
            raise KeyboardInterrupt
        if end == "exit":
            raise SystemExit(index)
        if end in ("future", "stubborn", "late error"):
            return await (self.stock if index % 2 else self.futures)[index % FUTURES]
        if end == "spawn" and self.group is not None:
            self.spawn(index + 10, ("coroutine", 1, "return"))
        return index

    def spawn(self, index: int, child: Child) -> None:
        _, ticks, end = child
        coro = self.child(index, ticks, end)
        try:
            name = f"named {index}" if index % 2 else None
            self.children.append(self.group.create_task(coro, name=name))
        except RuntimeError as error:
            self.note("refused", str(error).partition(" is ")[2])
            coro.close()

    def made(self, index: int, child: Child) -> Any:
        form, ticks, end = child
        if form == "future":
            return self.futures[index % FUTURES]
        if form == "stock future":
            return self.stock[index % FUTURES]
        if form == "awaitable" and self.kind == "gather":
            return Awaitable(lambda: self.child(index, ticks, end))
        coro = self.child(index, ticks, end)
        self.coros.append(coro)
        if form == "task" or self.kind == "wait":
            return self.loop.create_task(coro)
        if form == "stock task":
            return asyncio.Task(coro, loop=self.loop)
        return coro

    async def run(self, children: list[Child]) -> None:
        try:
            self.note("main", "got", described(await self.use(children)))
        except GeneratorExit:
            raise  # Of a group that was never told of a task's end.
        except BaseException as error:
            self.note("main", "raised", described(error))
            task = asyncio.current_task()
            assert task is not None
            self.note("cancelling", task.cancelling())  # type: ignore[attr-defined]
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                raise

    async def use(self, children: list[Child]) -> Any:
        if self.kind == "group":
            async with asyncio.TaskGroup() as self.group:
                for index, child in enumerate(children):
                    self.spawn(index, child)
                if self.option == 1:
                    await self.futures[0]
                if self.option == 2:
                    raise LookupError("of the body")
            return "end of the group"
        made = [self.made(index, child) for index, child in enumerate(children)]
        if len(made) > 2:
            made.append(made[1])
        if self.kind == "gather":
            self.outer = asyncio.gather(*made, return_exceptions=self.option == 0)
            self.children = list(self.outer._children)
            return await self.outer
        self.children = list(made)
        when = (asyncio.ALL_COMPLETED, asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION)
        given = (list, set, tuple)[len(made) % 3](made)
        done, pending = await asyncio.wait(given, return_when=when[self.option])
        return [(each in done, each in pending) for each in made]

    def act(self, action: str, index: int) -> None:
        future = (self.futures if index % 2 else self.stock)[index % FUTURES]
        child = self.children[index % len(self.children)] if self.children else None
        if action == "cancel main":
            self.note(action, self.main.cancel(f"by {index}"))
        elif action == "cancel outer" and self.outer is not None:
            self.note(action, self.outer.cancel(f"outer by {index}"))
        elif action == "cancel child" and child is not None:
            self.note(action, child.cancel(f"child by {index}"))
        elif action == "look":
            self.look()
        elif action == "look in the queue":
            self.note(action, len(self.loop._ready))  # type: ignore[attr-defined]
            handles = list(self.loop._ready)  # type: ignore[attr-defined]
            self.note([hasattr(handle, "_callback") for handle in handles])
        elif action == "look at debug":
            self.loop.set_debug(not self.loop.get_debug())
        elif action == "callback" and child is not None:
            child.add_done_callback(lambda done: self.note("called back", index, done._state))
        elif action == "no callback" and child is not None and self.group is not None:
            self.note(action, child.remove_done_callback(self.group._on_task_done))
        elif action in ("set result", "set exception") and not future.done():
            if action == "set result":
                future.set_result(index)
            else:
                future.set_exception(ValueError(f"of future {index}"))
        elif action == "cancel future":
            self.note(action, future.cancel(f"future by {index}"))

    def look(self) -> None:
        known = ("_done_callback", "_on_completion", "_on_task_done")
        for child in [*self.children, *self.futures, *self.stock]:
            names = [
                getattr(callback, "__qualname__", "") for callback, _ in child._callbacks or ()
            ]
            names = [name for name in names if name.rpartition(".")[2] in known]
            self.note(child._state, names, child._log_traceback)
        if self.group is not None:
            group = self.group
            errors = described(group._errors)
            self.note(repr(group), len(group._tasks), sorted(errors or (), key=repr))
            self.note(group._exiting, group._aborting, group._parent_cancel_requested)
            self.note(group._on_completed_fut is not None)

    def turn(self) -> None:
        try:
            turn(self.loop)
        except (KeyboardInterrupt, SystemExit) as error:
            self.note("the loop was left by", type(error).__name__)

    def end(self) -> None:
        for round_ in range(12):
            everything = [*self.futures, *self.stock, *self.children, self.main]
            for made in [*everything, *asyncio.all_tasks(self.loop)]:
                made.cancel(f"at the end {round_}")
            for _ in range(5):
                self.note("tick", "at the end")
                self.turn()
        self.look()
        for child in [*self.children, self.main]:
            if child.cancelled():
                self.note("cancelled")
            elif child.done():
                self.note(described(child.exception() or child.result()))
            else:
                self.note("not done")
        for coro in self.coros:
            # Another one, eager, has ended the loop before it was begun.
            if inspect.getcoroutinestate(coro) == inspect.CORO_CREATED:
                coro.close()
        self.loop.close()


def told(loop: Loop, kind: str, option: int, eager: bool, children: Any, actions: Any) -> Any:
    world = World(loop, kind, option, eager)
    world.main = loop.create_task(world.run(children))
    for tick in range(TICKS):
        world.note("tick", tick)
        for when, action, index in actions:
            if when == tick:
                world.act(action, index)
        world.turn()
    world.end()
    log, complaints = world.log, world.complaints
    del world
    gc.collect()
    return in_order(log) if kind == "group" else log, sorted(complaints)


def in_order(log: list[Any]) -> list[Any]:
    """With each tick sorted: a group cancels its tasks in the order of their addresses."""
    ticks: list[list[Any]] = [[]]
    for entry in log:
        if entry[0] == "tick":
            ticks.append([])
        ticks[-1].append(entry)
    return [sorted(tick, key=repr) for tick in ticks]


def check(*program: Any) -> None:
    expected = told(asyncio.SelectorEventLoop(), *program)
    assert told(oxlip.EventLoop("sim"), *program) == expected
    with behind_asyncios_names():
        assert told(oxlip.EventLoop("sim"), *program) == expected
        # Futures and tasks of asyncio's, and a loop that calls our callbacks itself.
        assert told(asyncio.SelectorEventLoop(), *program) == expected


KINDS = ("gather", "wait", "group")


@given(st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.booleans(), children, actions))
def test_the_same_is_told(program: Any) -> None:
    check(*program)


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("eager", [False, True])
def test_cancelled_at_each_step(what: str, eager: bool) -> None:
    programs = (
        [("coroutine", 1, "return"), ("task", 2, "return"), ("coroutine", 0, "return")],
        [("coroutine", 3, "raise"), ("coroutine", 1, "stubborn"), ("task", 1, "late error")],
        [("coroutine", 1, "cancel"), ("coroutine", 2, "raise"), ("coroutine", 2, "raise")],
    )
    for program in programs:
        for option in range(3):
            for tick in range(6):
                for action in ("cancel main", "cancel outer", "cancel child"):
                    check(what, option, eager, program, [(tick, action, 1), (tick + 1, "look", 0)])


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("end", ["interrupt", "exit"])
def test_children_that_end_the_loop(what: str, end: str) -> None:
    for ticks in range(3):
        for option in range(3):
            program = [("coroutine", 1, "return"), ("coroutine", ticks, end), ("task", 2, "raise")]
            check(what, option, False, program, [(2, "look", 0), (3, "cancel main", 0)])
