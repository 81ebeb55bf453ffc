"""Datagram transports: what waits for room, mostly on Unix sockets, which take a few datagrams and
say exactly when there is more."""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.datagrams import DatagramRecorder, at_path, connected, endpoint, fill
from support.loops import is_ours
from support.ticks import pause

Loop = asyncio.AbstractEventLoop

# What a queued datagram counts beside its bytes.
HEADER = 8 if sys.version_info >= (3, 13) else 0


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    first, second = connected(tmp_path)
    with first, second:
        yield first, second


class FullPeer:
    """The far end of a transport that has no room for another datagram."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.far = far
        self.filler = fill(near)

    def make_room(self) -> None:
        """The peer takes what is in the way."""
        for _ in range(self.filler):
            assert self.far.recv(100) == b"filler"

    def received(self, count: int) -> list[bytes]:
        return [self.far.recv(1000) for _ in range(count)]

    def hears_nothing(self) -> None:
        self.far.setblocking(False)
        with pytest.raises(BlockingIOError):
            self.far.recv(100)


@asynccontextmanager
async def crowded(
    sockets: tuple[socket.socket, socket.socket], protocol: DatagramRecorder
) -> AsyncIterator[tuple[asyncio.DatagramTransport, FullPeer]]:
    near, far = sockets
    async with endpoint(protocol, sock=near) as (transport, _):
        yield transport, FullPeer(near, far)


async def test_limits(loop: Loop) -> None:
    async with endpoint(DatagramRecorder()) as (transport, _):
        assert transport.get_write_buffer_size() == 0
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        with pytest.raises(ValueError, match="must be"):
            transport.set_write_buffer_limits(high=1, low=2)


async def test_pause_and_resume_writing(
    loop: Loop, kind: str, sockets: tuple[socket.socket, socket.socket]
) -> None:
    protocol = DatagramRecorder()
    async with crowded(sockets, protocol) as (transport, peer):
        transport.set_write_buffer_limits(high=100, low=0)
        transport.sendto(b"x" * (100 - HEADER))
        assert transport.get_write_buffer_size() == 100
        assert protocol.calls == ["connection_made"], "the limit itself is not above it"
        transport.sendto(b"y")
        assert transport.get_write_buffer_size() == 101 + HEADER
        assert protocol.calls[1:] == ["pause_writing"]
        transport.sendto(b"z")
        assert protocol.calls[1:] == ["pause_writing"], "once only"
        assert repr(transport).endswith(f"write=<polling, bufsize={102 + 2 * HEADER}>>")
        peer.make_room()
        await pause(3)
        assert peer.received(3) == [b"x" * (100 - HEADER), b"y", b"z"]
        if is_ours(kind) or not HEADER:
            # 3.13.0 forgets the headers when it sends.
            assert protocol.calls[1:] == ["pause_writing", "resume_writing"]
            assert transport.get_write_buffer_size() == 0
        await protocol.until(lambda: "idle" in repr(transport))


async def test_order_is_kept_while_full(
    loop: Loop, sockets: tuple[socket.socket, socket.socket]
) -> None:
    async with crowded(sockets, DatagramRecorder()) as (transport, peer):
        buffer = bytearray(b"0")
        for i in range(100):
            buffer[:] = b"%d" % i
            transport.sendto(buffer)
        received = []
        peer.far.setblocking(False)
        while len(received) < peer.filler + 100:
            try:
                received.append(peer.far.recv(100))
            except BlockingIOError:
                await pause()
        assert received[peer.filler :] == [b"%d" % i for i in range(100)]


async def test_empty_datagrams_in_the_queue(
    loop: Loop, sockets: tuple[socket.socket, socket.socket]
) -> None:
    async with crowded(sockets, DatagramRecorder()) as (transport, peer):
        transport.sendto(b"")
        transport.sendto(b"x")
        assert transport.get_write_buffer_size() == 1 + 2 * HEADER
        peer.make_room()
        await pause(3)
        if sys.version_info >= (3, 13):
            assert peer.received(1) == [b""]
        assert peer.received(1) == [b"x"]


async def test_close_sends_what_is_queued(
    loop: Loop, sockets: tuple[socket.socket, socket.socket]
) -> None:
    protocol = DatagramRecorder()
    async with crowded(sockets, protocol) as (transport, peer):
        transport.sendto(b"last")
        transport.close()
        assert transport.is_closing()
        transport.close()
        transport.sendto(b"even later")
        await pause(3)
        assert "connection_lost" not in protocol.calls
        peer.make_room()
        await protocol.until_lost()
        assert protocol.error is None
        assert peer.received(2) == [b"last", b"even later"]
    assert sockets[0].fileno() == -1


async def test_abort_drops_what_is_queued(
    loop: Loop, sockets: tuple[socket.socket, socket.socket]
) -> None:
    protocol = DatagramRecorder()
    async with crowded(sockets, protocol) as (transport, peer):
        transport.sendto(b"last")
        transport.close()
        transport.abort()
        await protocol.until_lost()
        assert protocol.calls.count("connection_lost") == 1
        peer.make_room()
        peer.hears_nothing()


async def test_an_error_in_the_queue_is_about_one(
    loop: Loop, sockets: tuple[socket.socket, socket.socket]
) -> None:
    protocol = DatagramRecorder()
    async with crowded(sockets, protocol) as (transport, peer):
        transport.sendto(b"before")
        transport.sendto(bytes(10_000_000))
        transport.sendto(b"after")
        peer.make_room()
        await protocol.until_called("error_received")
        (error,) = protocol.errors
        assert isinstance(error, OSError)
        assert error.errno == errno.EMSGSIZE
        await pause(3)
        assert peer.received(2) == [b"before", b"after"]


async def test_abort_in_error_received(
    loop: Loop, sockets: tuple[socket.socket, socket.socket]
) -> None:
    class Aborting(DatagramRecorder):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            self.transport.abort()

    protocol = Aborting()
    async with crowded(sockets, protocol) as (transport, peer):
        for data in (b"before", bytes(10_000_000), b"after"):
            transport.sendto(data)
        peer.make_room()
        await protocol.until_lost()
        assert peer.received(1) == [b"before"]
        peer.hears_nothing()


async def test_close_and_send_in_resume_writing(
    loop: Loop, sockets: tuple[socket.socket, socket.socket]
) -> None:
    class Sending(DatagramRecorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport.sendto(b"one more")  # type: ignore[attr-defined]

    protocol = Sending()
    async with crowded(sockets, protocol) as (transport, peer):
        transport.set_write_buffer_limits(high=500, low=500)
        transport.sendto(b"x" * 501)
        assert protocol.calls[1:] == ["pause_writing"]
        peer.make_room()
        await protocol.until_called("resume_writing")
        assert peer.received(2) == [b"x" * 501, b"one more"]


async def test_a_full_peer_by_its_name(loop: Loop, tmp_path: Path) -> None:
    """Others go on; and when it is gone, the error is about each that waited."""
    near, name = at_path(tmp_path / "near"), str(tmp_path / "far")
    with at_path(tmp_path / "far") as far:
        protocol = DatagramRecorder()
        async with endpoint(protocol, sock=near) as (transport, _):
            while not transport.get_write_buffer_size():
                transport.sendto(b"filler", name)
            transport.sendto(b"second", name)
            far.sendto(b"meanwhile", str(tmp_path / "near"))
            assert await protocol.until_received(1) == [b"meanwhile"]
            far.close()
            await protocol.until_called("error_received", 2)
            assert {type(error) for error in protocol.errors} == {ConnectionRefusedError}
            await pause(3)  # asyncio's transport must see that its queue is empty


async def test_a_name_that_becomes_anothers(loop: Loop, tmp_path: Path) -> None:
    near, name = at_path(tmp_path / "near"), tmp_path / "far"
    with at_path(name):
        async with endpoint(DatagramRecorder(), sock=near) as (transport, _):
            while not transport.get_write_buffer_size():
                transport.sendto(b"filler", str(name))
            name.unlink()
            with at_path(name) as other:
                other.setblocking(False)
                for attempt in itertools.count():
                    try:
                        assert other.recv(100) == b"filler"
                        break
                    except BlockingIOError:
                        await asyncio.sleep(attempt / 1000)
