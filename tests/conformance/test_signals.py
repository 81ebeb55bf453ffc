"""Signals: add_signal_handler, Ctrl-C, and plain Python handlers while the loop waits."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.ticks import turn

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")

Loop = asyncio.AbstractEventLoop


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Puts back what a test changed about the signals it uses."""
    used = [signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM]
    before = {number: signal.getsignal(number) for number in used}
    descriptor = signal.set_wakeup_fd(-1)
    yield
    for number, action in before.items():
        signal.signal(number, action)
    left = signal.set_wakeup_fd(descriptor)
    assert left == -1, "the loop left its wake-up descriptor behind"


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_handler_runs_in_the_loop(loop: Loop) -> None:
    seen: list[Any] = []

    def caught(*arguments: Any) -> None:
        seen.append((arguments, asyncio.get_running_loop(), threading.current_thread()))
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, caught, 1, 2)
    loop.call_soon(send, signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert seen == [((1, 2), loop, threading.main_thread())]


def test_a_signal_comes_behind_what_is_scheduled(loop: Loop) -> None:
    seen: list[Any] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")

    def begin() -> None:
        loop.call_soon(seen.append, 1)
        send(signal.SIGUSR1)
        loop.call_soon(seen.append, 2)
        loop.call_soon(loop.call_soon, seen.append, 3)

    loop.call_soon(begin)
    turn(loop, ticks=3)
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert seen == [1, 2, 3, "signal"]


def test_a_handler_that_is_removed_before_it_is_called(loop: Loop) -> None:
    seen: list[Any] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")
    send(signal.SIGUSR1)
    assert loop.remove_signal_handler(signal.SIGUSR1)
    turn(loop, ticks=3)
    assert seen == []


def test_signal_before_the_run_is_kept(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    send(signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_signal_sent_by_a_thread_wakes_a_sleeping_loop(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    thread = threading.Thread(target=send, args=(signal.SIGUSR1,))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_the_handle_of_a_handler(loop: Any) -> None:
    """Cancelled, it takes the handler away with the next signal, which is not acted upon."""
    seen: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "caught")
    handle = loop._signal_handlers[signal.SIGUSR1]
    assert isinstance(handle, asyncio.Handle)
    assert (handle._callback, handle._args) == (seen.append, ("caught",))
    handle.cancel()
    loop.call_soon(send, signal.SIGUSR1)
    while loop._signal_handlers:
        turn(loop)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert seen == []


def test_several_signals(loop: Loop) -> None:
    seen: list[str] = []

    async def main() -> None:
        done = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "first")
        loop.add_signal_handler(signal.SIGUSR2, done.set_result, None)
        send(signal.SIGUSR1)
        send(signal.SIGUSR2)
        await done
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert loop.remove_signal_handler(signal.SIGUSR2)

    loop.run_until_complete(main())
    assert seen == ["first"]


def test_handler_is_replaced(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, pytest.fail, "replaced")
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.call_soon(send, signal.SIGUSR1)
    loop.run_forever()
    assert loop.remove_signal_handler(signal.SIGUSR1) is True


def test_remove_puts_back_the_default(loop: Loop) -> None:
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    loop.add_signal_handler(signal.SIGUSR1, print)
    assert signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    loop.add_signal_handler(signal.SIGINT, print)
    assert loop.remove_signal_handler(signal.SIGINT) is True
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_close_removes_the_handlers(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGUSR2, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


@pytest.mark.parametrize("number", [0, -1, 1000])
def test_invalid_number(loop: Loop, number: int) -> None:
    with pytest.raises(ValueError):
        loop.add_signal_handler(number, print)
    with pytest.raises(ValueError):
        loop.remove_signal_handler(number)


def test_invalid_type(loop: Loop) -> None:
    with pytest.raises(TypeError):
        loop.add_signal_handler("SIGINT", print)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_signal_that_cannot_be_caught(loop: Loop, number: int) -> None:
    with pytest.raises((RuntimeError, OSError)):
        loop.add_signal_handler(number, print)


def test_coroutines_are_refused(loop: Loop) -> None:
    async def coroutine_function() -> None: ...

    with pytest.raises(TypeError, match="coroutines cannot be used"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine_function)


def test_only_in_the_main_thread(loop: Loop) -> None:
    errors: list[BaseException] = []

    def body() -> None:
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert [type(error) for error in errors] in ([RuntimeError], [ValueError])


def test_error_in_a_handler(loop: Loop, contexts: list[dict[str, Any]]) -> None:
    def fail() -> None:
        loop.call_soon(loop.stop)
        raise ValueError("on purpose")

    loop.add_signal_handler(signal.SIGUSR1, fail)
    send(signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert [type(context["exception"]) for context in contexts] == [ValueError]
    contexts.clear()


def test_ctrl_c_while_the_loop_sleeps(loop: Loop) -> None:
    timer = threading.Timer(0.02, send, [signal.SIGINT])
    loop.call_soon(timer.start)  # not before the loop runs
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    timer.join()
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


def test_ctrl_c_while_a_callback_runs(loop: Loop) -> None:
    loop.call_soon(send, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(3600))
    for task in asyncio.all_tasks(loop):
        task.cancel()
    turn(loop, ticks=3)


def test_ctrl_c_while_only_callbacks_run(loop: Loop) -> None:
    count = 0

    def busy() -> None:
        nonlocal count
        count += 1
        if count == 50:
            send(signal.SIGINT)
        loop.call_soon(busy)

    loop.call_soon(busy)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert count < 5000


def test_ctrl_c_while_only_native_callbacks_run(loop: Loop) -> None:
    """No instruction of Python's is executed, between which the interpreter looks for signals."""
    again = functools.partial(loop.call_soon)
    again.__setstate__((loop.call_soon, (again,), {}, None))  # type: ignore[attr-defined]
    again()
    timer = threading.Timer(0.02, send, [signal.SIGINT])
    start = loop.time()
    loop.call_soon(timer.start)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert loop.time() - start < 20, "only the time limit's own signal let the thread in"
    timer.join()
    again.__setstate__((int, (), {}, None))  # type: ignore[attr-defined]


def test_plain_handler_runs_while_the_loop_sleeps(loop: Loop) -> None:
    seen: list[int] = []

    def caught(number: int, frame: Any) -> None:
        seen.append(number)
        loop.call_soon_threadsafe(loop.stop)

    signal.signal(signal.SIGUSR1, caught)
    timer = threading.Timer(0.02, send, [signal.SIGUSR1])
    timer.start()
    loop.run_forever()
    timer.join()
    assert seen == [signal.SIGUSR1]


def test_error_of_a_plain_handler_leaves_the_loop(loop: Loop) -> None:
    class OnPurpose(Exception):
        pass

    def raising(number: int, frame: Any) -> None:
        raise OnPurpose

    signal.signal(signal.SIGUSR1, raising)
    timer = threading.Timer(0.02, send, [signal.SIGUSR1])
    with pytest.raises(OnPurpose):
        # Not from a callback, which the signal could then find still running.
        timer.start()
        loop.run_forever()
    timer.join()
    assert not loop.is_running()


def test_interrupted_wait_goes_on_until_its_time(loop: Loop) -> None:
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    timer = threading.Timer(0.01, send, [signal.SIGUSR1])
    start = loop.time()
    timer.start()
    loop.run_until_complete(asyncio.sleep(0.03))
    assert loop.time() - start >= 0.03
    timer.join()


def test_a_loop_in_a_thread_leaves_signals_alone(new_loop: Callable[[], Loop]) -> None:
    loop = new_loop()
    results: list[Any] = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(
        target=lambda: results.append(loop.run_until_complete(asyncio.sleep(0, 1)))
    )
    thread.start()
    thread.join()
    assert results == [1]
    assert signal.getsignal(signal.SIGINT) is before
