"""Much data, checked to the last byte."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys

import pytest
from support.protocols import Calls, Recorder, connection
from support.sockets import PATIENCE

Loop = asyncio.AbstractEventLoop
MIB = 1 << 20


class Digesting(Calls, asyncio.Protocol):
    """Keeps a checksum instead of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = hashlib.blake2b()
        self.size = 0

    def data_received(self, data: bytes) -> None:
        self.digest.update(data)
        self.size += len(data)

    def eof_received(self) -> bool:
        self.note("eof_received")
        return True


def blocks(count: int, size: int = MIB) -> list[bytes]:
    source = random.Random(6)
    return [source.randbytes(size) for _ in range(count)]


async def test_fifty_megabytes_in(loop: Loop) -> None:
    sent = blocks(5)
    expected = hashlib.blake2b()
    for _ in range(10):
        for block in sent:
            expected.update(block)
    async with connection(Digesting()) as (_, protocol, peer):

        async def feed() -> None:
            for _ in range(10):
                for block in sent:
                    await peer.send_all(block)
            peer.end()

        await asyncio.gather(feed(), protocol.until_called("eof_received"))
        assert protocol.size == 50 * MIB
        assert protocol.digest.digest() == expected.digest()


class Pieces(Calls, asyncio.Protocol):
    """Keeps what it is given as it is given it."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.size = 0

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self.size += len(data)
        self.note("data_received")

    def eof_received(self) -> None:
        self.note("eof_received")


# Around the sizes between which a piece is received where it stays, after some of them.
SIZES = [8191, 8192, 8193, 50_000, 122_879, 122_880, 122_881, 200_000]


@pytest.mark.parametrize("size", SIZES)
async def test_messages_of_one_size(loop: Loop, size: int) -> None:
    messages = [random.Random(n).randbytes(size) for n in range(12)]
    async with connection(Pieces()) as (_, protocol, peer):
        for number, message in enumerate(messages, start=1):
            before = len(protocol.pieces)
            await peer.send_all(message)
            await protocol.until(lambda: protocol.size >= number * size)  # noqa: B023
            assert b"".join(protocol.pieces[before:]) == message
        peer.end()
        await protocol.until_called("eof_received")
        pieces = protocol.pieces
    for piece in pieces:
        assert type(piece) is bytes
        assert sys.getsizeof(piece) == sys.getsizeof(b"") + len(piece), "no room that nobody uses"


async def test_messages_of_many_sizes(loop: Loop) -> None:
    source = random.Random(9)
    sizes = [source.choice(SIZES) * source.randint(1, 4) // source.randint(1, 8) for _ in range(80)]
    sizes += [60_000] * 6 + [10] * 3 + [60_000] * 6 + [400_000] + [60_000] * 3
    sent = b"".join(source.randbytes(size) for size in sizes)
    async with connection(Pieces()) as (_, protocol, peer):
        for size in sizes:
            end = protocol.size + size
            await peer.send_all(sent[protocol.size : end])
            await protocol.until(lambda: protocol.size >= end)  # noqa: B023
        peer.end()
        await protocol.until_called("eof_received")
        assert b"".join(protocol.pieces) == sent


async def test_fifty_megabytes_out_with_flow_control(loop: Loop) -> None:
    sent = blocks(5)
    expected = hashlib.blake2b()

    class Pausing(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.writable = asyncio.Event()
            self.writable.set()

        def pause_writing(self) -> None:
            self.writable.clear()

        def resume_writing(self) -> None:
            self.writable.set()

    async with connection(Pausing()) as (transport, protocol, peer):

        async def feed() -> None:
            for _ in range(10):
                for block in sent:
                    expected.update(block)
                    transport.write(block)
                    await protocol.writable.wait()
                    assert transport.get_write_buffer_size() <= 65536
            transport.write_eof()

        received, _ = await asyncio.gather(peer.to_end(), feed())
        assert len(received) == 50 * MIB
        assert hashlib.blake2b(received).digest() == expected.digest()


async def test_all_at_once_without_flow_control(loop: Loop) -> None:
    sent = blocks(20)
    async with connection(Recorder()) as (transport, _, peer):
        for number, block in enumerate(sent):
            if number % 2:
                transport.writelines([block[: MIB // 3], block[MIB // 3 :]])
            else:
                transport.write(block)
        transport.close()
        assert await peer.to_end() == b"".join(sent)


async def test_both_ways_at_once(loop: Loop) -> None:
    outward, inward = b"".join(blocks(8)), b"".join(blocks(8))[::-1]
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write(outward)
        received, _, _ = await asyncio.gather(
            peer.exactly(len(outward)),
            peer.send_all(inward),
            protocol.until_received(len(inward)),
        )
        assert received == outward
        assert bytes(protocol.data) == inward


@pytest.mark.parametrize("size", [1, 1023, 65536, 65537, 262_144, 262_145, 1_000_003])
async def test_echo_between_two_transports(loop: Loop, size: int) -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.write(data)

    data = random.Random(size).randbytes(size)
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    transport, protocol = await loop.create_connection(Recorder, *address)
    transport.write(data)
    assert await protocol.until_received(size) == data
    transport.close()
    await protocol.until_lost()
    server.close()


async def test_many_connections_at_once(loop: Loop) -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.write(data)

    async def client(number: int) -> None:
        transport, protocol = await loop.create_connection(Recorder, *address)
        for turn in range(5):
            transport.write(b"%05d" % number)
            received = await protocol.until_received(5 * (turn + 1))
            assert received == b"%05d" % number * (turn + 1)
        transport.close()
        await protocol.until_lost()

    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    await asyncio.wait_for(asyncio.gather(*map(client, range(100))), PATIENCE)
    server.close()
