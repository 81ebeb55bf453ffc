"""A cycle collection that begins while a transport is being made: Python 3.11 died of it."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Iterator

import pytest

Loop = asyncio.AbstractEventLoop


@pytest.fixture
def constant_collection() -> Iterator[None]:
    """Nearly every new object begins a collection."""
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("constant_collection")
async def test_collection_while_transports_are_made(loop: Loop) -> None:
    lost = []

    class Counting(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(exc)

    server = await loop.create_server(Counting, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    # The interpreter keeps some dicts for reuse, and making one of those begins no collection.
    kept: list[dict[str, int]] = []
    peers = []
    for _ in range(20):
        peers += [socket.create_connection(address) for _ in range(10)]
        kept += [{} for _ in range(200)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    for peer in peers:
        peer.close()
    while len(lost) < len(peers):
        await asyncio.sleep(0)
    server.close()
    await server.wait_closed()


@pytest.mark.usefixtures("constant_collection")
async def test_collection_while_other_transports_are_made(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    read_end, write_end = os.pipe()
    with theirs, os.fdopen(read_end, "rb", 0) as reads, os.fdopen(write_end, "wb", 0) as writes:
        made = [
            await loop.create_connection(asyncio.Protocol, sock=ours),
            await loop.connect_read_pipe(asyncio.Protocol, reads),
            await loop.connect_write_pipe(asyncio.Protocol, writes),
            await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            ),
        ]
        for transport, _ in made:
            transport.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
