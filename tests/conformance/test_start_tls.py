"""`start_tls` in both directions, on streams, in TLS, and on transports of other loops' making."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from typing import Any

import pytest
from support import tls
from support.foreign import ForeignTransport
from support.protocols import BufferedRecorder, Calls, Recorder, connection
from support.sockets import PATIENCE, Peer, connected
from support.tls import HOST

BIG = bytes(range(256)) * 4000
# Python 3.10 has neither TLS in TLS nor StreamWriter.start_tls().
since_311 = pytest.mark.skipif(sys.version_info < (3, 11), reason="from Python 3.11 on")


@pytest.mark.parametrize("server_side", [False, True])
@pytest.mark.parametrize("recorder", [Recorder, BufferedRecorder])
async def test_upgrade(
    loop: asyncio.AbstractEventLoop, server_side: bool, recorder: type[Any]
) -> None:
    ours = tls.server_context() if server_side else tls.client_context()
    theirs = tls.client_context() if server_side else tls.server_context()
    async with connection(Recorder()) as (transport, first, peer):
        transport.write(b"STARTTLS\n")
        assert await peer.exactly(9) == b"STARTTLS\n"
        peer.send(b"go ahead\n")
        await first.until_received(9)
        second = recorder()
        shaking = asyncio.ensure_future(
            tls.handshake(peer.sock, theirs, server_side=not server_side)
        )
        secured = await loop.start_tls(
            transport,
            second,
            ours,
            server_side=server_side,
            server_hostname=None if server_side else HOST,
        )
        assert secured is not None
        far = await shaking
        assert secured.get_protocol() is second
        assert secured.get_extra_info("sslcontext") is ours
        secured.write(b"secret")
        assert await far.exactly(6) == b"secret"
        far.send(b"answer")
        assert await second.until_received(6) == b"answer"
        secured.close()
        await asyncio.gather(far.part(), second.until_lost())
        far.close()
        # connection_made was called by the plain transport, on another protocol.
        assert "connection_made" not in second.calls
        assert first.calls == ["connection_made", "data_received"]
        first.note("connection_lost")


async def test_handshake_failure_closes_the_transport(loop: asyncio.AbstractEventLoop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        peer.send(b"I do not speak TLS\n")
        with pytest.raises(ssl.SSLError):
            await loop.start_tls(transport, protocol, tls.client_context(), server_hostname=HOST)
        assert transport.is_closing()
        await protocol.until_lost()
        assert isinstance(protocol.error, ssl.SSLError)


async def test_the_peer_goes_away(loop: asyncio.AbstractEventLoop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        peer.end()
        with pytest.raises(ConnectionResetError):
            await loop.start_tls(transport, protocol, tls.client_context(), server_hostname=HOST)
        await protocol.until_lost()


async def test_the_peer_has_gone_away_before(loop: asyncio.AbstractEventLoop) -> None:
    """Not noticed by a timeout only."""
    async with connection(Recorder(keep_open=True)) as (transport, protocol, peer):
        peer.end()
        await protocol.until_called("eof_received")
        with pytest.raises(ConnectionResetError):
            await loop.start_tls(
                transport,
                protocol,
                tls.client_context(),
                server_hostname=HOST,
                ssl_handshake_timeout=PATIENCE,
            )
        await protocol.until_lost()


async def test_timeout(loop: asyncio.AbstractEventLoop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        with pytest.raises(ConnectionAbortedError, match=r"longer than 0\.05 seconds"):
            await loop.start_tls(
                transport,
                protocol,
                tls.client_context(),
                server_hostname=HOST,
                ssl_handshake_timeout=0.05,
            )
        assert await peer.to_end()
        # asyncio tells the protocol of no loss after this failure.
        assert protocol.calls == ["connection_made"]
        protocol.note("connection_lost")


@pytest.mark.parametrize("ticks", [0, 1, 2, 4])
async def test_cancelled(loop: asyncio.AbstractEventLoop, ticks: int) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        starting = asyncio.ensure_future(
            loop.start_tls(transport, protocol, tls.client_context(), server_hostname=HOST)
        )
        for _ in range(ticks):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        if ticks == 0:
            transport.close()
        await peer.to_end()
        if "connection_lost" not in protocol.calls:
            protocol.note("connection_lost")


@pytest.mark.ours
async def test_aborted_by_the_program(loop: asyncio.AbstractEventLoop) -> None:
    # asyncio returns None.
    async with connection(Recorder()) as (transport, protocol, _):
        starting = asyncio.ensure_future(
            loop.start_tls(transport, protocol, tls.client_context(), server_hostname=HOST)
        )
        await asyncio.sleep(0)
        loop.call_soon(transport.abort)
        with pytest.raises(ConnectionAbortedError):
            await starting
        if "connection_lost" not in protocol.calls:
            protocol.note("connection_lost")


class Tunnel(Peer):
    """The far end of TLS in TLS, by hand: an SSLSocket cannot be wrapped once more."""

    def __init__(self, outer: Peer, context: ssl.SSLContext, *, server_side: bool) -> None:
        super().__init__(outer.sock)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.inner = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=server_side,
            server_hostname=None if server_side else HOST,
        )

    def do(self, call: Any, *args: Any) -> Any:
        while True:
            try:
                result = call(*args)
            except ssl.SSLWantReadError:
                self.flush()
                self.incoming.write(self.sock.recv(65536))
            else:
                self.flush()
                return result

    def flush(self) -> None:
        if self.outgoing.pending:
            self.sock.sendall(self.outgoing.read())

    async def shake(self) -> None:
        await asyncio.to_thread(self.do, self.inner.do_handshake)

    async def exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += await asyncio.to_thread(self.do, self.inner.read, size - len(data))
        return bytes(data)

    def send(self, data: bytes) -> None:
        self.inner.write(data)
        self.flush()

    async def part(self) -> None:
        await asyncio.to_thread(self.do, self.inner.unwrap)


@since_311
@pytest.mark.parametrize("is_server", [False, True])
async def test_tls_in_tls(loop: asyncio.AbstractEventLoop, is_server: bool) -> None:
    async with tls.connection(Recorder(), is_server=is_server) as (transport, outer, peer):
        inner = Recorder()
        ours = tls.server_context() if is_server else tls.client_context()
        theirs = tls.client_context() if is_server else tls.server_context()
        tunnel = Tunnel(peer, theirs, server_side=not is_server)
        shaking = asyncio.ensure_future(tunnel.shake())
        secured = await loop.start_tls(
            transport,
            inner,
            ours,
            server_side=is_server,
            server_hostname=None if is_server else HOST,
        )
        assert secured is not None
        await shaking
        assert secured.get_extra_info("peername") == transport.get_extra_info("peername")
        assert secured.get_extra_info("sslcontext") is ours
        secured.write(BIG)
        assert await tunnel.exactly(len(BIG)) == BIG
        tunnel.send(b"answer")
        assert await inner.until_received(6) == b"answer"
        secured.close()
        await tunnel.part()
        await peer.part()
        await inner.until_lost()
        assert inner.error is None
        assert outer.calls == ["connection_made"]
        outer.note("connection_lost")


@since_311
async def test_abort_of_tls_in_tls(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (transport, outer, peer):
        inner = Recorder()
        tunnel = Tunnel(peer, tls.server_context(), server_side=True)
        shaking = asyncio.ensure_future(tunnel.shake())
        secured = await loop.start_tls(transport, inner, tls.client_context(), server_hostname=HOST)
        assert secured is not None
        await shaking
        secured.abort()
        await inner.until_lost()
        assert inner.error is None
        assert transport.is_closing()
        outer.note("connection_lost")


@since_311
async def test_streams(loop: asyncio.AbstractEventLoop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: Any) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go ahead\n")
        await writer.start_tls(tls.server_context())
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, plain = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer: Any = plain
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go ahead\n"
    await writer.start_tls(tls.client_context(), server_hostname=HOST)
    for number in range(20):
        writer.write(b"%d\n" % number)
        assert await reader.readline() == b"%d\n" % number
    writer.close()
    await writer.wait_closed()
    server.close()
    await asyncio.wait_for(server.wait_closed(), PATIENCE)


@since_311
async def test_streams_with_an_eager_client(loop: asyncio.AbstractEventLoop) -> None:
    # cpython#142352: what the client has sent before the server begins belongs to TLS.
    async def serve(reader: Any, writer: Any) -> None:
        await reader._wait_for_data("test")
        await writer.start_tls(tls.server_context())
        writer.write((await reader.readline()).upper())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, plain = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer: Any = plain
    await asyncio.wait_for(writer.start_tls(tls.client_context(), server_hostname=HOST), PATIENCE)
    writer.write(b"hello\n")
    assert await reader.readline() == b"HELLO\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await asyncio.wait_for(server.wait_closed(), PATIENCE)


class ByHand(ForeignTransport):
    """What is written goes through a socket by hand."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        super().__init__(loop)
        self.sock = sock
        loop.add_reader(sock, self.readable)

    def pause_reading(self) -> None:
        self.loop.remove_reader(self.sock)

    def resume_reading(self) -> None:
        if not self.closing:
            self.loop.add_reader(self.sock, self.readable)

    def readable(self) -> None:
        data = self.sock.recv(1000)
        if data:
            # Any bytes-like object will do.
            self.deliver(bytearray(data))
        elif not self.protocol.eof_received():
            self.close()

    def write(self, data: Any) -> None:
        if not self.closing:
            self.sock.sendall(data)

    def _force_close(self, exc: BaseException | None) -> None:
        if not self.closing:
            self.loop.remove_reader(self.sock)
        super()._force_close(exc)

    def lost(self, exc: BaseException | None) -> None:
        self.sock.close()
        super().lost(exc)


async def test_a_transport_of_somebody_else(loop: asyncio.AbstractEventLoop) -> None:
    near, far = connected()
    near.setblocking(False)
    foreign = ByHand(loop, near)
    protocol = Recorder()
    shaking = asyncio.ensure_future(tls.handshake(far, tls.server_context(), server_side=True))
    secured = await loop.start_tls(foreign, protocol, tls.client_context(), server_hostname=HOST)
    assert secured is not None
    peer = await shaking
    secured.write(b"hello")
    assert await peer.exactly(5) == b"hello"
    peer.send(b"answer" * 1000)
    assert await protocol.until_received(6000) == b"answer" * 1000
    secured.abort()
    await protocol.until_lost()
    peer.close()
    assert near.fileno() < 0


async def test_asyncios_own_tls_over_our_transport(loop: asyncio.AbstractEventLoop) -> None:
    # Programs that make an SSLProtocol themselves.
    from asyncio.sslproto import SSLProtocol

    class Server(Calls, asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            self.note(data.decode())

    async with connection(Recorder()) as (transport, plain, peer):
        protocol = Server()
        shaking = asyncio.ensure_future(
            tls.handshake(peer.sock, tls.client_context(), server_side=False)
        )
        waiter = loop.create_future()
        secured = SSLProtocol(loop, protocol, tls.server_context(), waiter, server_side=True)
        transport.set_protocol(secured)
        secured.connection_made(transport)
        await waiter
        far = await shaking
        far.send(b"hello")
        await protocol.until_called("hello")
        protocol.transport.abort()
        await protocol.until_lost()
        far.close()
        plain.note("connection_lost")
