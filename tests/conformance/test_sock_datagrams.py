"""sock_recvfrom, sock_recvfrom_into and sock_sendto (Python ≥ 3.11)."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.sockets import PATIENCE, pair
from support.ticks import pause

# Their stubs are those of the running Python.
Loop = Any

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in 3.11")


@contextmanager
def datagrams() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets for datagrams, each bound to a port of loopback."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
    ):
        for sock in (near, far):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        yield near, far


async def test_recvfrom(loop: Loop) -> None:
    with datagrams() as (near, far):
        far.sendto(b"hello", near.getsockname())
        assert await loop.sock_recvfrom(near, 100) == (b"hello", far.getsockname())


async def test_recvfrom_waits(loop: Loop) -> None:
    with datagrams() as (near, far):
        task = asyncio.ensure_future(loop.sock_recvfrom(near, 3))
        await pause(3)
        assert not task.done()
        far.sendto(b"hello", near.getsockname())
        assert await asyncio.wait_for(task, PATIENCE) == (b"hel", far.getsockname())


async def test_recvfrom_an_empty_datagram(loop: Loop) -> None:
    with datagrams() as (near, far):
        task = asyncio.ensure_future(loop.sock_recvfrom(near, 100))
        await pause()
        far.sendto(b"", near.getsockname())
        assert await asyncio.wait_for(task, PATIENCE) == (b"", far.getsockname())


async def test_recvfrom_into(loop: Loop) -> None:
    with datagrams() as (near, far):
        buffer = bytearray(8)
        task = asyncio.ensure_future(loop.sock_recvfrom_into(near, buffer))
        await pause(3)
        far.sendto(b"hello", near.getsockname())
        assert await asyncio.wait_for(task, PATIENCE) == (5, far.getsockname())
        assert buffer == b"hello\0\0\0"
        far.sendto(b"XYZ", near.getsockname())
        assert await loop.sock_recvfrom_into(near, buffer, 2) == (2, far.getsockname())
        assert buffer == b"XYllo\0\0\0"


async def test_recvfrom_into_what_is_too_small(loop: Loop) -> None:
    with datagrams() as (near, _):
        with pytest.raises(ValueError, match="greater than the length of the buffer"):
            await loop.sock_recvfrom_into(near, bytearray(3), 4)


async def test_sendto(loop: Loop) -> None:
    with datagrams() as (near, far):
        assert await loop.sock_sendto(near, b"hello", far.getsockname()) == 5
        assert await loop.sock_recvfrom(far, 100) == (b"hello", near.getsockname())


async def test_sendto_waits_for_room(loop: Loop, tmp_path: Path) -> None:
    """Where datagrams are not lost: a Unix socket whose receiver is slow."""
    address = str(tmp_path / "receiver")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(address)
        receiver.setblocking(False)
        sender.setblocking(False)
        sender.connect(address)  # Only then poll(2) knows that there is no room.
        sent = 0
        while True:
            task = asyncio.ensure_future(loop.sock_sendto(sender, b"x" * 1000, address))
            await pause(3)
            if not task.done():
                break
            assert task.result() == 1000
            sent += 1
        for _ in range(sent):
            assert await loop.sock_recv(receiver, 2000) == b"x" * 1000
        assert await asyncio.wait_for(task, PATIENCE) == 1000
        assert await loop.sock_recv(receiver, 2000) == b"x" * 1000


async def test_over_streams(loop: Loop) -> None:
    with pair() as (near, far):
        far.send(b"hello")
        data, _ = await loop.sock_recvfrom(near, 100)
        assert data == b"hello"


async def test_errors(loop: Loop) -> None:
    with datagrams() as (near, far):
        with pytest.raises(OSError, match="too long"):
            await loop.sock_sendto(near, b"x" * 70_000, far.getsockname())
        with pytest.raises(TypeError):
            await loop.sock_sendto(near, "text", far.getsockname())
    for attempt in (
        loop.sock_recvfrom(near, 10),
        loop.sock_recvfrom_into(near, bytearray(10)),
        loop.sock_sendto(near, b"x", ("127.0.0.1", 9)),
    ):
        with pytest.raises(OSError, match="Bad file descriptor"):
            await attempt


async def test_blocking_sockets_are_refused_in_debug_mode(loop: Loop) -> None:
    loop.set_debug(True)
    with datagrams() as (near, _):
        near.setblocking(True)
        for attempt in (
            loop.sock_recvfrom(near, 10),
            loop.sock_recvfrom_into(near, bytearray(10)),
            loop.sock_sendto(near, b"x", ("127.0.0.1", 9)),
        ):
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await attempt


async def test_cancelled_recvfrom_loses_nothing(loop: Loop) -> None:
    with datagrams() as (near, far):
        task = asyncio.ensure_future(loop.sock_recvfrom(near, 100))
        await pause(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        far.sendto(b"kept", near.getsockname())
        assert (await loop.sock_recvfrom(near, 100))[0] == b"kept"
