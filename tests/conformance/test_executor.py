"""`run_in_executor`: what comes of a call in another thread, and who learns of a cancellation."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.protocols import PATIENCE
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
Call = concurrent.futures.Future


class Later(concurrent.futures.Executor):
    """Runs nothing: what comes of its calls is the test's to say."""

    def __init__(self) -> None:
        self.calls: list[Call[Any]] = []

    def submit(self, *_: Any, **__: Any) -> Any:
        self.calls.append(Call())
        return self.calls[-1]


class AtOnce(concurrent.futures.Executor):
    """Runs everything before it answers."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Any:
        call: Call[Any] = Call()
        try:
            call.set_result(fn(*args))
        except BaseException as error:
            call.set_exception(error)
        return call


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def test_results(loop: Loop, pool: ThreadPoolExecutor) -> None:
    for executor in (None, pool, AtOnce()):
        for result in (None, 5, ValueError("as a result")):
            future = loop.run_in_executor(executor, lambda it: it, result)
            assert isinstance(future, asyncio.Future)
            assert future.get_loop() is loop
            assert await asyncio.wait_for(future, PATIENCE) is result


async def test_done_at_once(loop: Loop) -> None:
    """If the call is over on the loop's own thread; before Python 3.14 it has to wait."""
    future = loop.run_in_executor(AtOnce(), int)
    assert future.done() is (sys.version_info >= (3, 14))
    await pause(2)
    assert future.done()


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ValueError, ValueError),
        (concurrent.futures.CancelledError, asyncio.CancelledError),
        (concurrent.futures.InvalidStateError, asyncio.InvalidStateError),
        (concurrent.futures.TimeoutError, asyncio.TimeoutError),
        (asyncio.CancelledError, asyncio.CancelledError),
        (SystemExit, SystemExit),
    ],
)
async def test_errors(loop: Loop, raised: type[BaseException], told: type[BaseException]) -> None:
    def raising(error: BaseException) -> None:
        raise error

    for executor in (None, AtOnce()):
        error = raised("in there", 1)
        future = loop.run_in_executor(executor, raising, error)
        await asyncio.wait([future], timeout=PATIENCE)
        outcome = future.exception()
        assert type(outcome) is told
        assert outcome.args == ("in there", 1)
        # asyncio makes another of the one class that both are since 3.11, until 3.13.
        assert (outcome is error) == (raised is told) or raised is TimeoutError
        # What asyncio makes has no traceback before 3.13.
        if outcome is error or type(loop).__module__ != "asyncio.unix_events":
            assert traceback.extract_tb(outcome.__traceback__)[-1].name == "raising"
        # Exception, traceback and this frame are a cycle.
        outcome.__traceback__ = error.__traceback__ = None


async def test_cancelling_the_future_cancels_the_call(loop: Loop, pool: ThreadPoolExecutor) -> None:
    go_on, begun = threading.Event(), []
    first = loop.run_in_executor(pool, go_on.wait, PATIENCE)
    second = loop.run_in_executor(pool, begun.append, 1)
    second.cancel()
    await pause(2)
    go_on.set()
    assert await first is True
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await loop.run_in_executor(pool, len, begun) == 0


async def test_cancelling_the_call_cancels_the_future(loop: Loop) -> None:
    later = Later()
    future = loop.run_in_executor(later, print)
    later.calls[0].cancel()
    later.calls[0].set_running_or_notify_cancel()
    await asyncio.wait([future], timeout=PATIENCE)
    assert future.cancelled()


async def test_what_comes_too_late(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """Of a cancelled future nobody hears any more; one that was set by hand is an error."""
    told: list[Any] = []
    loop.set_exception_handler(lambda _, context: told.append(type(context["exception"])))
    later = Later()
    cancelled = loop.run_in_executor(later, print)
    cancelled.cancel()
    later.calls[0].set_result(1)
    await pause(3)
    assert cancelled.cancelled()
    assert told == []
    by_hand = loop.run_in_executor(later, print)
    by_hand.set_result("by hand")
    later.calls[1].set_result(1)
    await pause(3)
    assert by_hand.result() == "by hand"
    if sys.version_info >= (3, 14):  # The call's future tells its own thread, which is the loop's.
        told += [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert told == [AssertionError]


def test_a_loop_that_is_closed_meanwhile(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    later = Later()
    futures = []

    async def begin() -> None:
        futures.append(loop.run_in_executor(later, print))
        futures.append(loop.run_in_executor(later, print))
        futures[1].cancel()

    loop.run_until_complete(begin())
    loop.close()
    for call in later.calls:
        if not call.cancelled():
            call.set_result(1)
    assert not futures[0].done()
    assert [record.getMessage() for record in caplog.records if record.name != "asyncio"] == []


async def test_futures_of_other_kinds(loop: Loop) -> None:
    """An executor of a program may give any that asyncio takes."""

    class Own(Call[Any]):
        pass

    class Giving(Later):
        def __init__(self, given: Any) -> None:
            self.given = given

        def submit(self, *_: Any, **__: Any) -> Any:
            return self.given

    own: Any = Own()
    own.set_result(5)
    assert await loop.run_in_executor(Giving(own), print) == 5
    asyncios = loop.create_future()
    assert loop.run_in_executor(Giving(asyncios), print) is asyncios
    with pytest.raises((TypeError, AssertionError)):
        loop.run_in_executor(Giving(5), print)


async def test_callbacks_have_the_callers_context(loop: Loop) -> None:
    number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)
    seen: list[int] = []
    later = Later()
    number.set(1)
    future = loop.run_in_executor(later, print)
    number.set(2)
    future.add_done_callback(lambda _: seen.append(number.get()))
    later.calls[0].set_result(None)
    await future
    await pause()
    assert seen == [2]


async def test_nothing_is_kept(loop: Loop) -> None:
    class Result:
        pass

    later = Later()
    future = loop.run_in_executor(later, print)
    later.calls.pop().set_result(Result())
    gone = [weakref.ref(await future), weakref.ref(future)]
    del future
    await pause()
    gc.collect()
    assert [it() for it in gone] == [None, None]
