"""Futures and tasks of ours: what they raise, ask of the program's objects, and tell."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support import loops
from support.ticks import pause

Loop = asyncio.AbstractEventLoop

pytestmark = pytest.mark.usefixtures("classes")

as_ours = pytest.mark.skipif(
    sys.version_info < (3, 12),
    reason="cancellations were told otherwise, and tasks of ours are not made",
)


async def waits(future: asyncio.Future[Any]) -> Any:
    return await future


async def waits_handling(future: asyncio.Future[Any]) -> Any:
    try:
        raise KeyError
    except KeyError:
        return await future


def ended(future: asyncio.Future[Any], how: str) -> asyncio.Future[Any]:
    if how == "fails":
        future.set_exception(ValueError())
    elif how == "cancelled":
        future.cancel()
    elif how == "answers":
        future.set_result(1)
    return future


def context_of(call: Callable[[], object]) -> type[BaseException] | None:
    """The context of what the call raises while another exception is being handled."""
    try:
        try:
            raise KeyError
        except KeyError:
            call()
    except BaseException as error:
        assert not isinstance(error, KeyError)
        return error.__context__ and type(error.__context__)
    raise AssertionError("nothing was raised")


async def test_what_is_being_handled_is_the_context(loop: Loop) -> None:
    for how, methods in (
        ("pending", ["result", "exception"]),
        ("fails", ["result"]),
        ("cancelled", ["result", "exception"]),
    ):
        for method in methods:
            future = ended(loop.create_future(), how)
            assert context_of(getattr(future, method)) is KeyError, (how, method)
    done = ended(loop.create_future(), "answers")
    assert context_of(lambda: done.set_result(1)) is KeyError
    assert context_of(lambda: done.set_exception(OSError())) is KeyError


async def test_it_is_so_of_queues(loop: Loop) -> None:
    if loops.STOCK_ONLY:
        pytest.skip("of ours only")
    import oxlip

    queue = oxlip.Queue[int](1)
    assert context_of(queue.get_nowait) is KeyError
    queue.put_nowait(1)
    assert context_of(lambda: queue.put_nowait(2)) is KeyError


@as_ours
@pytest.mark.parametrize("how", ["fails", "cancelled"])
async def test_it_is_so_of_what_is_awaited(loop: Loop, how: str) -> None:
    early = ended(loop.create_future(), how)
    late = loop.create_future()
    task = loop.create_task(waits_handling(late))
    await pause()
    ended(late, how)
    for awaited in (waits_handling(early), loop.create_task(waits_handling(early)), task):
        with pytest.raises((ValueError, asyncio.CancelledError)) as caught:
            await awaited
        assert type(caught.value.__context__) is KeyError
    with pytest.raises((ValueError, asyncio.CancelledError)) as caught:
        await early
    caught.value.__context__ = None


@as_ours
def test_a_loop_that_runs_while_something_is_handled(loop: Loop) -> None:
    """A cancellation is raised in the step of who waits, an exception only passed on."""

    async def contexts() -> list[type[BaseException] | None]:
        found = []
        for how in ("fails", "cancelled"):
            future = loop.create_future()
            task = loop.create_task(waits(future))
            await pause()
            ended(future, how)
            try:
                await task
            except (ValueError, asyncio.CancelledError) as error:
                found.append(error.__context__ and type(error.__context__))
        return found

    try:
        raise KeyError
    except KeyError:
        assert loop.run_until_complete(contexts()) == [None, KeyError]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager start")
async def test_eager_start_is_a_truth_value(loop: Loop) -> None:
    task_class: Any = type(loop.create_task(pause()))

    async def nothing() -> None: ...

    for eager, done in ((1, True), ("yes", True), (0, False), (None, False)):
        task = task_class(nothing(), loop=loop, eager_start=eager)
        assert task.done() is done
        await task
    await pause()


@as_ours
async def test_cancel_gets_the_message_by_its_place(loop: Loop) -> None:
    asked: list[Any] = []

    class Own:
        _asyncio_future_blocking = True

        def get_loop(self) -> Loop:
            return loop

        def add_done_callback(self, callback: Any, *, context: Any) -> None:
            self.wake = callback

        def cancel(self, reason: Any) -> bool:
            asked.append(reason)
            loop.call_soon(self.wake, self)
            return True

        def result(self) -> None:
            raise asyncio.CancelledError("own")

        def __await__(self) -> Any:
            yield self

    async def wait(cancels: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        if cancels:
            task.cancel("before")
        await Own()

    task = loop.create_task(wait(cancels=False))
    await pause()
    assert task.cancel("waiting")
    for awaited in (task, loop.create_task(wait(cancels=True))):
        with pytest.raises(asyncio.CancelledError, match="own"):
            await awaited
    assert asked == ["waiting", "before"]


async def test_what_cannot_be_thrown_leaves_the_iterator(loop: Loop) -> None:
    future = loop.create_future()
    for arguments in ((5,), (int,)):
        waiting: Any = future.__await__()
        with pytest.raises(TypeError):
            waiting.throw(*arguments)
        assert next(waiting) is future
        future._asyncio_future_blocking = False
    future.set_result(None)
    with pytest.raises(StopIteration) as caught:
        future.__await__().send(None)
    # asyncio's says None since 3.14.
    assert caught.value.args in ([()] if sys.version_info < (3, 14) else [(), (None,)])
    assert caught.value.value is None


class Listener:
    """As much of a loop as a future needs."""

    def get_debug(self) -> bool:
        return False

    def call_soon(self, *arguments: Any, **options: Any) -> None: ...


class Fails(Listener):
    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise OSError


def test_a_handler_that_fails_is_named(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, Any]] = []

    def note(unraisable: Any) -> None:
        named = unraisable.err_msg if sys.version_info >= (3, 14) else repr(unraisable.object)
        told.append((named.partition(" of <")[0], type(unraisable.exc_value)))

    monkeypatch.setattr(sys, "unraisablehook", note)
    future_class: Any = type(loop.create_future())
    for listener in (Fails(), Listener()):
        future_class(loop=listener).set_exception(ValueError())
    before = "Exception ignored while calling asyncio function " * (sys.version_info >= (3, 14))
    assert told == [(f"{before}<bound method Fails.call_exception_handler", OSError)]


async def test_weak_references_go_first(loop: Loop) -> None:
    order = []

    class Noted:
        def __del__(self) -> None:
            order.append("result")

    future = loop.create_future()
    future.set_result(Noted())
    reference = weakref.ref(future, lambda _: order.append("reference"))
    del future
    assert order == ["reference", "result"]
    assert reference() is None


async def test_a_name_in_a_cycle(loop: Loop) -> None:
    class Name(str):
        task: Any

    class Named:
        def __init__(self, name: Name) -> None:
            self.name = name

        def __str__(self) -> str:
            return self.name

    name = Name("name")
    name.task = loop.create_task(pause(), name=Named(name))  # type: ignore[arg-type]
    await name.task
    gone = weakref.ref(name.task)
    del name
    await pause()
    gc.collect()
    assert gone() is None


def test_attributes_before_the_first_use(loop: Loop) -> None:
    future_class: Any = type(loop.create_future())
    if loops.STOCK_ONLY or future_class.__module__ not in ("_asyncio", "oxlip"):
        pytest.skip("in C")
    made = future_class.__new__(future_class)
    for name in ("_state", "_callbacks", "_result", "_exception"):
        with pytest.raises(RuntimeError, match="not initialized"):
            getattr(made, name)
