"""An end that comes with so much data that the kernel, receiving by itself, did not tell of it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest
from support.protocols import BufferedRecorder, Recorder

Loop = asyncio.AbstractEventLoop

# More pieces than it takes at first, and few enough for a socket's buffers.
MUCH = 150_000
# Of which the last one fills its buffer.
WHOLE_PIECES = 42 * 4096
# It took more than one connection until it was lent so many buffers.
CONNECTIONS = 6
ROOMS: dict[str, Callable[[int], int]] = {
    "all": lambda size: size,
    "nearly all": lambda size: size - 1,
    "half": lambda size: size // 2,
    "a piece": lambda size: 4096,
}
RESET = struct.pack("ii", 1, 0)


async def connection(near: socket.socket, *, paused: bool) -> Recorder:
    near.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Recorder, sock=near)
    if paused:
        await pause(transport)
    return protocol


async def pause(transport: asyncio.ReadTransport) -> None:
    """Also the kernel, which has told of nothing yet: receiving begins when everything is there."""
    transport.pause_reading()
    await asyncio.sleep(0)


@pytest.mark.parametrize("paused", [True, False])
async def test_the_end_of_a_unix_stream(loop: Loop, paused: bool) -> None:
    for _ in range(CONNECTIONS):
        near, far = socket.socketpair()
        with far:
            protocol = await connection(near, paused=paused)
            far.sendall(bytes(MUCH))
            far.shutdown(socket.SHUT_WR)
            protocol.transport.resume_reading()
            await protocol.until_called("eof_received")
            await protocol.until_lost()
        assert len(protocol.data) == MUCH
        assert protocol.error is None


class Hesitant(BufferedRecorder):
    """Has a buffer of this size, and stops and goes on in each callback."""

    def buffer_updated(self, size: int) -> None:
        super().buffer_updated(size)
        self.transport.pause_reading()
        self.transport.resume_reading()


@pytest.mark.parametrize("kind_of_protocol", [BufferedRecorder, Hesitant])
@pytest.mark.parametrize("size", [MUCH, WHOLE_PIECES])
@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
async def test_a_buffer_with_room_for(
    loop: Loop, kind_of_protocol: type[BufferedRecorder], size: int, room: Callable[[int], int]
) -> None:
    for _ in range(CONNECTIONS):
        near, far = socket.socketpair()
        with far:
            near.setblocking(False)
            protocol = kind_of_protocol(room(size))
            transport, _ = await loop.create_connection(lambda p=protocol: p, sock=near)
            await pause(transport)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
            far.sendall(bytes(size))
            far.shutdown(socket.SHUT_WR)
            transport.resume_reading()
            await asyncio.wait_for(protocol.until_lost(), 10)
        assert len(protocol.data) == size
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


async def test_a_reset(loop: Loop) -> None:
    for _ in range(CONNECTIONS):
        with socket.socket() as listener, socket.socket() as far:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            far.connect(listener.getsockname())
            near, _ = listener.accept()
            protocol = await connection(near, paused=True)
            far.sendall(bytes(MUCH))
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        protocol.transport.resume_reading()
        await protocol.until_lost()
        assert isinstance(protocol.error, ConnectionResetError)


async def test_reading_to_the_end(loop: Loop) -> None:
    """With no more room in the program's buffer than there are data."""
    for _ in range(CONNECTIONS):
        near, far = socket.socketpair()
        with far:
            near.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=near, limit=MUCH)
            far.sendall(bytes(MUCH))
            far.shutdown(socket.SHUT_WR)
            assert len(await asyncio.wait_for(reader.read(), 10)) == MUCH
            writer.close()
            await writer.wait_closed()
