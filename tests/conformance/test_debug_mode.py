"""Debug mode: slow callbacks, wrong arguments, coroutine origins, tracebacks of handles."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.ticks import turn

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop


def slow() -> None:
    time.sleep(0.002)


def test_set_and_get(loop: Loop) -> None:
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


@pytest.mark.parametrize("value", [1, 0, None, "yes", ""])
def test_any_truth_will_do(loop: Loop, value: Any) -> None:
    loop.set_debug(value)
    assert bool(loop.get_debug()) is bool(value)


@pytest.mark.parametrize("way", [["-X", "dev"], []])
def test_debug_by_the_environment(kind: str, way: list[str]) -> None:
    program = (
        "from support import loops; loop = loops.factory(%r)(); "
        "print(loop.get_debug()); loop.close()"
    )
    environment = {"PYTHONASYNCIODEBUG": "" if way else "1"}
    result = subprocess.run(
        [sys.executable, *way, "-c", program % kind],
        env={**os.environ, **environment, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert result.stdout.strip() == "True"


def test_default_slow_callback_duration(loop: Loop) -> None:
    assert loop.slow_callback_duration == 0.1


def test_slow_callback_is_logged_by_name(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.001
    loop.call_soon(slow)
    with caplog.at_level(logging.WARNING, "asyncio"):
        turn(loop)
    (message,) = [record.getMessage() for record in caplog.records if "took" in record.getMessage()]
    assert message.startswith("Executing <")
    assert "slow()" in message
    assert "test_debug_mode.py" in message


def test_slow_task_is_logged_with_its_coroutine(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow_step() -> None:
        slow()

    loop.set_debug(True)
    loop.slow_callback_duration = 0.001
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.run_until_complete(slow_step())
    messages = [record.getMessage() for record in caplog.records]
    assert any("slow_step" in message and "took" in message for message in messages)


def test_slow_timer_is_logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0.001
    loop.call_later(0, slow)
    with caplog.at_level(logging.WARNING, "asyncio"):
        turn(loop)
    assert any("slow()" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("debug", [True, False])
def test_quick_callbacks_are_not_logged(
    loop: Loop, caplog: pytest.LogCaptureFixture, debug: bool
) -> None:
    loop.set_debug(debug)
    loop.slow_callback_duration = 5 if debug else 0
    loop.call_soon(slow)
    with caplog.at_level(logging.WARNING, "asyncio"):
        turn(loop)
    assert not caplog.records


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_callbacks_are_checked(loop: Loop, method: str) -> None:
    async def coroutine_function() -> None: ...

    loop.set_debug(True)
    call = getattr(loop, method)
    with pytest.raises(TypeError, match="callable"):
        call(7)
    with pytest.raises(TypeError, match="coroutine"):
        call(coroutine_function)


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_timer_callbacks_are_checked(loop: Loop, method: str) -> None:
    async def coroutine_function() -> None: ...

    loop.set_debug(True)
    call = getattr(loop, method)
    with pytest.raises(TypeError, match="callable"):
        call(0, 7)
    with pytest.raises(TypeError, match="coroutine"):
        call(0, coroutine_function)


def test_coroutine_origin_is_tracked_while_running(loop: Loop) -> None:
    depths: list[int] = []
    loop.set_debug(True)
    loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    turn(loop)
    assert depths[0] > 0
    assert sys.get_coroutine_origin_tracking_depth() == 0


async def test_debug_switched_while_running(loop: Loop) -> None:
    loop.set_debug(True)
    await asyncio.sleep(0)
    assert sys.get_coroutine_origin_tracking_depth() > 0
    loop.set_debug(False)
    await asyncio.sleep(0)
    assert sys.get_coroutine_origin_tracking_depth() == 0


def test_handles_remember_where_they_were_made(loop: Loop) -> None:
    def made(call: Callable[[], asyncio.Handle]) -> str:
        handle = call()
        handle.cancel()
        traceback = handle._source_traceback  # type: ignore[attr-defined]
        assert traceback is not None
        return str(traceback[-1].filename)

    loop.set_debug(True)
    assert made(lambda: loop.call_soon(print)) == __file__
    assert made(lambda: loop.call_later(1, print)) == __file__
    assert made(lambda: loop.call_at(1, print)) == __file__
    assert made(lambda: loop.call_soon_threadsafe(print)) == __file__
    loop.set_debug(False)
