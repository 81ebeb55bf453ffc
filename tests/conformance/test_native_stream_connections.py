"""Our streams on a connection: data that go past the protocol, the writer, servers."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from typing import Any

import pytest
from support.loops import STOCK_ONLY
from support.protocols import PATIENCE
from support.streams import reader_on
from support.ticks import pause

if STOCK_ONLY:
    pytest.skip("without oxlip", allow_module_level=True)

import oxlip

Loop = asyncio.AbstractEventLoop
StockReader = asyncio.StreamReader


async def connected(
    loop: Loop, protocol: asyncio.Protocol
) -> tuple[asyncio.Transport, socket.socket]:
    """A transport with this protocol, and the socket of its peer."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    return transport, theirs


@pytest.mark.parametrize("reader_class", [oxlip.StreamReader, StockReader])
async def test_past_the_protocol(loop: Loop, reader_class: type[Any]) -> None:
    reader = reader_class(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, peer = await connected(loop, protocol)
    peer.sendall(b"abc")
    assert await asyncio.wait_for(reader.readexactly(3), PATIENCE) == b"abc"
    # A reader that nobody has any more: what comes for it is dropped.
    del reader
    gc.collect()
    peer.sendall(b"abc")
    await pause(3)
    transport.close()
    await asyncio.wait_for(protocol._get_close_waiter(None), PATIENCE)  # type: ignore[attr-defined]
    peer.close()


@pytest.mark.parametrize("reader_class", [oxlip.StreamReader, StockReader])
async def test_feed_data_replaced_on_a_living_connection(
    loop: Loop, reader_class: type[Any]
) -> None:
    """As clients do that want each message at once and never read."""
    reader = reader_class(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, peer = await connected(loop, protocol)
    peer.sendall(b"abc")
    assert await asyncio.wait_for(reader.readexactly(3), PATIENCE) == b"abc"
    told = loop.create_future()
    reader.feed_data = told.set_result
    peer.sendall(b"def")
    assert await asyncio.wait_for(told, PATIENCE) == b"def"
    transport.close()
    await asyncio.wait_for(protocol._get_close_waiter(None), PATIENCE)  # type: ignore[attr-defined]
    peer.close()


@pytest.mark.parametrize(
    "where", ["derived", "instance", "patched", "property", "connection_made", "reader"]
)
async def test_a_protocol_with_a_will_of_its_own(
    loop: Loop, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked, however its `data_received` or its reader came to be another."""
    seen = bytearray()
    reader = reader_on(loop)

    class Derived(asyncio.StreamReaderProtocol):
        def data_received(self, data: bytes) -> None:
            seen.extend(data)
            reader.feed_data(data)

    class Other(asyncio.StreamReaderProtocol):
        @property
        def _stream_reader(self) -> Any:
            seen.extend(b"abc")
            return reader

    class Late(asyncio.StreamReaderProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.data_received = Derived(reader, loop=loop).data_received  # type: ignore

    feed = reader.feed_data

    def feed_noting(data: bytes) -> None:
        seen.extend(data)
        feed(data)

    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    if where == "connection_made":
        protocol = Late(reader, loop=loop)
    elif where == "reader":
        reader.feed_data = feed_noting
    elif where == "derived":
        protocol = Derived(reader, loop=loop)
    elif where == "property":
        protocol = Other(reader, loop=loop)
    elif where == "instance":
        protocol.data_received = Derived(reader, loop=loop).data_received  # type: ignore
    else:
        monkeypatch.setattr(asyncio.StreamReaderProtocol, "data_received", Derived.data_received)
    transport, peer = await connected(loop, protocol)
    seen.clear()
    peer.sendall(b"abc")
    assert await asyncio.wait_for(reader.readexactly(3), PATIENCE) == b"abc"
    assert seen == b"abc"
    peer.close()
    await asyncio.wait_for(reader.read(), PATIENCE)
    transport.close()
    await pause()


async def test_writer_of_a_derived_class(loop: Loop) -> None:
    transport, peer = await connected(loop, asyncio.Protocol())

    class Derived(oxlip.StreamWriter):
        @property
        def _transport(self) -> Any:  # type: ignore[override]
            return transport

        @_transport.setter
        def _transport(self, value: Any) -> None: ...

    class Protocol:
        """Delegates what asyncio asks of it."""

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    inner = asyncio.StreamReaderProtocol(None, loop=loop)  # type: ignore[arg-type]
    derived = Derived(transport, Protocol(), None, loop)  # type: ignore[arg-type]
    plain = oxlip.StreamWriter(transport, Protocol(), None, loop)  # type: ignore[arg-type]
    for writer, data in ((derived, b"x"), (plain, b"y")):
        writer.write(data)
        await writer.drain()
    await pause()
    assert peer.recv(1) + peer.recv(1) == b"xy"
    transport.close()
    await pause()
    peer.close()


async def test_drain_while_the_protocol_is_paused(loop: Loop) -> None:
    reader = reader_on(loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, peer = await connected(loop, protocol)
    writer = oxlip.StreamWriter(transport, protocol, reader, loop)
    await writer.drain()
    protocol.pause_writing()
    task = loop.create_task(writer.drain())
    await pause()
    assert not task.done()
    protocol.resume_writing()
    await task
    # What is wrong with the reader is told to the writer.
    reader.set_exception(ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError, match="gone"):
        await writer.drain()
    transport.close()
    await pause()
    peer.close()


async def test_drain_of_a_lost_connection(loop: Loop) -> None:
    reader = reader_on(loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, peer = await connected(loop, protocol)
    writer = oxlip.StreamWriter(transport, protocol, reader, loop)
    transport.close()
    with pytest.raises(ConnectionResetError, match="Connection lost"):
        await writer.drain()
    peer.close()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the writer's end closes the connection")
async def test_a_server_that_keeps_only_the_reader(loop: Loop) -> None:
    """The protocol keeps the writer."""
    tasks: list[asyncio.Task[bytes]] = []

    readers = []

    def connected(reader: Any, writer: Any) -> None:
        readers.append(reader)
        tasks.append(asyncio.ensure_future(reader.readexactly(5)))

    server = await oxlip.start_server(connected, "127.0.0.1", 0)
    _, writer = await oxlip.open_connection(*server.sockets[0].getsockname())  # type: ignore
    try:
        writer.write(b"hello")
        await pause(3)
        gc.collect()
        assert await asyncio.wait_for(tasks[0], PATIENCE) == b"hello"
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), *tasks, return_exceptions=True)
        for reader in readers:
            reader._transport.close()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_servers_callback_that_raises(
    loop: Loop, contexts: list[dict[str, Any]], at_once: bool
) -> None:
    def plain(reader: Any, writer: Any) -> None:
        raise ZeroDivisionError

    async def coroutine(reader: Any, writer: Any) -> None:
        raise ZeroDivisionError

    server = await oxlip.start_server(plain if at_once else coroutine, "127.0.0.1", 0)
    reader, writer = await oxlip.open_connection(*server.sockets[0].getsockname())  # type: ignore
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b"", "the connection is closed"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    (context,) = contexts
    assert context["message"] == "Unhandled exception in client_connected_cb"
    assert isinstance(context["exception"], ZeroDivisionError)
    contexts.clear()
