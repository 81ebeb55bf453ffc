"""A peer that resets the connection at every point: told once, nothing left, nobody else hurt."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest
from support import tls
from support.protocols import BufferedRecorder, Calls, Recorder, connection
from support.sockets import PATIENCE, Peer, connected, listening, pair
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
LARGE = 16 << 20
RESET = struct.pack("ii", 1, 0)


def assert_lost_once(protocol: Calls) -> None:
    assert protocol.calls.count("connection_made") == 1
    assert protocol.calls.count("connection_lost") == 1
    assert protocol.calls[-1] == "connection_lost"
    assert protocol.error is None or isinstance(protocol.error, ConnectionError)


async def test_while_reading(loop: Loop) -> None:
    async with connection(Recorder()) as (_, protocol, peer):
        peer.send(b"x")
        await protocol.until_received(1)
        peer.reset()
        await protocol.until_lost()
        assert isinstance(protocol.error, ConnectionResetError)
        assert_lost_once(protocol)


async def test_while_reading_into_a_buffer(loop: Loop) -> None:
    async with connection(BufferedRecorder()) as (_, protocol, peer):
        peer.send(b"x")
        await protocol.until_received(1)
        peer.reset()
        await protocol.until_lost()
        assert isinstance(protocol.error, ConnectionResetError)
        assert_lost_once(protocol)


async def test_before_the_first_read(loop: Loop) -> None:
    class Late(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            peer.reset()

    near, far = connected()
    peer = Peer(far)
    _, protocol = await loop.create_connection(Late, sock=near)
    await protocol.until_lost()
    assert_lost_once(protocol)


async def test_while_data_waits_to_be_sent(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write(b"x" * LARGE)
        peer.reset()
        await protocol.until_lost()
        assert isinstance(protocol.error, ConnectionResetError)
        assert transport.get_write_buffer_size() == 0
        assert protocol.calls == ["connection_made", "pause_writing", "connection_lost"]


@pytest.mark.parametrize("ticks", [0, 3])
@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_reader_and_writer_are_told_the_same(loop: Loop, family: str, ticks: int) -> None:
    near, far = connected() if family == "tcp" else socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)
    writer.write(b"x" * LARGE)
    told = asyncio.gather(reader.read(), writer.drain(), return_exceptions=True)
    await pause(ticks)
    far.close()  # What it has not read makes it a reset.
    errors = await asyncio.wait_for(told, PATIENCE)
    assert [type(error) for error in errors] == [ConnectionResetError] * 2
    writer.close()
    with contextlib.suppress(ConnectionResetError):
        await writer.wait_closed()


@pytest.mark.parametrize("receiver", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_the_last_words_of_a_peer_that_does_not_read_on(
    loop: Loop, family: str, receiver: type[Recorder | BufferedRecorder]
) -> None:
    near, far = connected() if family == "tcp" else socket.socketpair()
    _, protocol = await loop.create_connection(receiver, sock=near)
    protocol.transport.write(b"x" * LARGE)
    await pause(3)
    assert far.recv(1000)
    far.sendall(b"413 too large")
    far.close()
    await protocol.until_lost()
    assert protocol.data == b"413 too large"
    expected = ConnectionResetError if family == "tcp" else BrokenPipeError
    assert type(protocol.error) is expected
    assert_lost_once(protocol)


@pytest.mark.parametrize("receiver", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("family", ["tcp", "unix"])
async def test_the_last_words_of_a_peer_that_goes_in_the_tick_of_a_write(
    loop: Loop, family: str, receiver: type[Recorder | BufferedRecorder]
) -> None:
    """What is written may leave with the end of the tick, when the peer is gone already."""
    near, far = connected() if family == "tcp" else socket.socketpair()
    _, protocol = await loop.create_connection(receiver, sock=near)

    def answer() -> None:
        far.sendall(b"413 too large")
        far.close()

    for _ in range(3):
        for _ in range(4):
            loop.call_soon(protocol.transport.write, b"ab")
        await pause(1)
    await pause(2)
    sent = 24
    while sent:
        sent -= len(far.recv(sent))
    for _ in range(4):
        loop.call_soon(protocol.transport.write, b"ab")
    loop.call_soon(answer)
    await protocol.until_lost()
    assert protocol.data == b"413 too large"
    assert_lost_once(protocol)


@pytest.mark.parametrize("receiver", [Recorder, BufferedRecorder])
async def test_a_reset_that_writes_have_met_is_no_end_of_the_stream(
    loop: Loop, receiver: type[Recorder | BufferedRecorder]
) -> None:
    """The system tells of it once, which was the writes that left with the end of the tick."""
    near, far = connected()
    _, protocol = await loop.create_connection(receiver, sock=near)
    far.sendall(b"413 too large")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    far.close()
    for _ in range(2):
        loop.call_soon(protocol.transport.write, b"ab")
    await protocol.until_lost()
    assert "eof_received" not in protocol.calls
    assert isinstance(protocol.error, ConnectionResetError)
    assert_lost_once(protocol)


async def test_the_last_words_of_a_peer_of_tls_that_does_not_read_on(loop: Loop) -> None:
    near, far = connected()
    theirs = asyncio.ensure_future(tls.handshake(far, tls.server_context(), server_side=True))
    _, protocol = await loop.create_connection(
        Recorder, sock=near, ssl=tls.client_context(), server_hostname=tls.HOST
    )
    peer = await theirs
    protocol.transport.write(b"x" * LARGE)
    await pause(3)
    peer.send(b"413 too large")
    peer.reset()
    await protocol.until_lost()
    assert protocol.data == b"413 too large"
    assert isinstance(protocol.error, ConnectionResetError)
    assert_lost_once(protocol)
    protocol.transport.close()  # asyncio's warns otherwise, before 3.11.


async def test_while_data_waits_and_reading_is_paused(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.pause_reading()
        transport.write(b"x" * LARGE)
        peer.reset()
        await protocol.until_lost()
        assert isinstance(protocol.error, ConnectionResetError)
        assert_lost_once(protocol)


async def test_while_closing_with_data_to_send(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write(b"x" * LARGE)
        transport.close()
        await pause(2)
        peer.reset()
        await protocol.until_lost()
        assert_lost_once(protocol)


async def test_while_paused(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.pause_reading()
        peer.reset()
        await pause(5)
        assert protocol.calls == ["connection_made"], "nobody listens"
        transport.resume_reading()
        await protocol.until_lost()
        assert isinstance(protocol.error, ConnectionResetError)
        assert_lost_once(protocol)


async def test_after_write_eof(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write_eof()
        assert await peer.to_end() == b""
        peer.reset()
        await protocol.until_lost()
        assert_lost_once(protocol)


async def test_after_the_peers_eof(loop: Loop) -> None:
    async with connection(Recorder(keep_open=True)) as (transport, protocol, peer):
        peer.end()
        await protocol.until_called("eof_received")
        transport.write(b"x")
        assert await peer.exactly(1) == b"x"
        peer.reset()
        while not transport.is_closing():
            transport.write(b"x")
            await pause()
        await protocol.until_lost()
        assert_lost_once(protocol)


async def test_inside_data_received(loop: Loop) -> None:
    class Answering(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            peer.reset()
            for _ in range(10):
                self.transport.write(b"answer")
            self.transport.writelines([b"more", b"answers"])
            self.transport.write(b"x" * LARGE)

    near, far = connected()
    peer = Peer(far)
    _, protocol = await loop.create_connection(Answering, sock=near)
    peer.send(b"x")
    await protocol.until_lost()
    assert_lost_once(protocol)


async def test_write_then_reset_then_close(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write(b"x")
        peer.reset()
        transport.write(b"x")
        transport.close()
        await protocol.until_lost()
        assert_lost_once(protocol)


async def test_reset_and_abort_at_once(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        peer.reset()
        transport.abort()
        await protocol.until_lost()
        await pause(3)
        assert_lost_once(protocol)


async def test_accepted_connection(loop: Loop) -> None:
    protocols: list[Recorder] = []

    def factory() -> Recorder:
        protocols.append(Recorder())
        return protocols[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    for turn in range(30):
        with socket.create_connection(server.sockets[0].getsockname(), PATIENCE) as client:
            if turn % 3 == 0:
                client.sendall(b"x")
            if turn % 2 == 0:
                await pause(turn % 4)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    last = Peer(socket.create_connection(server.sockets[0].getsockname(), PATIENCE))
    last.send(b"the server goes on")
    while not protocols or not protocols[-1].data.endswith(b"on"):
        await pause()
    last.close()
    for protocol in protocols:
        await protocol.until_lost()
        assert_lost_once(protocol)
    server.close()


@pytest.mark.parametrize("operation", ["recv", "recv_into", "sendall"])
async def test_sock_methods(loop: Loop, operation: str) -> None:
    with pair() as (near, far):
        calls = {
            "recv": lambda: loop.sock_recv(near, 10),
            "recv_into": lambda: loop.sock_recv_into(near, bytearray(10)),
            "sendall": lambda: loop.sock_sendall(near, b"x" * LARGE),
        }
        task = asyncio.ensure_future(calls[operation]())  # type: ignore[no-untyped-call]
        await pause(3)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        far.close()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(task, PATIENCE)


async def test_listener_that_closes_while_connecting(loop: Loop) -> None:
    for _ in range(10):
        listener = listening()
        task = asyncio.ensure_future(loop.create_connection(Recorder, *listener.getsockname()))
        await pause()
        listener.close()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, tuple):
            _, protocol = result
            await protocol.until_lost()
            assert_lost_once(protocol)
        else:
            assert isinstance(result, ConnectionError)
