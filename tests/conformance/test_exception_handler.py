"""The exception handler: setting it, the default one, and one that fails itself."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.ticks import turn

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop


def fail() -> None:
    raise ZeroDivisionError("on purpose")


def test_set_and_get(loop: Loop) -> None:
    def chosen(loop: Loop, context: dict[str, Any]) -> None: ...

    loop.set_exception_handler(chosen)
    assert loop.get_exception_handler() is chosen
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


def test_must_be_callable(loop: Loop) -> None:
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        loop.set_exception_handler("text")  # type: ignore[arg-type]


def test_gets_loop_and_context(loop: Loop) -> None:
    seen: list[Any] = []
    loop.set_exception_handler(lambda *arguments: seen.append(arguments))
    handle = loop.call_soon(fail)
    turn(loop)
    ((given_loop, context),) = seen
    assert given_loop is loop
    assert context.keys() >= {"message", "exception", "handle"}
    assert context["handle"] is handle
    assert context["message"].startswith("Exception in callback ")
    assert context["exception"].__traceback__ is not None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="sys.exception() is new in 3.11")
def test_the_error_is_the_one_that_is_handled(loop: Loop) -> None:
    """As in an `except` block: `logger.exception()` shows its traceback."""
    handled: list[Any] = []

    def handler(_: Loop, context: dict[str, Any]) -> None:
        handled.append((sys.exception() is context["exception"], context["exception"] is not None))

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    loop.call_later(0, fail)
    future = loop.create_future()
    future.add_done_callback(lambda _: fail())
    future.set_result(None)
    turn(loop)
    turn(loop)
    assert handled == [(True, True)] * 3
    assert sys.exception() is None


def test_what_a_handler_raises_has_the_error_as_its_context(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(_: Loop, context: dict[str, Any]) -> None:
        raise LookupError

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    turn(loop)
    (record,) = caplog.records
    assert record.exc_info is not None
    error = record.exc_info[1]
    assert isinstance(error, LookupError)
    assert isinstance(error.__context__, ZeroDivisionError)


def test_of_a_timer(loop: Loop) -> None:
    seen: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: seen.append(context))
    handle = loop.call_later(0, fail)
    turn(loop)
    assert seen[0]["handle"] is handle
    assert "fail" in seen[0]["message"]


def test_debug_mode_adds_the_source(loop: Loop) -> None:
    seen: list[dict[str, Any]] = []
    loop.set_debug(True)
    loop.set_exception_handler(lambda _, context: seen.append(context))
    loop.call_soon(fail)
    turn(loop)
    assert seen[0]["source_traceback"][-1].filename == __file__


def test_default_handler_logs(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_exception_handler(None)
    loop.call_soon(fail)
    with caplog.at_level(logging.ERROR, "asyncio"):
        turn(loop)
    (record,) = caplog.records
    assert record.name == "asyncio"
    assert record.levelno == logging.ERROR
    assert "Exception in callback" in record.getMessage()
    assert record.exc_info is not None and record.exc_info[0] is ZeroDivisionError


def test_call_exception_handler_with_other_keys(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(None)
    with caplog.at_level(logging.ERROR, "asyncio"):
        loop.call_exception_handler({"message": "something odd", "transport": "the transport"})
    (record,) = caplog.records
    assert "something odd" in record.getMessage()
    assert "the transport" in record.getMessage()


def test_default_handler_can_be_called_from_ones_own(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(lambda loop, context: loop.default_exception_handler(context))
    loop.call_soon(fail)
    with caplog.at_level(logging.ERROR, "asyncio"):
        turn(loop)
    assert "Exception in callback" in caplog.records[0].getMessage()


def test_handler_that_fails(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    def failing(loop: Loop, context: dict[str, Any]) -> None:
        raise LookupError("in the handler")

    loop.set_exception_handler(failing)
    loop.call_soon(fail)
    with caplog.at_level(logging.ERROR, "asyncio"):
        turn(loop)
    assert any("Unhandled error in exception handler" in r.getMessage() for r in caplog.records)
    assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_the_handler_stops_the_loop(loop: Loop, error: type[BaseException]) -> None:
    def interrupting(loop: Loop, context: dict[str, Any]) -> None:
        raise error

    loop.set_exception_handler(interrupting)
    loop.call_soon(fail)
    with pytest.raises(error):
        loop.run_until_complete(asyncio.sleep(0))


def test_subclass_may_override_the_handling(kind: str, new_loop: Callable[[], Loop]) -> None:
    loop = new_loop()
    seen: list[dict[str, Any]] = []

    class Loud(type(loop)):  # type: ignore[misc]
        def call_exception_handler(self, context: dict[str, Any]) -> None:
            seen.append(context)

    loud = Loud() if kind == "asyncio" else Loud(driver=kind.removeprefix("oxlip-"))
    try:
        loud.call_soon(fail)
        turn(loud)
    finally:
        loud.close()
    assert isinstance(seen[0]["exception"], ZeroDivisionError)
