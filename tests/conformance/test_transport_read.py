"""Receiving on a TCP transport: data, the end of the stream, pause and resume."""

from __future__ import annotations

import asyncio
import random

import pytest
from support.protocols import Recorder, connection
from support.ticks import pause

Loop = asyncio.AbstractEventLoop


async def test_data_received(loop: Loop) -> None:
    async with connection(Recorder()) as (_, protocol, peer):
        peer.send(b"hello")
        assert await protocol.until_received(5) == b"hello"
        peer.send(b" again")
        assert await protocol.until_received(11) == b"hello again"


async def test_each_piece_is_kept_as_it_was(loop: Loop) -> None:
    class Keeper(Recorder):
        pieces: list[bytes]

        def data_received(self, data: bytes) -> None:
            self.pieces = [*getattr(self, "pieces", []), data]
            super().data_received(data)

    async with connection(Keeper()) as (_, protocol, peer):
        for value in range(20):
            peer.send(bytes([value]) * 1000)
            await protocol.until_received(1000 * (value + 1))
        assert b"".join(protocol.pieces) == bytes(protocol.data)
        assert protocol.pieces[0] == b"\0" * 1000, "no later receive wrote over it"


async def test_reading_starts_after_connection_made(loop: Loop) -> None:
    class Slow(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            assert not self.data
            self.transport.write(b"ping")

    async with connection(Slow()) as (_, protocol, peer):
        peer.send(b"early")
        assert await protocol.until_received(5) == b"early"
        assert await peer.exactly(4) == b"ping"
        assert protocol.calls[0] == "connection_made"


@pytest.mark.parametrize("keep_open", [None, False])
async def test_eof_closes_by_default(loop: Loop, keep_open: bool | None) -> None:
    async with connection(Recorder(keep_open=keep_open)) as (transport, protocol, peer):
        peer.send(b"bye")
        peer.end()
        await protocol.until_lost()
        assert protocol.calls == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]
        assert protocol.error is None
        assert transport.is_closing()
        assert await peer.to_end() == b""


async def test_eof_may_keep_the_connection_open(loop: Loop) -> None:
    async with connection(Recorder(keep_open=True)) as (transport, protocol, peer):
        peer.end()
        await protocol.until_called("eof_received")
        await pause(3)
        assert not transport.is_closing()
        transport.write(b"answer")
        assert await peer.exactly(6) == b"answer"
        transport.close()
        await protocol.until_lost()
        assert await peer.to_end() == b""
        assert protocol.calls.count("eof_received") == 1


async def test_who_resumes_after_the_end_is_told_again(loop: Loop) -> None:
    async with connection(Recorder(keep_open=True)) as (transport, protocol, peer):
        peer.end()
        await protocol.until_called("eof_received")
        for times in (2, 3):
            for _ in range(2):
                transport.pause_reading()
                transport.resume_reading()
            await protocol.until_called("eof_received", times)
        await pause(3)
        assert protocol.calls.count("eof_received") == 3
        other = Recorder()
        transport.pause_reading()
        transport.set_protocol(other)
        await pause(3)
        assert other.calls == []
        transport.resume_reading()
        await other.until_lost()
        assert other.calls == ["eof_received", "connection_lost"]
        protocol.note("connection_lost")


async def test_eof_after_ones_own(loop: Loop) -> None:
    async with connection(Recorder(keep_open=True)) as (transport, protocol, peer):
        transport.write_eof()
        assert await peer.to_end() == b""
        peer.send(b"late")
        peer.end()
        await protocol.until_called("eof_received")
        assert bytes(protocol.data) == b"late"
        assert not transport.is_closing()


async def test_writing_in_eof_received(loop: Loop) -> None:
    class Answering(Recorder):
        def eof_received(self) -> bool | None:
            self.transport.write(b"the end")
            return super().eof_received()

    async with connection(Answering()) as (_, protocol, peer):
        peer.end()
        assert await peer.to_end() == b"the end"
        await protocol.until_lost()


async def test_reset(loop: Loop) -> None:
    async with connection(Recorder()) as (_, protocol, peer):
        peer.reset()
        await protocol.until_lost()
        assert isinstance(protocol.error, ConnectionResetError)
        assert "eof_received" not in protocol.calls


async def test_pause_and_resume(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        assert transport.is_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        peer.send(b"waits")
        await pause(5)
        assert not protocol.data
        transport.resume_reading()
        assert transport.is_reading()
        assert await protocol.until_received(5) == b"waits"


async def test_pause_and_resume_twice(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.resume_reading()
        transport.pause_reading()
        transport.pause_reading()
        transport.resume_reading()
        transport.resume_reading()
        peer.send(b"x")
        await protocol.until_received(1)


async def test_pause_in_connection_made(loop: Loop) -> None:
    class Shy(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

    async with connection(Shy()) as (transport, protocol, peer):
        peer.send(b"waits")
        await pause(5)
        assert not protocol.data
        assert not transport.is_reading()
        transport.resume_reading()
        assert await protocol.until_received(5) == b"waits"


async def test_pause_in_data_received(loop: Loop) -> None:
    class Sipping(Recorder):
        def data_received(self, data: bytes) -> None:
            assert self.transport.is_reading()
            super().data_received(data)
            self.transport.pause_reading()
            loop.call_soon(self.transport.resume_reading)

    data = random.Random(3).randbytes(3_000_000)
    async with connection(Sipping()) as (_, protocol, peer):
        await asyncio.gather(peer.send_all(data), protocol.until_received(len(data)))
        assert bytes(protocol.data) == data


async def test_pause_earlier_in_the_tick_is_honoured(loop: Loop) -> None:
    # Both descriptors are ready at once; the first callback pauses the second transport.
    class Pausing(Recorder):
        other: asyncio.Transport | None = None

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.other is not None and self.other.is_reading():
                self.other.pause_reading()

    async with (
        connection(Pausing()) as (first, one, peer_one),
        connection(Pausing()) as (second, two, peer_two),
    ):
        one.other, two.other = second, first
        peer_one.send(b"x")
        peer_two.send(b"x")
        await pause(4)
        assert len(one.data) + len(two.data) == 1
        first.resume_reading()
        second.resume_reading()
        await one.until_received(1)


async def test_pause_storm(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        for _ in range(1000):
            transport.pause_reading()
            transport.resume_reading()
        peer.send(b"x")
        await protocol.until_received(1)
        for _ in range(100):
            transport.pause_reading()
            await pause()
            transport.resume_reading()
        peer.send(b"y")
        assert await protocol.until_received(2) == b"xy"


async def test_end_arrives_after_a_pause(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.pause_reading()
        peer.send(b"last")
        peer.end()
        await pause(5)
        assert protocol.calls == ["connection_made"]
        transport.resume_reading()
        await protocol.until_lost()
        assert bytes(protocol.data) == b"last"


async def test_pause_and_resume_after_close(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        peer.send(b"unread")
        transport.close()
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()
        await protocol.until_lost()
        assert not protocol.data


async def test_nothing_arrives_after_close(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write(b"x" * (16 << 20))
        transport.close()
        peer.send(b"too late")
        await pause(5)
        assert not protocol.data
        assert protocol.calls == ["connection_made", "pause_writing"]
