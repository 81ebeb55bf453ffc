"""Records are lent to a TLS connection, which nobody may notice."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import ssl
from typing import Any

import psutil
import pytest
from support import tls
from support.protocols import BufferedRecorder, Recorder

Loop = asyncio.AbstractEventLoop

BIG = bytes(range(251)) * 4_000


async def test_an_ssl_object_outlives_its_connection(loop: Loop) -> None:
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        sslobj: ssl.SSLObject = transport.get_extra_info("ssl_object")
        peer.send(b"hello")
        await protocol.until_received(5)
        transport.close()
        await peer.to_end()
        peer.close()
        await protocol.until_lost()
    del transport, protocol, peer
    gc.collect()
    assert sslobj.version() is not None
    assert sslobj.pending() == 0
    for use in (lambda: sslobj.read(1), lambda: sslobj.write(b"x"), sslobj.unwrap):
        with contextlib.suppress(ssl.SSLError, ValueError):
            use()


async def test_what_a_small_buffer_leaves_is_kept(loop: Loop) -> None:
    protocol = BufferedRecorder()
    # Of a bytearray asyncio fills a copy, from the second record on.
    protocol.buffer = memoryview(bytearray(1000))
    async with tls.connection(protocol) as (_, _, peer):
        sending = asyncio.ensure_future(peer.send_all(BIG))
        await protocol.until_received(len(BIG))
        assert protocol.data == BIG
        await sending


@pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer keeps what was freed"
)
@pytest.mark.timeout(55)
async def test_a_slow_reader_keeps_no_more_than_it_has_not_read(loop: Loop) -> None:
    """What was read stayed in front of what came behind it, for as long as something was left."""
    size = 40 << 20
    process = psutil.Process()
    sizes = []
    finished = loop.create_future()

    class Slow(BufferedRecorder):
        received = 0

        def get_buffer(self, hint: int) -> memoryview:
            return memoryview(self.buffer)

        def buffer_updated(self, count: int) -> None:
            self.received += count
            if self.received > size // 4 * (len(sizes) + 1):
                sizes.append(process.memory_info().rss)
            self.transport.pause_reading()
            loop.call_later(0.0005, self.transport.resume_reading)
            if self.received == size:
                finished.set_result(None)

    protocol = Slow(size=16 * 1024)
    async with tls.connection(protocol) as (_, _, peer):
        sending = asyncio.ensure_future(peer.send_all(bytes(size)))
        # Four seconds on asyncio's loop, and more where others use the processors.
        await asyncio.wait_for(finished, 45)
        await sending
    # At the end all is read, and nothing kept in any case.
    assert max(sizes) - sizes[0] < 10 << 20


@pytest.mark.ours  # asyncio reads within a write then, and loses them
async def test_records_that_arrive_within_a_callback_of_the_context(loop: Loop) -> None:
    """The callback runs ticks, as libraries do that run loops inside loops."""
    context: Any = tls.client_context()
    ticks = 0

    def run_ticks(*record: object) -> None:
        nonlocal ticks
        for _ in range(ticks):
            ticks -= 1
            loop.call_soon(int)
            loop._run_once()  # type: ignore[attr-defined]

    context._msg_callback = run_ticks
    async with tls.connection(Recorder(), client=context) as (transport, protocol, peer):
        peer.send(b"hello")
        ticks = 3
        transport.write(b"x")
        assert ticks == 0
        await protocol.until_received(5)
        assert await peer.exactly(1) == b"x"


async def test_a_pause_in_the_middle_of_what_has_arrived(loop: Loop) -> None:
    class Slow(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            loop.call_later(0, self.transport.resume_reading)

    async with tls.connection(Slow()) as (_, protocol, peer):
        sending = asyncio.ensure_future(peer.send_all(BIG))
        await protocol.until_received(len(BIG))
        assert protocol.data == BIG
        await sending


async def test_a_callback_of_the_context_uses_the_transport(loop: Loop) -> None:
    """It runs in the middle of reading and writing."""
    context: Any = tls.client_context()
    seen = 0
    transports: list[Any] = []

    def look(*record: object) -> None:
        nonlocal seen
        for transport in transports:
            seen += 1
            transport.get_read_buffer_size()
            transport.get_write_buffer_size()
            transport.pause_reading()
            transport.resume_reading()

    context._msg_callback = look
    async with tls.connection(Recorder(), client=context) as (transport, protocol, peer):
        transports.append(transport)
        transport.write(BIG)
        assert await peer.exactly(len(BIG)) == BIG
        # One after the other: a socket of the ssl module is for one thread at a time.
        await peer.send_all(BIG)
        await protocol.until_received(len(BIG))
        assert protocol.data == BIG
        assert seen > 0
        transports.clear()


@pytest.mark.ours  # asyncio sends the same data again, for ever if the callback writes
@pytest.mark.parametrize("behind", [b"and more", b""])
async def test_a_callback_of_the_context_writes_or_closes(loop: Loop, behind: bytes) -> None:
    """It did so in the middle of what was being written."""
    context: Any = tls.client_context()
    records = 0

    def interrupt(*record: object) -> None:
        nonlocal records
        records -= 1
        if records == 0:
            if behind:
                transport.write(behind)
            transport.close()

    context._msg_callback = interrupt
    async with tls.connection(Recorder(), client=context) as (transport, protocol, peer):
        records = 3
        transport.write(BIG)
        assert await peer.to_end() == BIG + behind
        await peer.part()
        await protocol.until_lost()
        assert protocol.error is None
        context._msg_callback = None


async def test_a_protocol_closes_and_forgets_everything_when_it_receives(loop: Loop) -> None:
    """Nothing but the call itself holds the connection then."""

    class Last(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.abort()
            del self.transport
            gc.collect()

    async with tls.connection(Last()) as (_, protocol, peer):
        peer.send(b"hello")
        await protocol.until_lost()
        assert protocol.data == b"hello"
