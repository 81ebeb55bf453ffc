"""The end of a Server: wait_closed, serve_forever, close_clients, abort_clients."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import weakref
from typing import Any

import pytest
from support.protocols import Recorder
from support.sockets import PATIENCE, Peer
from support.ticks import pause

Loop = asyncio.AbstractEventLoop


async def serve(loop: Loop) -> tuple[asyncio.Server, Peer, Recorder]:
    """A server with one connection."""
    arrived: asyncio.Future[Recorder] = loop.create_future()

    class Arriving(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if not arrived.done():
                arrived.set_result(self)

    server = await loop.create_server(Arriving, "127.0.0.1", 0)
    peer = Peer(socket.create_connection(server.sockets[0].getsockname(), PATIENCE))
    return server, peer, await arrived


async def test_wait_closed_waits_for_close(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    waiting = asyncio.ensure_future(server.wait_closed())
    await pause(3)
    assert not waiting.done()
    server.close()
    await asyncio.wait_for(waiting, PATIENCE)


async def test_wait_closed_waits_for_connections(loop: Loop) -> None:
    server, peer, protocol = await serve(loop)
    server.close()
    waiting = [asyncio.ensure_future(server.wait_closed()) for _ in range(3)]
    await pause(3)
    assert not any(task.done() for task in waiting)
    peer.close()
    await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
    assert protocol.calls[-1] == "connection_lost"


async def test_wait_closed_after_the_end(loop: Loop) -> None:
    server, peer, protocol = await serve(loop)
    peer.close()
    await protocol.until_lost()
    server.close()
    await asyncio.wait_for(server.wait_closed(), PATIENCE)
    await asyncio.wait_for(server.wait_closed(), PATIENCE)


async def test_connection_that_ends_first(loop: Loop) -> None:
    server, peer, protocol = await serve(loop)
    waiting = asyncio.ensure_future(server.wait_closed())
    peer.close()
    await protocol.until_lost()
    await pause(3)
    assert not waiting.done(), "the server itself is open"
    server.close()
    await asyncio.wait_for(waiting, PATIENCE)


async def test_serve_forever(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0, start_serving=False)
    task = asyncio.ensure_future(server.serve_forever())
    await pause(2)
    assert server.is_serving()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.is_serving()
    assert server.sockets == ()


async def test_serve_forever_ends_with_close(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    task = asyncio.ensure_future(server.serve_forever())
    await pause(2)
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE)


async def test_serve_forever_twice(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    task = asyncio.ensure_future(server.serve_forever())
    await pause(2)
    with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
        await server.serve_forever()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_serve_forever_of_a_closed_server(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    server.close()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.serve_forever()


async def test_cancelled_serve_forever_waits_for_connections(loop: Loop) -> None:
    server, peer, protocol = await serve(loop)
    task = asyncio.ensure_future(server.serve_forever())
    await pause(2)
    task.cancel()
    await pause(3)
    assert not task.done()
    peer.close()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE)
    assert protocol.calls[-1] == "connection_lost"


class Foreign(asyncio.Transport):
    """A transport that is not the loop's own tells the server of itself as asyncio's do."""

    def __init__(self, server: asyncio.Server) -> None:
        super().__init__()
        self.arguments = (self,) if sys.version_info >= (3, 13) else ()
        self.server: Any = server
        self.server._attach(*self.arguments)

    def close(self) -> None:
        self.server._detach(*self.arguments)

    abort = close


@pytest.mark.parametrize("first", ["own", "foreign", "server"])
async def test_wait_closed_waits_for_transports_that_are_not_the_loops(
    loop: Loop, first: str
) -> None:
    server, peer, protocol = await serve(loop)
    foreign = [Foreign(server), Foreign(server)]
    waiting = asyncio.ensure_future(server.wait_closed())
    await pause(1)
    if first == "foreign":
        for each in foreign:
            each.close()
    elif first == "own":
        peer.close()
        await protocol.until_lost()
    await pause(3)
    assert not waiting.done()
    server.close()
    if first == "server":
        foreign.pop().close()
        peer.close()
        await protocol.until_lost()
    await pause(3)
    assert not waiting.done()
    if first == "foreign":
        peer.close()
        await protocol.until_lost()
    else:
        for each in foreign:
            each.close()
    await asyncio.wait_for(waiting, PATIENCE)
    await asyncio.wait_for(server.wait_closed(), PATIENCE)


async def test_closed_server_takes_no_transports(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    server.close()
    with pytest.raises(AssertionError):
        Foreign(server)
    await asyncio.wait_for(server.wait_closed(), PATIENCE)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="close_clients came with 3.13")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
async def test_clients_that_are_not_the_loops(loop: Loop, method: str) -> None:
    server, peer, protocol = await serve(loop)
    foreign = Foreign(server)
    assert set(server._clients) == {foreign, protocol.transport}  # type: ignore[attr-defined]
    getattr(server, method)()
    await protocol.until_lost()
    assert not server._clients  # type: ignore[attr-defined]
    forgotten = Foreign(server)
    del forgotten
    gc.collect()
    server.close()
    await asyncio.wait_for(server.wait_closed(), PATIENCE)
    peer.close()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="close_clients came with 3.13")
async def test_close_clients(loop: Loop) -> None:
    server, peer, protocol = await serve(loop)
    protocol.transport.write(b"x" * (8 << 20))
    server.close()
    server.close_clients()
    assert protocol.transport.is_closing()
    assert len(await peer.to_end()) == 8 << 20
    await asyncio.wait_for(server.wait_closed(), PATIENCE)
    assert protocol.error is None
    peer.close()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="abort_clients came with 3.13")
async def test_abort_clients(loop: Loop) -> None:
    server, peer, protocol = await serve(loop)
    protocol.transport.write(b"x" * (8 << 20))
    server.close()
    server.abort_clients()
    await asyncio.wait_for(server.wait_closed(), PATIENCE)
    assert protocol.calls[-1] == "connection_lost"
    assert protocol.error is None
    peer.close()


async def test_wait_closed_waits_for_the_last_connection(loop: Loop) -> None:
    server, peer, protocol = await serve(loop)
    peers = [peer]
    other, other_peer, other_protocol = await serve(loop)
    address = server.sockets[0].getsockname()
    for _ in range(2):
        peers.append(Peer(socket.create_connection(address, PATIENCE)))
    await pause(5)
    server.close()
    waiting = asyncio.ensure_future(server.wait_closed())
    for peer in peers:
        await pause(3)
        assert waiting.done() == (sys.version_info < (3, 12))
        peer.close()
    await asyncio.wait_for(waiting, PATIENCE)
    assert not other_protocol.transport.is_closing()
    assert other.is_serving()
    other.close()
    other_peer.close()
    await other_protocol.until_lost()
    await protocol.until_lost()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="close_clients came with 3.13")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
async def test_clients_of_another_server_stay(loop: Loop, method: str) -> None:
    server, peer, protocol = await serve(loop)
    other, other_peer, other_protocol = await serve(loop)
    assert list(server._clients) == [protocol.transport]  # type: ignore[attr-defined]
    getattr(server, method)()
    await protocol.until_lost()
    assert not server._clients  # type: ignore[attr-defined]
    assert server.is_serving()
    other_peer.send(b"still here")
    assert await other_protocol.until_received(10) == b"still here"
    getattr(server, method)()
    server.close()
    other.close()
    peer.close()
    other_peer.close()
    await other_protocol.until_lost()


async def test_close_within_the_factory(loop: Loop) -> None:
    closed: asyncio.Future[None] = loop.create_future()

    def factory() -> Recorder:
        server.close()
        closed.set_result(None)
        return Recorder()

    server = await loop.create_server(factory, "127.0.0.1", 0)
    peer = Peer(socket.create_connection(server.sockets[0].getsockname(), PATIENCE))
    await asyncio.wait_for(closed, PATIENCE)
    await pause(3)
    assert not server.is_serving()
    peer.close()
    await pause(5)
    gc.collect()  # a socket that was not closed is found now


async def test_close_in_connection_made(loop: Loop) -> None:
    made: asyncio.Future[Recorder] = loop.create_future()

    class Closing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            server.close()
            made.set_result(self)

    server = await loop.create_server(Closing, "127.0.0.1", 0)
    peer = Peer(socket.create_connection(server.sockets[0].getsockname(), PATIENCE))
    protocol = await asyncio.wait_for(made, PATIENCE)
    peer.send(b"served to the end")
    assert await protocol.until_received(17) == b"served to the end"
    peer.close()
    await asyncio.wait_for(server.wait_closed(), PATIENCE)


async def test_a_forgotten_server_goes_on(loop: Loop) -> None:
    arrived: asyncio.Future[None] = loop.create_future()

    class Arriving(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if not arrived.done():
                arrived.set_result(None)

        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            lost.set_result(None)

    lost: asyncio.Future[None] = loop.create_future()
    listener = socket.create_server(("127.0.0.1", 0))
    server = await loop.create_server(Arriving, sock=listener)
    watch = weakref.ref(server)
    del server
    gc.collect()
    peer = Peer(socket.create_connection(listener.getsockname(), PATIENCE))
    await asyncio.wait_for(arrived, PATIENCE)
    peer.close()
    await asyncio.wait_for(lost, PATIENCE)
    left = watch()
    assert left is not None, "the loop holds it as long as it listens"
    left.close()


async def test_the_server_does_not_keep_a_closed_connection(loop: Loop) -> None:
    watches: list[weakref.ref[Recorder]] = []

    class Watched(Recorder):
        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            watches.append(weakref.ref(self))
            lost.set()

    lost = asyncio.Event()
    server = await loop.create_server(Watched, "127.0.0.1", 0)
    Peer(socket.create_connection(server.sockets[0].getsockname(), PATIENCE)).close()
    await asyncio.wait_for(lost.wait(), PATIENCE)
    await pause(2)
    gc.collect()
    assert watches[0]() is None
    server.close()
