"""Records are lent to a TLS connection, which nobody may notice."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from typing import Any

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
        sending = asyncio.ensure_future(peer.send_all(BIG))
        transport.write(BIG)
        assert await peer.exactly(len(BIG)) == BIG
        await protocol.until_received(len(BIG))
        assert protocol.data == BIG
        await sending
        assert seen > 0
        transports.clear()


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
