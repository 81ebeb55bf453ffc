"""Protocols that write down what is called, and the connections that tests are made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from support.sockets import PATIENCE, Peer, connected


class Calls(asyncio.BaseProtocol):
    """Every callback by name, in order, and a way to wait for one."""

    transport: asyncio.Transport
    error: BaseException | None = None

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._waiters: list[asyncio.Future[None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.note("connection_made")

    def connection_lost(self, error: Exception | None) -> None:
        self.error = error
        self.note("connection_lost")

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def note(self, call: str) -> None:
        """Writes down a call and wakes whoever waits."""
        self.calls.append(call)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, true: Callable[[], object]) -> None:
        """Waits until a callback has made the condition true."""

        async def wait() -> None:
            while not true():
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

        await asyncio.wait_for(wait(), PATIENCE)

    async def until_called(self, call: str, times: int = 1) -> None:
        """Waits until that callback has run."""
        await self.until(lambda: self.calls.count(call) >= times)

    async def until_lost(self) -> None:
        await self.until_called("connection_lost")


class Recorder(Calls, asyncio.Protocol):
    """A streaming protocol that keeps what it receives.

    keep_open: what eof_received() answers.
    """

    def __init__(self, *, keep_open: bool | None = None) -> None:
        super().__init__()
        self.data = bytearray()
        self.keep_open = keep_open

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        self.note("data_received")

    def eof_received(self) -> bool | None:
        self.note("eof_received")
        return self.keep_open

    async def until_received(self, size: int) -> bytes:
        await self.until(lambda: len(self.data) >= size)
        return bytes(self.data)


class BufferedRecorder(Calls, asyncio.BufferedProtocol):
    """The same with a buffer of its own, of `size` bytes."""

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.buffer: Any = bytearray(size)
        self.hints: list[int] = []
        self.data = bytearray()

    def get_buffer(self, hint: int) -> Any:
        self.hints.append(hint)
        return self.buffer

    def buffer_updated(self, size: int) -> None:
        self.data += memoryview(self.buffer)[:size]
        self.note("buffer_updated")

    def eof_received(self) -> bool | None:
        self.note("eof_received")
        return None

    async def until_received(self, size: int) -> bytes:
        await self.until(lambda: len(self.data) >= size)
        return bytes(self.data)


class Echo(asyncio.Protocol):
    """Sends back what it receives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


P = TypeVar("P", bound=Calls)


@asynccontextmanager
async def connection(protocol: P) -> AsyncIterator[tuple[asyncio.Transport, P, Peer]]:
    """A connection of the running loop to a peer; both are closed at the end."""
    near, far = connected()
    peer = Peer(far)
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await loop.connect_accepted_socket(lambda: protocol, near)
        try:
            yield transport, protocol, peer
        finally:
            # Not after the end: stock asyncio fails when it was closed with data to send.
            if "connection_lost" not in protocol.calls:
                transport.abort()
    finally:
        peer.close()
