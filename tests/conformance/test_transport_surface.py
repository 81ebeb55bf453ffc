"""What a transport tells about itself: types, extra info, set_protocol, repr."""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio.trsock import TransportSocket
from typing import Any

import pytest
from support.protocols import BufferedRecorder, Recorder, connection
from support.sockets import PATIENCE, has_ipv6, listening
from support.ticks import pause

Loop = asyncio.AbstractEventLoop


async def test_types(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, _):
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.BaseTransport)
        assert isinstance(transport.get_extra_info("socket"), TransportSocket)


async def test_extra_info(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        assert transport.get_extra_info("peername") == peer.sock.getsockname()
        assert transport.get_extra_info("sockname") == peer.sock.getpeername()
        for absent in ("ssl_object", "peercert", "cipher", "sslcontext", "unknown"):
            assert transport.get_extra_info(absent) is None
        assert transport.get_extra_info("unknown", 7) == 7
        assert transport.get_extra_info("peername", 7) != 7


async def test_extra_info_of_the_connecting_side(loop: Loop) -> None:
    with listening() as listener:
        transport, _ = await loop.create_connection(Recorder, *listener.getsockname())
        accepted, address = listener.accept()
        with accepted:
            assert transport.get_extra_info("sockname") == address
            assert transport.get_extra_info("peername") == listener.getsockname()
        transport.abort()
        await pause(2)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
async def test_extra_info_of_ipv6(loop: Loop) -> None:
    with listening(socket.AF_INET6) as listener:
        transport, _ = await loop.create_connection(Recorder, *listener.getsockname()[:2])
        accepted, address = listener.accept()
        with accepted:
            assert transport.get_extra_info("sockname") == address
            assert transport.get_extra_info("peername") == listener.getsockname()
            assert transport.get_extra_info("socket").family == socket.AF_INET6
        transport.abort()
        await pause(2)


async def test_the_socket(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        sock = transport.get_extra_info("socket")
        assert sock.family == socket.AF_INET
        assert sock.type == socket.SOCK_STREAM
        assert sock.fileno() >= 0
        assert sock.gettimeout() == 0
        assert sock.getpeername() == peer.sock.getsockname()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
        assert transport.get_extra_info("socket").fileno() == sock.fileno()


async def test_the_socket_itself(loop: Loop) -> None:
    """Libraries take it past the documentation."""
    made: Any
    endpoint: Any
    async with connection(Recorder()) as (made, protocol, _):
        endpoint, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        assert (made._sock.type, endpoint._sock.type) == (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        for transport in (made, endpoint):
            shown = transport.get_extra_info("socket")
            assert isinstance(transport._sock, socket.socket)
            assert transport._sock.fileno() == shown.fileno()
            transport.abort()
        await protocol.until_lost()
        await pause(2)
        assert (made._sock, endpoint._sock) == (None, None)


async def test_a_duplicate_of_the_socket_is_the_programs(loop: Loop) -> None:
    protocol = Recorder()
    async with connection(protocol) as (transport, _, peer):
        with transport.get_extra_info("socket").dup() as twin:
            assert twin.gettimeout() == 0
            transport.abort()
            await protocol.until_lost()
            twin.send(b"still open")
            assert peer.sock.recv(100) == b"still open"
        assert twin.fileno() == -1


async def test_nodelay_on_every_way_to_a_transport(loop: Loop) -> None:
    def nodelay(transport: asyncio.BaseTransport) -> int:
        sock = transport.get_extra_info("socket")
        return int(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    accepted: asyncio.Future[asyncio.Transport] = loop.create_future()

    class Accepting(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            accepted.set_result(self.transport)

    server = await loop.create_server(Accepting, "127.0.0.1", 0)
    client, _ = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    assert nodelay(client)
    assert nodelay(await accepted)
    client.close()
    (await accepted).close()
    server.close()
    await pause(3)


async def test_the_descriptor_is_not_inherited(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    client, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    assert not os.get_inheritable(client.get_extra_info("socket").fileno())
    assert not os.get_inheritable(server.sockets[0].fileno())
    client.close()
    server.close()
    await protocol.until_lost()


async def test_protocol_is_that_of_the_factory(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        assert transport.get_protocol() is protocol


async def test_set_protocol(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, first, peer):
        peer.send(b"one")
        await first.until_received(3)
        second = Recorder()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        peer.send(b"two")
        assert await second.until_received(3) == b"two"
        assert bytes(first.data) == b"one"
        transport.close()
        await second.until_lost()
        assert "connection_lost" not in first.calls
        assert "connection_made" not in second.calls


async def test_set_protocol_to_a_buffered_one_and_back(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, first, peer):
        buffered = BufferedRecorder()
        transport.set_protocol(buffered)
        peer.send(b"into the buffer of the protocol")
        assert await buffered.until_received(31) == b"into the buffer of the protocol"
        transport.set_protocol(first)
        peer.send(b"as bytes")
        assert await first.until_received(8) == b"as bytes"


async def test_set_protocol_in_data_received(loop: Loop) -> None:
    class Upgrading(Recorder):
        next: asyncio.BaseProtocol

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.set_protocol(self.next)

    async with connection(Upgrading()) as (_, first, peer):
        first.next = second = BufferedRecorder()
        peer.send(b"upgrade")
        await first.until_received(7)
        peer.send(b"upgraded")
        assert await second.until_received(8) == b"upgraded"


async def test_paused_state_outlives_set_protocol(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        transport.pause_reading()
        second = Recorder()
        transport.set_protocol(second)
        peer.send(b"x")
        await pause(4)
        assert not second.data
        transport.resume_reading()
        await second.until_received(1)


async def test_repr(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        shown = repr(transport)
        assert f"fd={transport.get_extra_info('socket').fileno()}" in shown
        assert "closing" not in shown and "closed" not in shown
        transport.write(b"x" * (16 << 20))
        assert f"bufsize={transport.get_write_buffer_size()}" in repr(transport)
        transport.close()
        assert "closing" in repr(transport)
        transport.abort()
        await protocol.until_lost()
        await pause()
        assert "closed" in repr(transport)


async def test_attributes_can_be_added(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, _):
        transport.note = "mine"  # type: ignore[attr-defined]
        assert transport.note == "mine"  # type: ignore[attr-defined]


async def test_callbacks_may_be_replaced_at_any_time(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        peer.send(b"1")
        await protocol.until_received(1)
        seen: list[Any] = []
        first, protocol.data_received = protocol.data_received, seen.append  # type: ignore[method-assign]
        protocol.eof_received = lambda: seen.append("eof")  # type: ignore[method-assign,assignment]
        lost: asyncio.Future[None] = loop.create_future()
        protocol.connection_lost = lost.set_result  # type: ignore[method-assign,assignment]
        peer.send(b"2")
        while not seen:
            await pause()
        protocol.data_received = first  # type: ignore[method-assign]
        peer.send(b"3")
        await protocol.until_received(2)
        peer.end()
        await asyncio.wait_for(lost, PATIENCE)
        protocol.calls.append("connection_lost")
        assert seen == [b"2", "eof"]
        assert bytes(protocol.data) == b"13"
        assert transport.is_closing()


async def test_any_object_with_the_methods_is_a_protocol(loop: Loop) -> None:
    class Duck:
        made: Any = None
        received: asyncio.Future[bytes]

        def connection_made(self, transport: Any) -> None:
            self.made = transport

        def data_received(self, data: bytes) -> None:
            self.received.set_result(data)

        def eof_received(self) -> None: ...

        def connection_lost(self, error: Any) -> None: ...

    duck = Duck()
    duck.received = loop.create_future()
    with listening() as listener:
        transport, protocol = await loop.create_connection(
            lambda: duck,  # type: ignore[arg-type,return-value]
            *listener.getsockname(),
        )
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(PATIENCE)
            accepted.sendall(b"quack")
            assert await duck.received == b"quack"
            assert protocol is duck  # type: ignore[comparison-overlap]
            assert duck.made is transport
            transport.close()
            await pause(2)
