"""Flow control of TLS connections, in both directions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support import tls
from support.protocols import BufferedRecorder, Recorder

BIG = bytes(range(256)) * 16_000


async def test_paused_reading_delivers_nothing(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        peer.send(b"hello")
        size: Any = transport.get_read_buffer_size  # type: ignore[attr-defined]
        while not size():
            await asyncio.sleep(0)
        assert protocol.data == b""
        transport.resume_reading()
        transport.resume_reading()
        assert protocol.data == b""  # not before the next tick
        await protocol.until_received(5)
        assert size() == 0


async def test_the_peer_is_held_back(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        any_transport: Any = transport
        assert any_transport.get_read_buffer_limits() == (65536, 262144)
        any_transport.set_read_buffer_limits(high=50_000)
        assert any_transport.get_read_buffer_limits() == (12_500, 50_000)
        transport.pause_reading()
        sending = asyncio.ensure_future(peer.send_all(BIG))
        size = any_transport.get_read_buffer_size
        lower = any_transport._ssl_protocol._transport
        while size() < 50_000:
            await asyncio.sleep(0)
        assert not lower.is_reading()
        transport.resume_reading()
        await protocol.until_received(len(BIG))
        assert protocol.data == BIG
        assert lower.is_reading()
        await sending


async def test_paused_in_get_buffer(loop: asyncio.AbstractEventLoop) -> None:
    """A protocol that asks for one buffer at a time."""

    class OneAtATime(BufferedRecorder):
        def get_buffer(self, hint: int) -> Any:
            self.transport.pause_reading()
            loop.call_soon(self.transport.resume_reading)
            return super().get_buffer(hint)

    async with tls.connection(OneAtATime(5)) as (_, protocol, peer):
        peer.send(b"hello, world")
        assert await protocol.until_received(12) == b"hello, world"


async def test_a_storm_of_pauses(loop: asyncio.AbstractEventLoop) -> None:
    class Hesitant(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            loop.call_soon(self.transport.resume_reading)

    async with tls.connection(Hesitant()) as (_, protocol, peer):
        await asyncio.gather(peer.send_all(BIG), protocol.until_received(len(BIG)))
        assert protocol.data == BIG


async def test_pauses_with_a_small_buffer(loop: asyncio.AbstractEventLoop) -> None:
    class Hesitant(BufferedRecorder):
        def buffer_updated(self, size: int) -> None:
            super().buffer_updated(size)
            self.transport.pause_reading()
            self.transport.resume_reading()

    recorder = Hesitant(1000)
    recorder.buffer = memoryview(recorder.buffer)
    data = BIG[:200_000]
    async with tls.connection(recorder) as (_, protocol, peer):
        await asyncio.gather(peer.send_all(data), protocol.until_received(len(data)))
        assert protocol.data == data


async def test_writing_is_paused_and_resumed(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        assert transport.get_write_buffer_limits() == (131072, 524288)
        transport.set_write_buffer_limits(high=200_000, low=10_000)
        assert transport.get_write_buffer_limits() == (10_000, 200_000)
        written = 0
        while "pause_writing" not in protocol.calls:
            transport.write(BIG[:50_000])
            written += 50_000
        assert transport.get_write_buffer_size() >= 200_000
        assert "resume_writing" not in protocol.calls
        reading = asyncio.ensure_future(peer.exactly(written))
        await protocol.until_called("resume_writing")
        assert transport.get_write_buffer_size() <= 10_000
        assert await reading == (BIG[:50_000] * (written // 50_000))
        assert protocol.calls.count("pause_writing") == 1


async def test_limits_from_one_mark(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (transport, _, _):
        transport.set_write_buffer_limits(low=1000)
        assert transport.get_write_buffer_limits() == (1000, 4000)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits()
        assert transport.get_write_buffer_limits() == (131072, 524288)


@pytest.mark.ours
async def test_an_empty_buffer_is_never_too_full(loop: asyncio.AbstractEventLoop) -> None:
    # With marks at 0 asyncio calls pause_writing() at once, and stops reading for ever.
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        any_transport: Any = transport
        transport.set_write_buffer_limits(0)
        any_transport.set_read_buffer_limits(0)
        assert "pause_writing" not in protocol.calls
        peer.send(b"hello")
        await protocol.until_received(5)


async def test_drain(loop: asyncio.AbstractEventLoop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(BIG), 1 << 20):
            writer.write(BIG[at : at + (1 << 20)])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.server_context())
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=tls.client_context(), server_hostname=tls.HOST
    )
    assert await reader.read() == BIG
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_a_protocol_that_fails_to_pause(
    loop: asyncio.AbstractEventLoop, contexts: list[dict[str, Any]]
) -> None:
    class Failing(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            raise LookupError("on purpose")

    async with tls.connection(Failing()) as (transport, protocol, peer):
        transport.write(BIG)
        transport.write(BIG)
        assert protocol.calls.count("pause_writing") == 1
        assert await peer.exactly(2 * len(BIG)) == BIG * 2
        await protocol.until_called("resume_writing")
    assert [context["message"] for context in contexts] == ["protocol.pause_writing() failed"]
    contexts.clear()


async def test_another_protocol_in_mid_connection(loop: asyncio.AbstractEventLoop) -> None:
    first, second, third = Recorder(), BufferedRecorder(100), Recorder()
    second.buffer = memoryview(second.buffer)
    async with tls.connection(first) as (transport, _, peer):
        peer.send(b"first")
        await first.until_received(5)
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        peer.send(b"second")
        await second.until_received(6)
        transport.set_protocol(third)
        peer.send(b"third")
        await third.until_received(5)
        transport.set_protocol(first)
