"""Our futures and tasks where loops make them, beside asyncio's.

CPython's own tests of these run on them too (tests/cpython). Everything here runs with asyncio's
classes and with ours, on every loop.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import concurrent.futures
import contextvars
import functools
import gc
import io
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import loops
from support.protocols import PATIENCE
from support.tasks import native_tasks, switched_tasks
from support.ticks import pause, turn

if not native_tasks():
    pytest.skip("without tasks of ours", allow_module_level=True)

import oxlip

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop
Contexts = list[dict[str, Any]]
number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


@pytest.fixture(params=["asyncio", "oxlip"], autouse=True)
def classes(request: pytest.FixtureRequest) -> Iterator[str]:
    """Whose futures and tasks loops of ours make."""
    if request.param == "oxlip":
        with switched_tasks():
            yield request.param
    else:
        yield request.param


def makes_ours(kind: str, classes: str) -> bool:
    return loops.is_ours(kind) and classes == "oxlip"


async def nothing() -> None: ...


async def fail(error: BaseException) -> None:
    raise error


# What they are.


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
    """What asyncio's own functions would look at is empty."""
    stock = ours.__mro__[2]
    assert stock.__module__ == "_asyncio"
    same = {"__doc__", "__module__", "__new__", "__class_getitem__"}
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
    waiting = loop.create_task(_await(sleeping))
    await pause()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert seen == ["added", "cancelled"]


async def _await(awaitable: Any) -> Any:
    return await awaitable


# Results, errors, cancelling.


async def test_results_of_every_kind(loop: Loop) -> None:
    for result in (None, 5, (), (1, 2), ValueError("as a result"), StopIteration(3)):
        future: asyncio.Future[Any] = loop.create_future()
        loop.call_soon(future.set_result, result)
        assert await future is result
        assert await future is result
        assert await loop.create_task(_await(future)) is result
        with pytest.raises(asyncio.InvalidStateError):
            future.set_result(result)


async def test_errors_of_every_kind(loop: Loop) -> None:
    class Own(BaseException):
        pass

    for error in (ValueError("a"), Own(), asyncio.CancelledError("as an error")):
        future: asyncio.Future[Any] = loop.create_future()
        loop.call_soon(future.set_exception, error)
        with pytest.raises(type(error)) as caught:
            await future
        assert caught.value is error
        with pytest.raises(type(error)):
            await loop.create_task(_await(future))
    future = loop.create_future()
    future.set_exception(ValueError)
    assert isinstance(future.exception(), ValueError)
    with pytest.raises(TypeError):
        loop.create_future().set_exception(5)  # type: ignore[arg-type]


async def test_a_stop_iteration_is_refused(loop: Loop) -> None:
    """As a TypeError at once, or as a RuntimeError where it is awaited: as the release has it."""

    async def outcome(future: Any) -> tuple[type, str]:
        try:
            future.set_exception(StopIteration(5))
            await future
        except (TypeError, RuntimeError) as error:
            return type(error), str(error)
        raise AssertionError

    assert await outcome(loop.create_future()) == await outcome(asyncio.Future(loop=loop))


async def test_cancel_messages(loop: Loop) -> None:
    future = loop.create_future()
    assert future.cancel("why")
    assert not future.cancel()
    with pytest.raises(asyncio.CancelledError, match="why"):
        await future

    sleeping = loop.create_task(asyncio.sleep(PATIENCE))
    unbegun = loop.create_task(asyncio.sleep(PATIENCE))
    await pause()
    late = loop.create_task(asyncio.sleep(PATIENCE))
    for task in (sleeping, unbegun, late):
        task.cancel("a reason")
        assert task.cancelling() == 1
        with pytest.raises(asyncio.CancelledError, match="a reason"):
            await task
        assert task.cancelled()
        assert not task.cancel()


async def test_cancelled_in_its_last_step(loop: Loop) -> None:
    async def end() -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("too late")
        return 5

    task = loop.create_task(end())
    with pytest.raises(asyncio.CancelledError, match="too late"):
        await task


async def test_cancelled_before_it_waits(loop: Loop) -> None:
    future = loop.create_future()

    async def wait() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await future

    with pytest.raises(asyncio.CancelledError):
        await loop.create_task(wait())
    assert future.cancelled()


async def test_uncancel(loop: Loop) -> None:
    rounds = []

    async def stubborn() -> str:
        for _ in range(2):
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                rounds.append((task.cancelling(), task.uncancel()))
        return "done"

    task = loop.create_task(stubborn())
    for _ in range(2):
        await pause()
        assert task.cancel()
    assert await task == "done"
    assert rounds == [(1, 0), (1, 0)]


async def test_chain_of_tasks_is_cancelled(loop: Loop) -> None:
    future = loop.create_future()
    task: asyncio.Task[Any] = loop.create_task(_await(future))
    chain = [task]
    for _ in range(10):
        chain.append(task := loop.create_task(_await(task)))
    await pause(2)
    chain[-1].cancel("all")
    with pytest.raises(asyncio.CancelledError, match="all"):
        await chain[-1]
    assert all(link.cancelled() for link in chain)
    assert future.cancelled()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_tasks_that_wait_for_each_other(
    loop: Loop, kind: str, classes: str, count: int, contexts: Contexts
) -> None:
    """There is no end to cancelling them, but not the end of the process either."""
    tasks: list[asyncio.Task[Any]] = []

    async def wait(index: int) -> None:
        await tasks[(index + 1) % count]

    class Derived(oxlip.Task[Any]):
        pass

    # asyncio's own may overflow the stack.
    make: Any = loop.create_task if makes_ours(kind, classes) else Derived
    options = {} if makes_ours(kind, classes) else {"loop": loop}
    tasks += [make(wait(index), **options) for index in range(count)]
    turn(loop)
    with pytest.raises(RecursionError):
        tasks[0].cancel()
    loop.close()
    tasks.clear()
    gc.collect()
    assert {context["message"] for context in contexts} == {"Task was destroyed but it is pending!"}
    contexts.clear()


async def test_long_chain_is_cancelled(loop: Loop, kind: str, classes: str) -> None:
    future = loop.create_future()
    task: asyncio.Task[Any] = loop.create_task(_await(future))
    for _ in range(30_000 if makes_ours(kind, classes) else 100):
        task = loop.create_task(_await(task))
    await pause(2)
    task.cancel("all")
    with pytest.raises(asyncio.CancelledError, match="all"):
        await task


async def test_what_cannot_be_awaited(loop: Loop, new_loop: Callable[[], Loop]) -> None:
    class Yields:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __await__(self) -> Any:
            return (yield self.value)

    other = new_loop().create_future()
    future = loop.create_future()
    for value, message in (
        (5, "Task got bad yield: 5"),
        (future, "yield was used instead of yield from in task"),
        ((x for x in ()), "yield was used instead of yield from for generator in task"),
    ):
        with pytest.raises(RuntimeError, match=message):
            await loop.create_task(_await(Yields(value)))
    with pytest.raises(RuntimeError, match="attached to a different loop"):
        await loop.create_task(_await(other))
    found: list[Any] = []

    async def itself() -> None:
        await found[0]

    found.append(loop.create_task(itself()))
    with pytest.raises(RuntimeError, match="Task cannot await on itself"):
        await found[0]
    found.clear()
    with pytest.raises(TypeError, match="a coroutine was expected"):
        loop.create_task(5)  # type: ignore[arg-type]


async def test_iterators(loop: Loop) -> None:
    future = loop.create_future()
    waits: Any = future.__await__()
    assert next(waits) is future
    assert future._asyncio_future_blocking
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(waits)
    with pytest.raises(KeyError):
        waits.throw(KeyError("thrown"))
    assert list(waits) == []
    future._asyncio_future_blocking = False
    future.set_result((1, 2))
    with pytest.raises(StopIteration) as caught:
        iter(future).send(None)  # type: ignore[attr-defined]
    assert caught.value.value == (1, 2)
    closed: Any = future.__await__()
    closed.close()
    assert list(closed) == []
    for wrong in (5, int):
        with pytest.raises(TypeError):
            future.__await__().throw(wrong)  # type: ignore[arg-type]


# Beside asyncio's.


async def test_each_awaits_the_other(loop: Loop) -> None:
    for make in (loop.create_future, lambda: asyncio.Future(loop=loop)):
        for make_task in (loop.create_task, lambda coro: asyncio.Task(coro, loop=loop)):
            future: Any = make()  # type: ignore[no-untyped-call]
            task: Any = make_task(_await(future))
            outer = loop.create_task(_await(task))
            await pause(2)
            assert task._fut_waiter is future
            future.set_result(7)
            assert await outer == 7
            cancelled = make()  # type: ignore[no-untyped-call]
            task = make_task(_await(cancelled))
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
    task = loop.create_task(_await(future))
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
        task = loop.create_task(_await(future))
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


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_errors_that_end_the_loop(loop: Loop, error: type[BaseException]) -> None:
    task = loop.create_task(fail(error()))
    with pytest.raises(error):
        loop.run_forever()
    assert asyncio.current_task(loop) is None
    with pytest.raises(error):
        task.result()
    loop.run_until_complete(pause())


# What is built on them.


async def test_what_asyncio_builds_on_them(loop: Loop) -> None:
    async def give(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    assert await asyncio.gather(give(1), loop.create_task(give(2))) == [1, 2]
    outcome = await asyncio.gather(fail(KeyError()), give(1), return_exceptions=True)
    assert isinstance(outcome[0], KeyError)
    tasks = [loop.create_task(give(index)) for index in range(3)]
    done, pending = await asyncio.wait(tasks)
    assert (done, pending) == (set(tasks), set())
    assert {await first for first in asyncio.as_completed([give(5), give(6)])} == {5, 6}
    async with asyncio.TaskGroup() as group:
        children = [group.create_task(give(index)) for index in range(3)]
    assert [child.result() for child in children] == [0, 1, 2]
    with pytest.raises(BaseExceptionGroup) as caught:  # noqa: F821
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(KeyError("in a group")))
            await asyncio.sleep(PATIENCE)
    assert isinstance(caught.value.exceptions[0], KeyError)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await loop.create_future()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)

    inner = loop.create_task(give(9))
    shielded = loop.create_task(_await(asyncio.shield(inner)))
    await pause()
    shielded.cancel()
    with pytest.raises(asyncio.CancelledError):
        await shielded
    assert await inner == 9

    outside: concurrent.futures.Future[int] = concurrent.futures.Future()
    wrapped = asyncio.wrap_future(outside)
    outside.set_result(4)
    assert await wrapped == 4


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


# Their end.


async def test_exception_never_retrieved(loop: Loop, contexts: Contexts) -> None:
    future = loop.create_future()
    error = ValueError("unseen")
    future.set_exception(error)
    looked = loop.create_future()
    looked.set_exception(error)
    looked.exception()
    silenced = loop.create_future()
    silenced.set_exception(error)
    silenced._log_traceback = False
    with pytest.raises(ValueError, match="can only be set to False"):
        silenced._log_traceback = True
    shown = repr(future)
    del future, looked, silenced
    task = loop.create_task(fail(error))
    await pause(2)
    del task
    gc.collect()
    messages = [context["message"] for context in contexts]
    assert messages == [
        "Future exception was never retrieved",
        "Task exception was never retrieved",
    ]
    assert repr(contexts[0]["future"]) == shown
    assert contexts[0]["exception"] is contexts[1]["exception"] is error
    contexts.clear()
    error.__traceback__ = None


async def test_destroyed_while_pending(loop: Loop, contexts: Contexts) -> None:
    async def wait() -> None:
        await loop.create_future()

    task = loop.create_task(wait(), name="lost")
    await pause(2)
    gone = weakref.ref(task)
    del task
    gc.collect()
    (context,) = contexts
    assert context["message"] == "Task was destroyed but it is pending!"
    assert context["task"].get_name() == "lost"
    contexts.clear()
    del context
    gc.collect()
    assert gone() is None


async def test_cycles_are_collected(loop: Loop) -> None:
    future: Any = loop.create_future()
    future.itself = future
    future.set_result(future)
    looped: Any = loop.create_future()
    looped.add_done_callback(functools.partial(print, looped))
    # With a finalizer, and an iterator from the memory that is kept for them.
    waited = loop.create_future()
    waits = waited.__await__()
    waited.waits = waits  # type: ignore[attr-defined]
    references = [weakref.ref(it) for it in (future, looped, waited)]
    task = loop.create_task(_await(future))
    await task
    task.me = task  # type: ignore[attr-defined]
    references.append(weakref.ref(task))
    del future, looped, waited, waits, task
    await pause()  # What has woken this task knows the other one.
    gc.collect()
    assert [reference() for reference in references] == [None] * 4


async def test_iterators_in_cycles_are_collected(loop: Loop) -> None:
    """Also those whose memory was another's before."""
    for _ in range(20):
        future = loop.create_future()
        future.set_result(None)
        await future
    references = []
    for _ in range(20):
        future = loop.create_future()
        future.waits = future.__await__()  # type: ignore[attr-defined]
        references.append(weakref.ref(future))
    del future
    gc.collect()
    assert not any(reference() for reference in references)


async def test_brought_back_to_life(loop: Loop, contexts: Contexts) -> None:
    """An exception handler that keeps the future, and lets it go later."""
    kept: list[Any] = []
    loop.set_exception_handler(lambda _, context: kept.append(context["future"]))
    future = loop.create_future()
    future.set_exception(ValueError())
    del future
    gc.collect()
    (again,) = kept
    assert isinstance(again.exception(), ValueError)
    kept.clear()
    del again
    gc.collect()
    assert not kept


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


async def test_deep_chains_end(loop: Loop) -> None:
    """Thousands of tasks that wait for each other."""
    task = loop.create_task(nothing())
    for _ in range(2000):
        task = loop.create_task(_await(task))
    await task


def test_a_loop_that_is_closed(loop: Loop, contexts: Contexts) -> None:
    future = loop.create_future()
    future.add_done_callback(print)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.set_result(None)
    coro = nothing()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coro)
    coro.close()
