"""write, writelines and write_eof of a TCP transport: what arrives, and what is refused."""

from __future__ import annotations

import array
import asyncio
from typing import Any

import pytest
from support.protocols import Recorder, connection
from support.ticks import pause

Loop = asyncio.AbstractEventLoop

# More than the socket buffers of both ends hold together.
LARGE = 16 * 1024 * 1024


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"view"),
        memoryview(bytearray(b"writable view")),
        memoryview(b"sliced view")[2:7],
        memoryview(array.array("H", [1, 2, 3])).cast("B"),
    ],
    ids=lambda data: f"{type(data).__name__}-{len(data)}",
)
async def test_types(loop: Loop, data: Any) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        transport.write(data)
        assert await peer.exactly(len(data)) == bytes(data)


@pytest.mark.ours
async def test_views_of_any_shape(loop: Loop) -> None:
    # asyncio counts items where it should count bytes, or fails in the socket.
    every_other = memoryview(bytes(range(20)))[::2]
    wide = memoryview(array.array("I", [1, 2, 3]))
    async with connection(Recorder()) as (transport, _, peer):
        transport.write(every_other)
        transport.write(wide)
        transport.writelines([every_other, wide])
        expected = (every_other.tobytes() + wide.tobytes()) * 2
        assert await peer.exactly(len(expected)) == expected


@pytest.mark.parametrize("wrong", ["text", None, 5, [b"x"], object()])
async def test_wrong_types(loop: Loop, wrong: Any) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        with pytest.raises(TypeError):
            transport.write(wrong)
        assert not transport.is_closing()
        assert protocol.calls == ["connection_made"]


async def test_arguments(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        write: Any = transport.write
        write(data=b"named")
        assert await peer.exactly(5) == b"named"
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'data'"):
            write()
        with pytest.raises(TypeError, match="multiple values for argument 'data'"):
            write(b"x", data=b"x")
        with pytest.raises(TypeError, match="unexpected keyword argument 'wrong'"):
            write(b"x", wrong=b"x")
        with pytest.raises(TypeError, match=r"takes . positional arguments? but . were given"):
            write(b"x", b"x")


async def test_wrong_types_in_writelines(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        with pytest.raises(TypeError):
            transport.writelines([b"good", "text"])  # type: ignore[list-item]
        with pytest.raises(TypeError):
            transport.writelines(5)  # type: ignore[arg-type]
        transport.write(b"after")
        assert await peer.exactly(5) == b"after", "nothing of the refused call is sent"


async def test_empty_writes(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        for empty in (b"", bytearray(), memoryview(b"")):
            transport.write(empty)
        transport.writelines([])
        transport.writelines([b"", b""])
        assert transport.get_write_buffer_size() == 0
        transport.write(b"x")
        assert await peer.exactly(1) == b"x"


async def test_order_is_kept(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        for value in range(200):
            transport.write(bytes([value]) * (1 + value % 7))
            if value % 5 == 0:
                transport.writelines([bytes([value]), b"", b"+"])
            if value % 50 == 0:
                await pause()
        expected = b"".join(
            bytes([value]) * (1 + value % 7) + (bytes([value]) + b"+" if value % 5 == 0 else b"")
            for value in range(200)
        )
        assert await peer.exactly(len(expected)) == expected


async def test_writelines_of_any_iterable(loop: Loop) -> None:
    parts = [b"one", bytearray(b"two"), memoryview(b"three")]
    async with connection(Recorder()) as (transport, _, peer):
        transport.writelines(parts)
        transport.writelines(tuple(parts))
        transport.writelines(part for part in parts)
        assert await peer.exactly(33) == b"onetwothree" * 3


async def test_writelines_of_many(loop: Loop) -> None:
    parts = [bytes([value % 256]) * 3 for value in range(5000)]
    async with connection(Recorder()) as (transport, _, peer):
        transport.writelines(parts)
        assert await peer.exactly(15000) == b"".join(parts)


async def test_a_buffer_may_change_after_a_small_write(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        buffer = bytearray(b"before")
        transport.write(buffer)
        received = await peer.exactly(6)
        buffer[:] = b"after!"
        buffer.clear()  # fails while somebody holds an export
        assert received == b"before"


async def test_small_write_leaves_though_the_callback_then_blocks(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        await pause()
        transport.write(b"x")
        assert peer.sock.recv(1) == b"x", "sent before the loop got its turn"


async def test_write_in_connection_made(loop: Loop) -> None:
    class Greeter(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"welcome")

    async with connection(Greeter()) as (_, _, peer):
        assert await peer.exactly(7) == b"welcome"


async def test_large_write_is_buffered(loop: Loop) -> None:
    data = bytes(range(256)) * (LARGE // 256)
    async with connection(Recorder()) as (transport, _, peer):
        transport.write(data)
        assert 0 < transport.get_write_buffer_size() < LARGE
        transport.write(b"tail")
        assert await peer.exactly(LARGE + 4) == data + b"tail"
        await pause(2)
        assert transport.get_write_buffer_size() == 0


async def test_write_eof(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        assert transport.can_write_eof() is True
        transport.write(b"last words")
        transport.write_eof()
        transport.write_eof()
        assert await peer.to_end() == b"last words"
        assert not transport.is_closing()
        peer.send(b"still heard")
        assert await protocol.until_received(11) == b"still heard"


async def test_write_eof_waits_for_the_buffer(loop: Loop) -> None:
    data = b"x" * LARGE
    async with connection(Recorder()) as (transport, _, peer):
        transport.write(data)
        transport.write_eof()
        assert len(await peer.to_end()) == LARGE


async def test_write_after_write_eof(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"write\(\) after write_eof"):
            transport.write(b"x")
        with pytest.raises(RuntimeError, match="after write_eof"):
            transport.writelines([b"x"])
        assert await peer.to_end() == b""


async def test_write_eof_after_close_is_ignored(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write(b"x" * LARGE)
        transport.close()
        transport.write_eof()
        assert len(await peer.to_end()) == LARGE
        await protocol.until_lost()
        assert protocol.error is None


async def test_write_to_a_peer_that_has_gone(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.pause_reading()
        peer.reset()
        while not transport.is_closing():
            transport.write(b"x" * 1024)
            await pause()
        await protocol.until_lost()
        assert isinstance(protocol.error, (BrokenPipeError, ConnectionResetError))
