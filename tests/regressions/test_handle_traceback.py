"""Where the running handle was made, in what the default exception handler logs."""

from __future__ import annotations

import asyncio
import logging

import pytest
from support.ticks import turn

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop


def report(loop: Loop) -> None:
    loop.call_exception_handler({"message": "on purpose"})


def logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> str:
    """What a handle that reports something leaves in the log."""
    loop.set_exception_handler(None)
    loop.call_soon(report, loop)
    with caplog.at_level(logging.ERROR, "asyncio"):
        turn(loop)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    return record.getMessage()


def test_debug_mode_logs_where_the_running_handle_was_made(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    message = logged(loop, caplog)
    assert message.startswith("on purpose\n")
    _, found, traceback = message.partition("Handle created at (most recent call last):")
    assert found
    assert "in logged" in traceback


def test_without_debug_mode_nothing_is_logged_of_it(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    assert logged(loop, caplog) == "on purpose"


def test_outside_of_a_handle_there_is_nothing_to_log(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    turn(loop)
    loop.set_exception_handler(None)
    with caplog.at_level(logging.ERROR, "asyncio"):
        report(loop)
    assert [record.getMessage() for record in caplog.records] == ["on purpose"]
