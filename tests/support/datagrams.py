"""Datagram endpoints of the loop under test, and plain sockets that stand opposite."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from support.protocols import Calls
from support.sockets import PATIENCE, loopback


class DatagramRecorder(Calls, asyncio.DatagramProtocol):
    """Keeps what it receives, with the senders, and every error."""

    def __init__(self) -> None:
        super().__init__()
        self.datagrams: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.datagrams.append((data, addr))
        self.note("datagram_received")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self.note("error_received")

    @property
    def data(self) -> list[bytes]:
        return [data for data, _ in self.datagrams]

    async def until_received(self, count: int) -> list[bytes]:
        await self.until(lambda: len(self.datagrams) >= count)
        return self.data


P = TypeVar("P", bound=Calls)


@asynccontextmanager
async def endpoint(protocol: P, **arguments: Any) -> AsyncIterator[tuple[Any, P]]:
    """An endpoint of the running loop, aborted at the end."""
    loop = asyncio.get_running_loop()
    if not arguments:
        arguments = {"local_addr": ("127.0.0.1", 0)}
    transport, made = await loop.create_datagram_endpoint(lambda: protocol, **arguments)
    try:
        yield transport, made
    finally:
        if "connection_lost" not in protocol.calls:
            transport.abort()
            await protocol.until_lost()


def bound(family: int = socket.AF_INET) -> socket.socket:
    """A blocking socket on a free loopback port."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((loopback(family), 0))
    sock.settimeout(PATIENCE)
    return sock


def at_path(path: Path) -> socket.socket:
    """A blocking Unix socket with a name."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    sock.settimeout(PATIENCE)
    return sock


def connected(folder: Path) -> tuple[socket.socket, socket.socket]:
    """Two Unix sockets with names, the first connected to the second: it is full after a few
    datagrams, and has room again when some are read."""
    first, second = at_path(folder / "first"), at_path(folder / "second")
    first.connect(str(folder / "second"))
    return first, second


def fill(sock: Any) -> int:
    """Sends datagrams into a connected socket until it takes no more; how many it took."""
    own = socket.socket(fileno=socket.dup(sock.fileno()))
    with own:
        own.setblocking(False)
        count = 0
        while True:
            try:
                own.send(b"filler")
            except BlockingIOError:
                return count
            count += 1
