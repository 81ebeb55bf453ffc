"""asyncio's own `StreamReader` on a connection: it takes data as by its `feed_data()`, whatever has
become of it, its class and what it holds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.protocols import PATIENCE
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
Reader = asyncio.StreamReader


@contextlib.asynccontextmanager
async def fed(loop: Loop, limit: int = 2**16) -> AsyncIterator[tuple[Any, socket.socket]]:
    """A reader that has had data already, and the peer's socket."""
    reader = Reader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    theirs.sendall(b"first")
    assert await exactly(reader, 5) == b"first"
    yield reader, theirs
    theirs.close()
    transport.close()
    closed = protocol._get_close_waiter(None)  # type: ignore[attr-defined]
    done, _ = await asyncio.wait([closed], timeout=PATIENCE)
    assert done


async def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


async def exactly(reader: Any, count: int) -> bytes:
    data: bytes = await asyncio.wait_for(reader.readexactly(count), PATIENCE)
    return data


@pytest.mark.ours
async def test_no_function_in_python_is_called(loop: Loop) -> None:
    called = []

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    async with fed(loop) as (reader, peer):
        reading = asyncio.ensure_future(reader.read(100))
        await until(lambda: reader._waiter is not None)
        peer.sendall(b"abc")
        sys.setprofile(note)
        try:
            data = await reading
        finally:
            sys.setprofile(None)
    assert data == b"abc"
    assert not {"data_received", "feed_data", "_wakeup_waiter"} & set(called)


@pytest.mark.parametrize("name", ["feed_data", "_wakeup_waiter"])
@pytest.mark.parametrize("where", ["object", "class"])
async def test_its_methods_are_replaced(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    called = []
    async with fed(loop) as (reader, peer):
        stock = getattr(Reader, name)

        def noting(*arguments: Any) -> None:
            called.append(name)
            stock(*([reader] if where == "object" else []), *arguments)

        monkeypatch.setattr(reader if where == "object" else Reader, name, noting)
        peer.sendall(b"abc")
        assert await exactly(reader, 3) == b"abc"
        assert called == [name]
        monkeypatch.undo()
        peer.sendall(b"def")
        assert await exactly(reader, 3) == b"def"
        assert called == [name]


@pytest.mark.parametrize("name", ["_buffer", "_waiter", "_eof", "_limit", "_transport"])
async def test_a_property_in_its_class(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It goes before what the object holds."""
    asked = []
    async with fed(loop) as (reader, peer):

        def get(self: Any) -> Any:
            asked.append(name)
            return vars(self)[name]

        def put(self: Any, value: Any) -> None:
            vars(self)[name] = value

        monkeypatch.setattr(Reader, name, property(get, put), raising=False)
        peer.sendall(b"abc")
        await until(lambda: len(vars(reader)["_buffer"]) == 3)
        assert asked
        monkeypatch.undo()
        assert await exactly(reader, 3) == b"abc"


async def test_of_a_derived_class(loop: Loop) -> None:
    seen = []

    class Derived(Reader):
        def feed_data(self, data: Any) -> None:
            seen.append(bytes(data))
            super().feed_data(data)

    async with fed(loop) as (reader, peer):
        reader.__class__ = Derived
        peer.sendall(b"abc")
        assert await exactly(reader, 3) == b"abc"
    assert seen == [b"abc"]


async def test_reading_pauses_beyond_twice_the_limit(loop: Loop) -> None:
    async with fed(loop, limit=10) as (reader, peer):
        peer.sendall(b"x" * 20)
        await until(lambda: len(reader._buffer) == 20)
        assert not reader._paused
        peer.sendall(b"y")
        await until(lambda: reader._paused)
        assert not reader._transport.is_reading()
        peer.sendall(b"z")
        await pause(3)
        assert len(reader._buffer) == 21
        assert await exactly(reader, 22) == b"x" * 20 + b"yz"
        assert reader._transport.is_reading()


async def test_another_kind_of_buffer(loop: Loop) -> None:
    async with fed(loop) as (reader, peer):

        class Buffer(bytearray):
            def extend(self, data: Any) -> None:
                super().extend(bytes(data).upper())

        reader._buffer = Buffer()
        peer.sendall(b"abc")
        assert await exactly(reader, 3) == b"ABC"


async def test_who_waits_has_been_cancelled(loop: Loop) -> None:
    async with fed(loop) as (reader, peer):
        waiter = reader._waiter = loop.create_future()
        waiter.cancel()
        peer.sendall(b"abc")
        await until(lambda: reader._buffer)
        assert reader._waiter is None
        assert await exactly(reader, 3) == b"abc"


async def test_who_waits_is_no_future_of_asyncios(loop: Loop) -> None:
    told = []

    class Waiter:
        def cancelled(self) -> bool:
            told.append(reader._waiter)
            return False

        def set_result(self, result: object) -> None:
            told.append(result)

    async with fed(loop) as (reader, peer):
        reader._waiter = Waiter()
        peer.sendall(b"abc")
        await until(lambda: len(told) == 2)
        assert told == [None, None]
        assert await exactly(reader, 3) == b"abc"


@pytest.mark.parametrize("what", ["exported", "ended", "waiter"])
async def test_what_cannot_be_taken(loop: Loop, contexts: list[dict[str, Any]], what: str) -> None:
    """It is a fatal error of the connection, as an exception in any `data_received()`."""
    async with fed(loop) as (reader, peer):
        view = memoryview(reader._buffer)
        if what == "ended":
            reader._eof = True
        elif what == "waiter":
            reader._waiter = loop.create_future()
            reader._waiter.set_result(None)
        if what != "exported":
            view.release()
        transport = reader._transport
        peer.sendall(b"abc")
        await until(transport.is_closing)
        await until(lambda: contexts)
        view.release()
    (context,) = contexts
    contexts.clear()
    expected = {
        "exported": BufferError,
        "ended": AssertionError,
        "waiter": asyncio.InvalidStateError,
    }
    assert type(context["exception"]) is expected[what]
    assert context["message"] == "Fatal error: protocol.data_received() call failed."
