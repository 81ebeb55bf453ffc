"""A loop's signal handler was forgotten once the program had called `signal.signal()` as well.

uvicorn does so while it serves. asyncio reads from a descriptor which signals have come, whoever
has the Python handler.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from support.sockets import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")

Loop = asyncio.AbstractEventLoop


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    used = (signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in used]
    yield
    for number, action in zip(used, before, strict=True):
        signal.signal(number, action)


def _run_until_stopped(loop: Loop) -> None:
    patience = loop.call_later(PATIENCE, loop.stop)
    loop.run_forever()
    patience.cancel()


def test_the_loop_is_told_beside_who_has_replaced_its_handler(loop: Loop) -> None:
    seen: list[str] = []

    def told() -> None:
        seen.append("loop")
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, told)
    signal.signal(signal.SIGUSR1, lambda *_: seen.append("program"))
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    _run_until_stopped(loop)
    loop.remove_signal_handler(signal.SIGUSR1)
    assert seen == ["program", "loop"]


def test_the_loop_is_told_once_of_the_signals_it_still_has(loop: Loop) -> None:
    seen: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "kept")
    # What the loop learns of this one it has read behind the other.
    loop.add_signal_handler(signal.SIGUSR2, loop.call_soon, loop.call_soon, loop.stop)
    signal.signal(signal.SIGUSR2, lambda *_: None)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR2)
    _run_until_stopped(loop)
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)
    assert seen == ["kept"]


def test_replaced_after_the_signal_has_come(loop: Loop) -> None:
    """The loop has heard of it by the handler, and must not by the descriptor once more."""
    seen: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "loop")
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.call_soon(signal.signal, signal.SIGUSR1, signal.SIG_IGN)
    # It sleeps until a thread wakes it, and has read by then which signals have come.
    slept = loop.run_in_executor(None, int)
    slept.add_done_callback(lambda _: loop.call_soon(loop.call_soon, loop.call_soon, loop.stop))
    _run_until_stopped(loop)
    loop.remove_signal_handler(signal.SIGUSR1)
    assert seen == ["loop"]
