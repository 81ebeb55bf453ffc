"""The transport below a TLS connection calls the program before its write() returns.

What the program did then came in the middle of what it was writing, or in place of the rest.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
from support import tls
from support.foreign import ForeignTransport
from support.protocols import Recorder

Loop = asyncio.AbstractEventLoop

BIG = bytes(range(251)) * 4_000


class Answering(ForeignTransport):
    """The peer is inside it, and answers the first it receives."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.peer = tls.server_context().wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.received = bytearray()
        self.parted = False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def write(self, data: Any) -> None:
        self.incoming.write(data)
        try:
            self.peer.do_handshake()
            while chunk := self.peer.read(65536):
                if not self.received:
                    self.peer.write(b"answer")
                self.received += chunk
            self.parted = True
            self.peer.unwrap()
        except ssl.SSLWantReadError:
            pass
        if answer := self.outgoing.read():
            self.deliver(answer)


async def secured(loop: Loop, protocol: Recorder) -> Answering:
    """Starts TLS over such a transport."""
    lower = Answering(loop)
    transport = await loop.start_tls(
        lower, protocol, tls.client_context(), server_hostname=tls.HOST
    )
    assert transport is not None
    protocol.transport = transport
    return lower


ways = pytest.mark.parametrize(
    "pieces",
    [[BIG], [bytearray(BIG)], [b"small", BIG, b"small"]],
    ids=["bytes", "bytearray", "several"],
)


@ways
async def test_what_is_written_within_a_write_comes_behind_it(
    loop: Loop, pieces: list[bytes]
) -> None:
    class Thankful(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"thanks")

    protocol = Thankful()
    lower = await secured(loop, protocol)
    protocol.transport.writelines(pieces)
    assert lower.received == b"".join(pieces) + b"thanks"
    protocol.transport.abort()
    await protocol.until_lost()
    assert protocol.data == b"answer"


@ways
async def test_a_close_within_a_write_loses_nothing(loop: Loop, pieces: list[bytes]) -> None:
    class Brief(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

    protocol = Brief()
    lower = await secured(loop, protocol)
    protocol.transport.writelines(pieces)
    await protocol.until_lost()
    assert lower.received == b"".join(pieces)
    assert lower.parted
    assert protocol.error is None
