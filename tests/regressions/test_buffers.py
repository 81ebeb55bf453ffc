"""Buffers that are no plain bytes, and buffers that run Python code when they are let go."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.protocols import BufferedRecorder, Recorder, connection
from support.sockets import fill, pair

Loop = asyncio.AbstractEventLoop

NOT_BYTES: dict[str, Callable[[], Any]] = {
    "array of int": lambda: array("i", [0] * 8),
    "array of signed char": lambda: array("b", [0] * 32),
    "ctypes char": lambda: (ctypes.c_char * 32)(),
    "ctypes int": lambda: (ctypes.c_int * 8)(),
    "memoryview of char": lambda: memoryview(bytearray(32)).cast("c"),
    "memoryview of two dimensions": lambda: memoryview(bytearray(32)).cast("B", (8, 4)),
}
not_bytes = pytest.mark.parametrize("make", NOT_BYTES.values(), ids=NOT_BYTES)
needs_buffer_methods = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="classes have __buffer__() since 3.12"
)


@not_bytes
async def test_sock_recv_into_takes_any_writable_buffer(loop: Loop, make: Any) -> None:
    with pair() as (near, far):
        buffer = make()
        far.send(b"abcdefgh")
        assert await loop.sock_recv_into(near, buffer) == 8
        assert bytes(buffer) == b"abcdefgh" + bytes(24)


@not_bytes
async def test_get_buffer_may_give_any_writable_buffer(loop: Loop, make: Any) -> None:
    class Receiver(BufferedRecorder):
        def buffer_updated(self, size: int) -> None:
            self.data += bytes(self.buffer)[:size]
            self.note("buffer_updated")

    receiver = Receiver()
    receiver.buffer = make()
    async with connection(receiver) as (_, protocol, peer):
        peer.send(b"abcdefgh")
        assert await protocol.until_received(8) == b"abcdefgh"
        await peer.send_all(b"z" * 100)  # more than there is room for, so several times
        assert await protocol.until_received(108) == b"abcdefgh" + b"z" * 100


class Letting:
    """Uses a transport whenever a buffer of its is let go, and writes down what that raised."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.times = 0
        self.errors: list[BaseException] = []

    def use(self) -> None:
        if self.transport is None:
            return
        self.times += 1
        try:
            self.transport.write(b"+")
            self.transport.get_write_buffer_size()
        except BaseException as error:
            self.errors.append(error)

    def bytes(self, data: bytes) -> bytes:
        """Bytes that do so when they are freed."""
        letting = self

        class Freed(bytes):
            def __del__(self) -> None:
                letting.use()

        return Freed(data)

    def buffer(self, room: bytearray) -> bytearray:
        """A buffer that does so when whoever looked at it has finished."""
        letting = self

        class Released(bytearray):
            def __buffer__(self, flags: int) -> memoryview:
                return memoryview(room)

            def __release_buffer__(self, view: memoryview) -> None:
                letting.use()

        return Released(len(room))


@pytest.fixture
def letting() -> Iterator[Letting]:
    found = Letting()
    yield found
    found.transport = None
    assert found.errors == []


async def test_bytes_freed_by_writelines_write_themselves(loop: Loop, letting: Letting) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        letting.transport = transport
        transport.writelines(letting.bytes(b"abc") for _ in range(2))
        gc.collect()
        assert letting.times == 2
        assert sorted(await peer.exactly(8)) == sorted(b"abcabc++")
        letting.transport = None


async def test_bytes_freed_by_write_write_themselves(loop: Loop, letting: Letting) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        letting.transport = transport
        transport.write(letting.bytes(b"abc"))
        transport.write(letting.bytes(b"def"))  # the second one of a handle may wait for its end
        assert sorted(await peer.exactly(8)) == sorted(b"abcdef++")
        assert letting.times == 2
        letting.transport = None


async def test_bytes_freed_by_a_flush_write_themselves(loop: Loop, letting: Letting) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        sock: Any = transport.get_extra_info("socket")
        sent = fill(sock._sock)
        letting.transport = transport
        transport.write(letting.bytes(b"abc"))
        transport.writelines([letting.bytes(b"def")])
        received = await peer.exactly(sent + 6 + letting.times)
        assert received.count(b"abc") == received.count(b"def") == 1
        letting.transport = None


@pytest.mark.parametrize("way", ["abort", "close the loop"])
def test_bytes_freed_unsent_use_the_transport(loop: Loop, letting: Letting, way: str) -> None:
    async def choke() -> None:
        async with connection(Recorder()) as (transport, protocol, _):
            fill(transport.get_extra_info("socket")._sock)
            letting.transport = transport
            transport.write(letting.bytes(b"abc"))
            if way == "abort":
                transport.abort()
                await protocol.until_lost()

    loop.run_until_complete(choke())
    loop.close()


@needs_buffer_methods
async def test_buffer_released_by_write_uses_the_transport(loop: Loop, letting: Letting) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        letting.transport = transport
        transport.write(letting.buffer(bytearray(b"hello")))
        letting.transport = None
        transport.write_eof()
        assert sorted(await peer.to_end()) == sorted(b"hello" + b"+" * letting.times)


@needs_buffer_methods
async def test_buffer_released_by_a_read_uses_the_transport(loop: Loop, letting: Letting) -> None:
    receiver = BufferedRecorder()
    receiver.buffer = letting.buffer(bytearray(16))
    async with connection(receiver) as (transport, protocol, peer):
        letting.transport = transport
        peer.send(b"abc")
        await protocol.until_called("buffer_updated")
        letting.transport = None
        assert letting.times > 0
