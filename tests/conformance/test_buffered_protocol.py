"""BufferedProtocol: data goes straight into the protocol's own buffer."""

from __future__ import annotations

import array
import asyncio
import random
from typing import Any

import pytest
from support.protocols import BufferedRecorder, connection
from support.ticks import pause

Loop = asyncio.AbstractEventLoop


async def test_data_arrives(loop: Loop) -> None:
    async with connection(BufferedRecorder(5)) as (_, protocol, peer):
        peer.send(b"hello, world")
        assert await protocol.until_received(12) == b"hello, world"
        assert protocol.calls.count("buffer_updated") == 3
        assert all(isinstance(hint, int) for hint in protocol.hints)


async def test_get_buffer_only_when_there_is_something(loop: Loop) -> None:
    async with connection(BufferedRecorder()) as (transport, protocol, peer):
        await pause(5)
        assert protocol.hints == []
        transport.pause_reading()
        peer.send(b"x")
        await pause(5)
        assert protocol.hints == []
        transport.resume_reading()
        await protocol.until_received(1)
        assert len(protocol.hints) == 1


async def test_end_of_stream(loop: Loop) -> None:
    async with connection(BufferedRecorder()) as (_, protocol, peer):
        peer.send(b"bye")
        peer.end()
        await protocol.until_lost()
        assert protocol.error is None
        assert bytes(protocol.data) == b"bye"
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


async def test_part_of_a_buffer(loop: Loop) -> None:
    class Ring(BufferedRecorder):
        used = 0

        def get_buffer(self, hint: int) -> Any:
            return memoryview(self.buffer)[self.used :]

        def buffer_updated(self, size: int) -> None:
            self.used += size
            self.data = bytearray(self.buffer[: self.used])
            self.note("buffer_updated")

    async with connection(Ring(100)) as (_, protocol, peer):
        for value in range(10):
            peer.send(bytes([value]) * 10)
            await protocol.until_received(10 * (value + 1))
        assert bytes(protocol.data) == b"".join(bytes([value]) * 10 for value in range(10))


async def test_other_kinds_of_buffers(loop: Loop) -> None:
    async with connection(BufferedRecorder()) as (_, protocol, peer):
        for buffer in (array.array("B", bytes(8)), memoryview(bytearray(8)), bytearray(8)):
            protocol.buffer = buffer
            protocol.data.clear()
            peer.send(b"12345678")
            assert await protocol.until_received(8) == b"12345678"


async def test_the_buffer_is_not_held_between_calls(loop: Loop) -> None:
    async with connection(BufferedRecorder()) as (_, protocol, peer):
        peer.send(b"x")
        await protocol.until_received(1)
        protocol.buffer.extend(b"more")  # fails while somebody holds an export
        peer.send(b"y")
        assert await protocol.until_received(2) == b"xy"
        protocol.buffer.extend(b"more")


async def test_nothing_beyond_the_data_is_touched(loop: Loop) -> None:
    async with connection(BufferedRecorder()) as (_, protocol, peer):
        protocol.buffer = bytearray(b"." * 64)
        peer.send(b"abc")
        await protocol.until_received(3)
        assert protocol.buffer == b"abc" + b"." * 61


async def test_pause_in_buffer_updated(loop: Loop) -> None:
    class Sipping(BufferedRecorder):
        def buffer_updated(self, size: int) -> None:
            super().buffer_updated(size)
            self.transport.pause_reading()
            loop.call_soon(self.transport.resume_reading)

    data = random.Random(4).randbytes(500_000)
    async with connection(Sipping(10_000)) as (_, protocol, peer):
        await asyncio.gather(peer.send_all(data), protocol.until_received(len(data)))
        assert bytes(protocol.data) == data


@pytest.mark.parametrize("method", ["pause_reading", "close", "abort"])
async def test_what_get_buffer_was_asked_for_is_received(loop: Loop, method: str) -> None:
    class Calling(BufferedRecorder):
        def get_buffer(self, hint: int) -> Any:
            getattr(self.transport, method)()
            return super().get_buffer(hint)

    async with connection(Calling()) as (_, protocol, peer):
        peer.send(b"abc")
        await protocol.until_received(3)
        await pause(3)
        assert bytes(protocol.data) == b"abc"
        ends = [] if method == "pause_reading" else ["connection_lost"]
        assert protocol.calls == ["connection_made", "buffer_updated", *ends]


async def test_large_transfer(loop: Loop) -> None:
    data = random.Random(5).randbytes(5_000_000)
    async with connection(BufferedRecorder(65536)) as (_, protocol, peer):
        await asyncio.gather(peer.send_all(data), protocol.until_received(len(data)))
        assert bytes(protocol.data) == data
