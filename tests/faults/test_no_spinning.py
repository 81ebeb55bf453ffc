"""A loop that has nothing to do sleeps, whatever state its descriptors are in."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.datagrams import DatagramRecorder, at_path, connected, endpoint, fill
from support.protocols import Recorder, connection
from support.sleeping import Nap
from support.sockets import pair
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
WATCHED = 0.06


@asynccontextmanager
async def asleep() -> AsyncIterator[None]:
    """After the block, the thread must sleep for a while."""
    yield
    await pause(5)
    for _ in range(10):  # there may still be something to do, which waits for a processor
        nap = Nap()
        await asyncio.sleep(WATCHED)
        slept = nap.slept()
        if slept > WATCHED / 2:
            return
    raise AssertionError(f"slept for {slept:.3f} s of {WATCHED} s")


async def test_with_nothing_at_all(loop: Loop) -> None:
    async with asleep():
        pass


async def test_with_a_far_timer(loop: Loop) -> None:
    async with asleep():
        handle = loop.call_later(3600, print)
        loop.call_later(0.001, print).cancel()
    handle.cancel()


async def test_with_data_for_a_paused_transport(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        async with asleep():
            transport.pause_reading()
            peer.send(b"x")


async def test_with_the_end_for_a_paused_transport(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        async with asleep():
            transport.pause_reading()
            peer.close()


async def test_with_a_reset_for_a_paused_transport(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        async with asleep():
            transport.pause_reading()
            peer.reset()


async def test_after_the_end_that_was_kept_open(loop: Loop) -> None:
    async with connection(Recorder(keep_open=True)) as (_, protocol, peer):
        async with asleep():
            peer.end()
            await protocol.until_called("eof_received")


async def test_after_both_ends(loop: Loop) -> None:
    async with connection(Recorder(keep_open=True)) as (transport, protocol, peer):
        async with asleep():
            peer.end()
            await protocol.until_called("eof_received")
            transport.write_eof()
            assert await peer.to_end() == b""


async def test_with_a_peer_that_does_not_read(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, _):
        async with asleep():
            transport.write(b"x" * (16 << 20))


async def test_while_closing_with_a_peer_that_does_not_read(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, _):
        async with asleep():
            transport.write(b"x" * (16 << 20))
            transport.close()


async def test_while_closing_with_a_peer_that_only_sends(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        async with asleep():
            transport.write(b"x" * (16 << 20))
            transport.close()
            peer.send(b"nobody reads this")


async def test_with_an_idle_server(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    async with asleep():
        pass
    server.close()


async def test_with_a_queue_at_a_server_that_does_not_serve(loop: Loop) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    server = await loop.create_server(Recorder, sock=sock, start_serving=False)
    with socket.create_connection(sock.getsockname()):
        async with asleep():
            pass
        server.close()
        sock.close()


async def test_after_a_reader_was_removed(loop: Loop) -> None:
    first, second = socket.socketpair()
    with first, second:
        async with asleep():
            second.send(b"x")
            loop.add_reader(first, int)
            await pause(3)
            loop.remove_reader(first)


async def test_after_a_cancelled_sock_recv(loop: Loop) -> None:
    with pair() as (near, far):
        async with asleep():
            waiting = loop.create_task(loop.sock_recv(near, 1))
            await pause(3)
            waiting.cancel()
            await pause(3)
            far.send(b"x")


async def test_with_a_pipe_whose_writer_has_gone(loop: Loop) -> None:
    read, write = os.pipe()
    async with asleep():
        os.close(read)
        loop.add_writer(write, int)
        await pause(3)
        loop.remove_writer(write)
    os.close(write)


async def test_after_wake_ups_from_a_thread(loop: Loop) -> None:
    async with asleep():
        for _ in range(5):
            await asyncio.to_thread(int)
        loop.call_soon_threadsafe(int)


async def test_with_a_full_peer_that_it_is_connected_to(loop: Loop, tmp_path: Path) -> None:
    near, far = connected(tmp_path)
    with far:
        async with endpoint(DatagramRecorder(), sock=near) as (transport, protocol):
            async with asleep():
                fill(near)
                transport.sendto(b"last")
            assert transport.get_write_buffer_size()
            transport.abort()
            await protocol.until_lost()


@pytest.mark.ours
async def test_with_a_full_peer_that_it_sends_to_by_name(loop: Loop, tmp_path: Path) -> None:
    """The system calls the sender writable all the same, and asyncio tries without end."""
    near, name = at_path(tmp_path / "near"), str(tmp_path / "far")
    with at_path(tmp_path / "far") as far:
        async with endpoint(DatagramRecorder(), sock=near) as (transport, _):
            async with asleep():
                sent = 0
                while not transport.get_write_buffer_size():
                    transport.sendto(b"%d" % sent, name)
                    sent += 1
            far.setblocking(False)
            received = []
            while len(received) < sent:
                try:
                    received.append(far.recv(100))
                except BlockingIOError:
                    await pause()
            assert received == [b"%d" % i for i in range(sent)]
            while transport.get_write_buffer_size():
                await pause()
