"""What a program has put in the place of asyncio's methods and functions, or of a loop's."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from typing import Any
from unittest import mock

import pytest
from support.loops import STOCK_ONLY
from support.primitives import BOTH
from support.protocols import PATIENCE
from support.ticks import pause

Loop = asyncio.AbstractEventLoop

needs_ours = pytest.mark.skipif(STOCK_ONLY, reason="without oxlip")


def run(program: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Methods of asyncio's classes.


async def test_methods_patched(loop: Loop, switched: str) -> None:
    with (
        mock.patch("asyncio.Queue.get_nowait", return_value=42),
        mock.patch.object(asyncio.Semaphore, "release", return_value="released"),
        mock.patch("asyncio.Lock.locked", return_value="locked"),
        mock.patch("asyncio.Lock.__aenter__", return_value="entered"),
    ):
        assert asyncio.Queue().get_nowait() == 42
        assert asyncio.Semaphore().release() == "released"
        lock: Any = asyncio.Lock()
        assert lock.locked() == "locked"
        async with lock as entered:
            assert entered == "entered"
            lock._locked = True
    with mock.patch.object(asyncio.Queue, "get", side_effect=ValueError("no")):
        with pytest.raises(ValueError, match="no"):
            await asyncio.wait_for(asyncio.Queue().get(), PATIENCE)
    # And then no more.
    queue: asyncio.Queue[int] = asyncio.Queue()
    queue.put_nowait(1)
    assert queue.get_nowait() == 1
    if switched == "oxlip":
        import oxlip

        assert type(queue) is oxlip.Queue
        assert type(asyncio.Lock()) is oxlip.Lock


def test_new_is_static(switched: str) -> None:
    class Derived(asyncio.Semaphore):
        pass

    for made in (asyncio.Lock(), Derived(), asyncio.PriorityQueue[int](), asyncio.Queue[int]()):
        assert type(made.__new__(type(made))) is type(made)


@pytest.mark.parametrize("ours", BOTH)
def test_arguments_of_derived_classes(ours: str) -> None:
    switch = "import oxlip; oxlip.install()" if ours == "oxlip" else ""
    program = """
class Derived(asyncio.Queue):
    def __init__(self, first, second): super().__init__(first)
class Further(Derived): pass
for cls in (Derived, Further, asyncio.Queue, asyncio.PriorityQueue):
    print(*list(inspect.signature(cls).parameters)[:2])
print(hasattr(asyncio.PriorityQueue, "__signature__"), Further(1, 2).maxsize)
"""
    lines = run(f"import asyncio, inspect\n{switch}\n{program}").splitlines()
    assert lines[:2] == ["first second"] * 2
    assert [line.split()[0] for line in lines[2:4]] == ["maxsize"] * 2
    assert lines[4] == "False 1"


# What stands behind asyncio's names.


@needs_ours
def test_classes_replaced_before_the_import() -> None:
    assert run(
        """
import asyncio
stock = asyncio.Lock
class Own(asyncio.Queue): pass
asyncio.Lock = lambda: stock()
asyncio.Queue = asyncio.queues.Queue = Own
import oxlip
print(stock in oxlip.Lock.__mro__, Own in oxlip.Queue.__mro__)
oxlip.install()
print(type(asyncio.Lock()) is oxlip.Lock, type(asyncio.Queue()) is Own)
"""
    ).split() == ["True", "False", "True", "True"]


@needs_ours
def test_methods_replaced_before_the_import() -> None:
    assert (
        run(
            """
import asyncio
before = asyncio.Queue.put_nowait
def put_nowait(self, item): print("seen"); before(self, item)
asyncio.Queue.put_nowait = put_nowait
import oxlip
oxlip.install()
asyncio.Queue().put_nowait(1)
"""
        )
        == "seen"
    )


@needs_ours
@pytest.mark.parametrize("wraps", ["@functools.wraps(stock)", ""])
@pytest.mark.parametrize("when", ["before the import", "before", "after"])
def test_wait_for_wrapped(when: str, wraps: str) -> None:
    """The wrapper stays, however often we are installed."""
    wrap = f"""
stock = asyncio.wait_for
{wraps}
async def traced(*arguments):
    print("traced")
    return await stock(*arguments)
asyncio.wait_for = asyncio.tasks.wait_for = traced
"""
    parts = ["import asyncio, functools", "import oxlip", "oxlip.install()"]
    parts.insert(["before the import", "before", "after"].index(when) + 1, wrap)
    parts.append("oxlip.install()\nasyncio.run(asyncio.wait_for(asyncio.sleep(0), 5))")
    assert run("\n".join(parts)) == "traced"


# Methods of a loop.


async def test_futures_of_the_loops_own(
    loop: Loop, switched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set on the loop while it runs."""
    made = []

    def create_future() -> asyncio.Future[Any]:
        made.append(asyncio.Future(loop=loop))
        return made[-1]

    monkeypatch.setattr(loop, "create_future", create_future)
    lock = asyncio.Lock()
    await lock.acquire()
    queue: asyncio.Queue[int] = asyncio.Queue()
    tasks: list[Any] = [loop.create_task(lock.acquire()), loop.create_task(queue.get())]
    await pause()
    assert len(made) == 2
    queue.put_nowait(1)
    lock.release()
    for task in tasks:
        await task
    monkeypatch.undo()
    task = loop.create_task(queue.get())
    await pause()
    assert len(made) == 2
    queue.put_nowait(1)
    await task


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has no timeouts")
async def test_timers_of_the_loops_own(loop: Loop, switched: str) -> None:
    with mock.patch.object(loop, "call_at", side_effect=loop.call_at) as call_at:
        async with asyncio.timeout(PATIENCE):
            pass
    assert call_at.call_count == 1


def test_futures_of_the_class_at_the_next_run(
    loop: Loop, switched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set on the class: noticed when a loop begins to run."""
    made = []
    cls: Any = type(loop)
    before = cls.create_future

    def create_future(self: Loop) -> asyncio.Future[Any]:
        made.append(self)
        return before(self)  # type: ignore[no-any-return]

    monkeypatch.setattr(cls, "create_future", create_future)

    async def wait() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        task = loop.create_task(queue.get())
        await pause()
        queue.put_nowait(1)
        await task

    loop.run_until_complete(wait())
    assert made == [loop]


async def test_a_class_of_futures_that_keeps_its_arguments(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dict that all futures of a running loop are made with was given to any class in C."""

    class Kept(threading.local):
        def __init__(self, *, loop: Loop) -> None:
            assert loop is not None

    monkeypatch.setattr(asyncio.futures, "Future", Kept)
    arguments = {"loop": loop}
    for _ in range(2):
        made = loop.create_future()
        (kept,) = [it for it in gc.get_referents(made) if it == arguments]
        kept.clear()
    monkeypatch.undo()
    assert asyncio.isfuture(loop.create_future())
