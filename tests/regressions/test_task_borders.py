"""Futures and tasks of ours where the program, or the end of the interpreter, comes in between."""

from __future__ import annotations

import asyncio
import asyncio.tasks
import dataclasses
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support import loops
from support.ticks import pause

Loop = asyncio.AbstractEventLoop


pytestmark = pytest.mark.usefixtures("classes")


def test_primitives_wake(classes: str) -> None:
    # Also where Python's own classes are not known to us.
    if loops.STOCK_ONLY:
        pytest.skip("of ours only")
    import oxlip

    async def use(lock: Any) -> None:
        async with lock:
            await pause()

    async def program() -> None:
        lock = oxlip.Lock()
        await asyncio.gather(use(lock), use(lock), use(lock))

    loop = oxlip.new_event_loop()
    try:
        loop.run_until_complete(program())
    finally:
        loop.close()


EXIT = """
import asyncio, builtins, os, sys
if sys.argv[1] == "stock":
    new_event_loop, Future, Task = asyncio.new_event_loop, asyncio.Future, asyncio.Task
else:
    import oxlip
    from oxlip import _tasks
    if oxlip._native.has_tasks():
        _tasks.take_over()
    new_event_loop = oxlip.new_event_loop
    Future = getattr(oxlip, "Future", asyncio.Future)
    Task = getattr(oxlip, "Task", asyncio.Task)


class Told:
    def get_debug(self): return False
    def call_soon(self, *args, **options): pass
    def call_exception_handler(self, context, write=os.write):
        write(1, context["message"].encode() + b"\\n")


async def waits(): await asyncio.get_running_loop().create_future()


class Kept: pass


kept = Kept()
kept.kept = kept


async def leave_behind():
    loop = asyncio.get_running_loop()
    kept.task = loop.create_task(waits())
    await asyncio.sleep(0)
    kept.future = loop.create_future()
    kept.future.set_exception(ValueError("unseen"))


if sys.argv[2] == "last":
    # Freed when all modules are gone.
    builtins.last = Future(loop=Told())
    builtins.last.set_exception(ValueError("unseen"))
    builtins.waiting = waits()
    builtins.task = Task(builtins.waiting, loop=Told())
    builtins.scheduled = Future(loop=Told())
    class Ends:
        def __del__(self, future=builtins.scheduled): future.set_result(None)
    builtins.ends = Ends()
else:
    loop = new_event_loop()
    loop.run_until_complete(leave_behind())
    print("end", flush=True)
"""


@pytest.mark.parametrize("when", ["last", "first"])
def test_exit(when: str, classes: str) -> None:
    if loops.STOCK_ONLY:
        pytest.skip("beside asyncio's")
    stock, ours = (
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", EXIT, whose, when],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for whose in ("stock", "ours")
    )
    assert stock.returncode == ours.returncode == 0, ours.stderr
    assert sorted(ours.stdout.splitlines()) == sorted(stock.stdout.splitlines())
    for said in ("Task was destroyed but it is pending!", "exception was never retrieved"):
        assert (said in ours.stderr) == (said in stock.stderr), ours.stderr
        assert ours.stderr.count("Logging error") == stock.stderr.count("Logging error")


async def test_constructor_ends_the_future(loop: Loop, classes: str) -> None:
    freed: list[Any] = []

    class Noted(Exception):
        def __del__(self) -> None:
            freed.append(self)

    class Fails(Exception):
        def __init__(self) -> None:
            future.set_exception(Noted())

    class Answers(Exception):
        def __init__(self) -> None:
            future.set_result(1)

    future = loop.create_future()
    with pytest.raises(asyncio.InvalidStateError):
        future.set_exception(Fails)
    assert type(future.exception()) is Noted
    assert not freed
    future = loop.create_future()
    with pytest.raises(asyncio.InvalidStateError):
        future.set_exception(Answers)
    assert future.result() == 1


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Hidden(Exception):
    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no traceback")


class Pretends(Exception):
    @property
    def __class__(self) -> Any:
        return asyncio.CancelledError


@pytest.mark.parametrize("kept", [lambda: Frozen(1), Hidden, Pretends])
async def test_exceptions_with_attributes_of_their_own(
    loop: Loop, classes: str, kept: Callable[[], Exception]
) -> None:
    error = kept()

    async def fail() -> None:
        raise error

    async def waits(future: asyncio.Future[None]) -> None:
        await future

    future = loop.create_future()
    future.set_exception(error)
    for awaited in (loop.create_task(fail()), future, loop.create_task(waits(future))):
        done, _ = await asyncio.wait([awaited], timeout=30)
        assert done
        caught: BaseException | None = None
        try:
            await awaited
        except BaseException as raised:
            caught = raised
        assert caught is error
        assert not awaited.cancelled()
        assert awaited.exception() is error


async def test_cancel_of_the_object(loop: Loop, classes: str) -> None:
    asked = []

    async def waits(future: asyncio.Future[None]) -> None:
        await future

    future = loop.create_future()
    cancel = future.cancel

    def noted(msg: Any = None) -> bool:
        asked.append("future")
        return cancel(msg)

    try:
        future.cancel = noted  # type: ignore[method-assign]
    except AttributeError:
        pytest.skip("has no attributes of its own")
    task = loop.create_task(waits(future))
    await pause()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    inner = loop.create_task(waits(loop.create_future()))
    cancel_inner = inner.cancel

    def refuse(msg: Any = None) -> bool:
        asked.append("task")
        return False

    inner.cancel = refuse  # type: ignore[method-assign]
    middle = loop.create_task(waits(inner))
    outer = loop.create_task(waits(middle))
    for _ in range(3):
        await pause()
    outer.cancel()
    for _ in range(3):
        await pause()
    assert asked == ["future", "task"]
    assert not inner.done()
    assert not outer.done()
    cancel_inner()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert middle.cancelled()


class Owner:
    """Gives the objects of derived classes a `__dict__` that can be replaced."""


@pytest.mark.skipif(
    sys.version_info < (3, 13),
    reason="the dict of a task's class with two bases cannot be replaced",
)
async def test_attributes_are_replaced_while_one_is_looked_for(loop: Loop, classes: str) -> None:
    async def waits(future: asyncio.Future[None]) -> None:
        await future

    first = loop.create_task(waits(loop.create_future()))
    base: Any = type(first)
    first.cancel()

    class Owned(Owner, base):  # type: ignore[misc]
        pass

    class Cancel:
        """A key that is not the name `cancel`, as it says when all other attributes are gone."""

        def __hash__(self) -> int:
            return hash("cancel")

        def __eq__(self, other: object) -> bool:
            asked.append(other)
            # So many that no more freed ones are kept for the next.
            others: list[dict[str, Any]] = [{} for _ in range(500)]
            attributes: dict[Any, Any] = {}
            del others
            inner.__dict__ = attributes
            return False

    asked: list[object] = []
    inner: Any = Owned(waits(loop.create_future()), loop=loop)
    outer = loop.create_task(waits(inner))
    await pause()
    await pause()
    inner.__dict__ = {Cancel(): None, **{str(number): None for number in range(50)}}
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert inner.cancelled()
    assert "cancel" in asked


class Entered:
    """Enters a task of its own when it is freed."""

    def __init__(self, loop: Loop, seen: list[Any]) -> None:
        self.loop, self.seen = loop, seen

    def __del__(self) -> None:
        self.seen.append(enter(self.loop))


def enter(loop: Loop) -> str:
    task: Any = Task()
    current = asyncio.current_task(loop)
    if current is not None:
        return "in a task"
    try:
        asyncio.tasks._enter_task(loop, task)
    except RuntimeError as error:
        return str(error)
    asyncio.tasks._leave_task(loop, task)
    return "entered"


class Task: ...


async def test_freed_between_steps(loop: Loop, classes: str) -> None:
    seen: list[str] = []

    async def give() -> Entered:
        await pause()
        return Entered(loop, seen)

    async def waits(future: asyncio.Future[Any]) -> None:
        await future

    loop.create_task(give())
    for _ in range(5):
        await pause()
    future = loop.create_future()
    loop.create_task(waits(future))
    await pause()
    future.set_result(Entered(loop, seen))
    del future
    for _ in range(3):
        await pause()
    assert len(seen) == 2
    assert set(seen) <= {"entered", "in a task"}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="without interval timers")
def test_signal_between_steps(classes: str) -> None:
    if loops.STOCK_ONLY:
        pytest.skip("of ours only")
    import oxlip

    loop = oxlip.new_event_loop()
    seen: list[str] = []

    async def spin() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0003)
        while len(seen) < 300:
            await asyncio.sleep(0)
        # Since Python 3.14 no task can be entered when the loop does not run any more.
        signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(enter(loop)))
    try:
        loop.run_until_complete(asyncio.wait_for(spin(), 60))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        loop.close()
    assert set(seen) <= {"entered", "in a task"}


async def test_comparing_adds_and_ends(loop: Loop, classes: str) -> None:
    future = loop.create_future()
    compared: list[str] = []

    class Callback:
        def __init__(self, name: str, then: Any = None) -> None:
            self.name, self.then = name, then

        def __call__(self, future: Any) -> None: ...

        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            compared.append(self.name)
            if self.then is not None:
                self.then, then = None, self.then
                then()
            return isinstance(other, str)

    future.add_done_callback(Callback("first"))
    future.add_done_callback(
        Callback("second", lambda: future.add_done_callback(Callback("third")))
    )
    # C looks only once at a list of one, and does not count what was added meanwhile.
    future.add_done_callback(Callback("more"))
    assert future.remove_done_callback("any") in (3, 4)
    assert compared == ["first", "second", "more", "third"]
    future.add_done_callback(Callback("ends", lambda: future.set_result(1)))
    assert future.remove_done_callback("any") == 1


async def test_stepped_after_the_end(loop: Loop, classes: str) -> None:
    if sys.version_info < (3, 12):
        pytest.skip("another message")
    told: list[Any] = []
    loop.set_exception_handler(lambda _, context: told.append(str(context.get("exception"))))

    async def waits(future: asyncio.Future[None]) -> None:
        await future

    future = loop.create_future()
    task = loop.create_task(waits(future))
    await pause()
    wake = future._callbacks[0][0]
    future.set_result(None)
    await task
    loop.call_soon(wake, future)
    await pause()
    assert ["_step(): already done" in message for message in told] == [True]
