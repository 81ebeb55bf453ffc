"""Random programs of a few tasks, on asyncio's loop with its classes and on ours with ours.

They must tell the same in the same order.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tasks import native_tasks, switched_tasks
from support.ticks import turn

if not native_tasks():
    pytest.skip("without tasks of ours", allow_module_level=True)

import oxlip

FUTURES = 3
TASKS = 4
TICKS = 60

ACTIONS = (
    *("sleep", "await future", "await future", "await task", "await shielded", "gather", "wait"),
    *("set result", "set result", "set exception", "cancel future", "cancel task", "cancel task"),
    *("call back", "call back no more", "spawn", "uncancel", "nonsense", "raise", "soon", "look"),
    *("await stock task", "await stock future"),
)

Program = list[tuple[str, int]]
programs = st.lists(
    st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.integers(0, TASKS - 1)), min_size=1, max_size=6
    ),
    min_size=2,
    max_size=TASKS,
)


class Nonsense:
    """Yields what no future is."""

    def __await__(self) -> Any:
        return (yield "nonsense")


class World:
    """A loop with some futures and tasks, and what has happened."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.log: list[Any] = []
        self.complaints: list[str] = []
        loop.set_exception_handler(lambda _, context: self.complaints.append(context["message"]))
        self.futures = [loop.create_future() for _ in range(FUTURES)]
        self.stock = [asyncio.Future(loop=loop) for _ in range(FUTURES)]
        self.tasks: list[asyncio.Task[Any]] = []
        self.callbacks = [self.callback(index) for index in range(TASKS)]

    def callback(self, index: int) -> Callable[[Any], None]:
        return lambda future: self.log.append((f"callback {index}", future._state))

    def start(self, programs: list[Program]) -> None:
        for index, program in enumerate(programs):
            self.tasks.append(self.loop.create_task(self.run(f"{index}", program)))

    async def run(self, name: str, program: Program) -> str:
        for action, index in program:
            self.log.append((name, action, index))
            try:
                self.log.append((name, "got", await self.act(name, action, index)))
            except asyncio.CancelledError as error:
                self.log.append((name, "cancelled", error.args))
                if index % 2 == 0:
                    raise
            except (ValueError, RuntimeError, asyncio.InvalidStateError) as error:
                # Not the text, which has addresses.
                self.log.append((name, type(error).__name__))
                if index == TASKS - 1:
                    raise
        return f"end of {name}"

    async def act(self, name: str, action: str, index: int) -> Any:
        future = self.futures[index % FUTURES]
        stock = self.stock[index % FUTURES]
        task = self.tasks[index % len(self.tasks)]
        current = asyncio.current_task()
        assert current is not None
        if action == "sleep":
            await asyncio.sleep(0)
        elif action == "await future":
            return await future
        elif action == "await stock future":
            return await stock
        elif action == "await task":
            # An older one: there is no end to cancelling two that wait for each other.
            older = self.tasks[: self.tasks.index(current)]
            return await older[index % len(older)] if older else None
        elif action == "await shielded":
            return await asyncio.shield(future)
        elif action == "await stock task":
            return await asyncio.Task(self.wait_for(future), loop=self.loop)
        elif action == "gather":
            found = await asyncio.gather(future, stock, return_exceptions=index % 2 == 0)
            return [repr(outcome) for outcome in found]
        elif action == "wait":
            done, pending = await asyncio.wait([future, stock], return_when=asyncio.FIRST_COMPLETED)
            return len(done), len(pending)
        elif action == "set result":
            (future if index % 2 else stock).set_result(f"result of {name}")
        elif action == "set exception":
            (future if index % 2 else stock).set_exception(ValueError(f"error of {name}"))
        elif action == "cancel future":
            return future.cancel(f"by {name}")
        elif action == "cancel task":
            return task.cancel(f"by {name}"), task.cancelling()
        elif action == "call back":
            future.add_done_callback(self.callbacks[index])
        elif action == "call back no more":
            return future.remove_done_callback(self.callbacks[index])
        elif action == "spawn":
            self.tasks.append(self.loop.create_task(self.run(f"{name}{index}", [("sleep", index)])))
        elif action == "uncancel":
            return current.uncancel()
        elif action == "nonsense":
            await Nonsense()
        elif action == "raise":
            raise ValueError(name)
        elif action == "soon":
            self.loop.call_soon(self.log.append, (name, "soon"))
        else:
            return self.look()
        return None

    async def wait_for(self, future: Any) -> Any:
        return await future

    def look(self) -> Any:
        """All that can be seen of all that there is."""
        callbacks = [len(future._callbacks or ()) for future in self.futures]
        waiters = [
            (task._state, task.cancelling(), task._must_cancel, task._fut_waiter is not None)  # type: ignore[attr-defined]
            for task in self.tasks
        ]
        return callbacks, [future._state for future in self.futures], waiters

    def end(self) -> None:
        """Cancels what is left, and says what became of everything."""
        turn(self.loop, TICKS)
        self.log.append(self.look())
        for round_ in range(10):
            for made in [*self.futures, *self.stock, *self.tasks, *asyncio.all_tasks(self.loop)]:
                made.cancel(f"at the end {round_}")
            turn(self.loop, 5)
        for made in [*self.futures, *self.stock, *self.tasks]:
            if made.done() and not made.cancelled():
                error = made.exception()
                self.log.append(type(error).__name__ if error else made.result())
        assert asyncio.current_task(self.loop) is None
        self.loop.close()


def told(loop: asyncio.AbstractEventLoop, programs: list[Program]) -> tuple[list[Any], list[str]]:
    world = World(loop)
    world.start(programs)
    world.end()
    log, complaints = world.log, world.complaints
    del world
    gc.collect()
    return log, sorted(complaints)


@given(programs)
def test_the_same_is_told(programs: list[Program]) -> None:
    expected = told(asyncio.SelectorEventLoop(), programs)
    for switch in (contextlib.nullcontext, switched_tasks):
        with switch():  # type: ignore[operator]
            assert told(oxlip.EventLoop("sim"), programs) == expected
