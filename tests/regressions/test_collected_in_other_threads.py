"""What another thread collects while the loop runs.

Its error was lost, since the default exception handler failed there, and a stream's writer left its
connection open, since `close()` did. The collector runs in whichever thread makes most objects.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import streams
from support.pipes import pipe, reading
from support.primitives import BOTH
from support.protocols import Recorder, connection
from support.sockets import Peer, connected
from support.tasks import awaits, fail
from support.ticks import pause
from support.tls import connection as tls_connection

Loop = asyncio.AbstractEventLoop

in_both_modes = pytest.mark.parametrize("debug", [False, True], ids=["usual", "debug"])


def elsewhere(function: Callable[[], Any]) -> None:
    """Calls it in another thread, while this one, the loop's, waits."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def free_elsewhere(box: list[Any]) -> None:
    def free() -> None:
        box.clear()
        gc.collect()

    elsewhere(free)


@pytest.fixture(autouse=True)
def no_other_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the default exception handler has said."""
    loop.set_exception_handler(None)
    caplog.set_level(logging.ERROR, "asyncio")
    return caplog


@in_both_modes
async def test_a_failed_task(
    loop: Loop, classes: str, logged: pytest.LogCaptureFixture, debug: bool
) -> None:
    loop.set_debug(debug)
    box = [loop.create_task(fail(ValueError("on purpose")))]
    await pause(2)
    free_elsewhere(box)
    (record,) = logged.records
    assert record.message.startswith("Task exception was never retrieved\n")
    assert "fail()" in record.message
    assert record.exc_info is not None and str(record.exc_info[1]) == "on purpose"


@in_both_modes
async def test_a_failed_future(
    loop: Loop, classes: str, logged: pytest.LogCaptureFixture, debug: bool
) -> None:
    loop.set_debug(debug)
    box = [loop.create_future()]
    box[0].set_exception(ValueError("on purpose"))
    free_elsewhere(box)
    (record,) = logged.records
    assert record.message.startswith("Future exception was never retrieved\n")
    assert record.exc_info is not None and str(record.exc_info[1]) == "on purpose"


@in_both_modes
async def test_a_pending_task(
    loop: Loop, classes: str, logged: pytest.LogCaptureFixture, debug: bool
) -> None:
    loop.set_debug(debug)
    box = [loop.create_task(awaits(loop.create_future()))]
    await pause(2)
    free_elsewhere(box)
    (record,) = logged.records
    assert record.message.startswith("Task was destroyed but it is pending!\n")
    assert "awaits()" in record.message


@in_both_modes
async def test_what_is_reported_elsewhere_is_shown(
    loop: Loop, logged: pytest.LogCaptureFixture, debug: bool
) -> None:
    loop.set_debug(debug)
    handle = loop.call_later(1000, print)
    async with connection(Recorder()) as (transport, protocol, _):
        async with tls_connection(Recorder()) as (secret, _, _):
            with pipe() as (reader, _):
                piped = (await reading(reader)).transport
                context: dict[str, Any] = {
                    "message": "all of them",
                    "exception": ValueError("on purpose"),
                    "handle": handle,
                    "protocol": protocol,
                    "transport": transport,
                    "server": (secret, piped, loop),
                }
                elsewhere(lambda: loop.call_exception_handler(context))
                elsewhere(lambda: loop.default_exception_handler({}))
                piped.close()
                await pause(3)
    handle.cancel()
    first, second = (record.message for record in logged.records)
    assert first.startswith("all of them\nhandle: <TimerHandle")
    for shown in ("protocol: <", "transport: <", "ReadPipeTransport fd="):
        assert shown in first
    assert second.startswith("Unhandled exception in event loop")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="does not close before Python 3.11")
@pytest.mark.parametrize("ours", BOTH)
@in_both_modes
async def test_the_writer_of_a_stream(
    loop: Loop, ours: str, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    if ours == "oxlip":
        streams.behind_asyncios_names(monkeypatch)
    refused: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: refused.append(str(it.exc_value)))
    near, far = connected()
    box: list[Any] = [await asyncio.open_connection(sock=near)]
    loop.set_debug(debug)
    del near
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        free_elsewhere(box)
        peer = Peer(far)
        assert await peer.to_end() == b""
        await pause(3)
    peer.close()
    unclosed = [str(it.message) for it in warned if "unclosed <StreamWriter" in str(it.message)]
    if debug:
        # As asyncio's `call_soon` refuses.
        assert len(refused) == 1 and refused[0].startswith("Non-thread-safe operation")
    else:
        assert not refused and len(unclosed) == 1
