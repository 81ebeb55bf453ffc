"""run_forever, run_until_complete, stop and close."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator
from typing import Any

import pytest
from support.ticks import turn

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]


def test_states(loop: Loop) -> None:
    assert not loop.is_running()
    assert not loop.is_closed()
    seen: list[bool] = []
    loop.call_soon(lambda: seen.extend([loop.is_running(), loop.is_closed()]))
    turn(loop)
    assert seen == [True, False]
    assert not loop.is_running()
    loop.close()
    assert loop.is_closed()


def test_run_until_complete_of_a_coroutine(loop: Loop) -> None:
    async def main() -> str:
        await asyncio.sleep(0)
        return "result"

    assert loop.run_until_complete(main()) == "result"


def test_run_until_complete_of_a_future(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(future.set_result, 5)
    assert loop.run_until_complete(future) == 5
    assert loop.run_until_complete(future) == 5, "one that is done already"


def test_run_until_complete_of_a_task(loop: Loop) -> None:
    task = loop.create_task(asyncio.sleep(0, 6))
    assert loop.run_until_complete(task) == 6


def test_run_until_complete_of_an_awaitable(loop: Loop) -> None:
    class Awaitable:
        def __await__(self) -> Generator[Any, None, int]:
            yield from asyncio.sleep(0).__await__()
            return 7

    assert loop.run_until_complete(Awaitable()) == 7


def test_run_until_complete_raises_what_was_raised(loop: Loop) -> None:
    async def fail() -> None:
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        loop.run_until_complete(fail())


def test_run_until_complete_of_a_cancelled_task(loop: Loop) -> None:
    task = loop.create_task(asyncio.sleep(3600))
    loop.call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


@pytest.mark.parametrize("wrong", [None, 1, "text", [], lambda: None])
def test_run_until_complete_of_something_else(loop: Loop, wrong: Any) -> None:
    with pytest.raises(TypeError):
        loop.run_until_complete(wrong)


def test_run_until_complete_of_a_future_of_another_loop(new_loop: NewLoop) -> None:
    ours, other = new_loop(), new_loop()
    with pytest.raises(ValueError, match="loop"):
        ours.run_until_complete(other.create_future())


def test_stop_within_run_until_complete(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed"):
        loop.run_until_complete(future)
    assert not future.done()
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(future) == 1


def test_run_until_complete_leaves_no_callback_on_the_future(loop: Loop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError):
        loop.run_until_complete(future)
    future.set_result(None)
    seen: list[int] = []

    def rest() -> None:
        loop.call_soon(seen.append, 1)
        loop.call_soon(loop.stop)

    loop.call_soon(rest)
    loop.run_forever()
    assert seen == [1], "the old call's callback would have stopped the loop a tick earlier"


def test_run_forever_until_stop(loop: Loop) -> None:
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        if count == 10:
            loop.stop()
        else:
            loop.call_soon(again)

    loop.call_soon(again)
    loop.run_forever()
    assert count == 10


def test_stop_before_the_run_gives_one_tick(loop: Loop) -> None:
    seen: list[str] = []
    loop.stop()
    loop.call_soon(lambda: (seen.append("ran"), loop.call_soon(seen.append, "next tick")))
    loop.run_forever()
    assert seen == ["ran"]
    turn(loop)
    assert seen == ["ran", "next tick"]


def test_stop_is_forgotten_after_the_run(loop: Loop) -> None:
    loop.stop()
    loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1


def test_stop_twice_is_one_stop(loop: Loop) -> None:
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1


def test_a_loop_runs_many_times(loop: Loop) -> None:
    for value in range(20):
        assert loop.run_until_complete(asyncio.sleep(0, value)) == value


async def test_run_forever_of_a_running_loop(loop: Loop) -> None:
    with pytest.raises(RuntimeError, match="This event loop is already running"):
        loop.run_forever()
    assert asyncio.get_running_loop() is loop
    assert loop.is_running()


async def test_run_until_complete_of_a_running_loop(loop: Loop) -> None:
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="This event loop is already running"):
        loop.run_until_complete(coroutine)
    coroutine.close()
    assert asyncio.get_running_loop() is loop
    assert loop.is_running()


async def test_running_another_loop_inside(loop: Loop, new_loop: NewLoop) -> None:
    other = new_loop()
    with pytest.raises(RuntimeError, match="Cannot run the event loop while another"):
        other.run_forever()
    assert not other.is_running()
    assert asyncio.get_running_loop() is loop


def test_running_loop_is_set_and_taken_back(loop: Loop) -> None:
    seen: list[Loop] = []
    loop.call_soon(lambda: seen.append(asyncio.get_running_loop()))
    turn(loop)
    assert seen == [loop]
    assert asyncio._get_running_loop() is None


def test_running_loop_is_taken_back_after_an_error(loop: Loop) -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(interrupt())
    assert asyncio._get_running_loop() is None


def test_close_while_running(loop: Loop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()

    loop.run_until_complete(main())
    assert not loop.is_closed()


def test_close_twice(loop: Loop) -> None:
    loop.close()
    loop.close()
    assert loop.is_closed()


def test_close_drops_what_was_scheduled(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(seen.append, "never")
    loop.call_later(0, seen.append, "never")
    loop.close()
    assert seen == []


def closed_calls() -> list[tuple[str, Callable[[Loop], Any]]]:
    """Every method that a closed loop refuses, with a call of it."""
    return [
        ("run_forever", lambda loop: loop.run_forever()),
        ("call_soon", lambda loop: loop.call_soon(print)),
        ("call_soon_threadsafe", lambda loop: loop.call_soon_threadsafe(print)),
        ("call_later", lambda loop: loop.call_later(1, print)),
        ("call_at", lambda loop: loop.call_at(1, print)),
        ("run_in_executor", lambda loop: loop.run_in_executor(None, print)),
        ("add_reader", lambda loop: loop.add_reader(0, print)),
        ("add_writer", lambda loop: loop.add_writer(0, print)),
    ]


@pytest.mark.parametrize(("name", "call"), closed_calls(), ids=lambda value: str(value)[:20])
def test_a_closed_loop_refuses(loop: Loop, name: str, call: Callable[[Loop], Any]) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        call(loop)


def test_a_closed_loop_refuses_coroutines(loop: Loop) -> None:
    loop.close()
    coroutine = asyncio.sleep(0)
    for call in (loop.run_until_complete, loop.create_task):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            call(coroutine)
    coroutine.close()


def test_a_closed_loop_still_answers(loop: Loop) -> None:
    loop.close()
    loop.stop()
    assert isinstance(loop.time(), float)
    assert loop.create_future().get_loop() is loop
    assert loop.get_debug() in (True, False)
    with socket.socket() as sock:
        assert loop.remove_reader(sock) is False
        assert loop.remove_writer(sock) is False
    assert "closed=True" in repr(loop)


def test_repr(loop: Loop) -> None:
    assert "running=False closed=False debug=False" in repr(loop)
    loop.set_debug(True)
    seen: list[str] = []
    loop.call_soon(lambda: seen.append(repr(loop)))
    turn(loop)
    assert "running=True closed=False debug=True" in seen[0]
