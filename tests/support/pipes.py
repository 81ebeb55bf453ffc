"""Pipes of which the loop under test has one end and the test the other."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.protocols import Calls


@contextmanager
def pipe() -> Iterator[tuple[io.FileIO, io.FileIO]]:
    """The reading and the writing end as unbuffered files, closed at the end."""
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as reader, open(write, "wb", buffering=0) as writer:
        yield reader, writer


class Reading(Calls, asyncio.Protocol):
    """What comes out of a pipe.

    keep_open: what eof_received() answers. pause: whether connection_made() pauses.
    """

    transport: asyncio.ReadTransport  # type: ignore[assignment]

    def __init__(self, *, keep_open: bool | None = None, pause: bool = False) -> None:
        super().__init__()
        self.data = bytearray()
        self.keep_open = keep_open
        self.pause = pause

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.pause:
            transport.pause_reading()
        self.note("connection_made")

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


class Writing(Calls):
    """What goes into a pipe."""

    transport: asyncio.WriteTransport  # type: ignore[assignment]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made")


async def reading(file: Any, protocol: Reading | None = None) -> Reading:
    """A read transport's protocol over the file."""
    wanted = protocol or Reading()
    transport, found = await asyncio.get_running_loop().connect_read_pipe(lambda: wanted, file)
    assert found is wanted and transport is wanted.transport
    return wanted


async def writing(file: Any, protocol: Writing | None = None) -> Writing:
    """A write transport's protocol over the file."""
    wanted = protocol or Writing()
    transport, found = await asyncio.get_running_loop().connect_write_pipe(lambda: wanted, file)
    assert found is wanted and transport is wanted.transport
    return wanted


def drain(file: io.FileIO) -> bytes:
    """Everything that is in the pipe now."""
    os.set_blocking(file.fileno(), False)
    found = bytearray()
    while data := file.read(1 << 16):
        found += data
    return bytes(found)
