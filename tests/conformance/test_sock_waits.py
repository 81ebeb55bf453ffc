"""Waiting for the same socket again and again, and for what has come under its number meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from support.sockets import PATIENCE, pair
from support.ticks import pause

Loop = asyncio.AbstractEventLoop


class Reader:
    """Receives twice, and does something in the very step in which the first wait has ended."""

    def __init__(self, loop: Loop, sock: socket.socket, other: socket.socket | None = None) -> None:
        self.loop = loop
        self.sock = sock
        self.other = other
        self.again = asyncio.Event()
        self.task = asyncio.ensure_future(self.run())

    async def run(self) -> bytes:
        assert await self.loop.sock_recv(self.sock, 100) == b"first"
        self.between()
        self.again.set()
        return await self.loop.sock_recv(self.sock, 100)

    def between(self) -> None:
        """Nothing here."""

    async def is_waiting_again(self, far: socket.socket) -> None:
        await pause(3)
        far.send(b"first")
        await asyncio.wait_for(self.again.wait(), PATIENCE)

    async def second(self) -> bytes:
        return await asyncio.wait_for(self.task, PATIENCE)


class OtherFile(Reader):
    """Puts another file behind the number of the socket object."""

    def between(self) -> None:
        assert self.other is not None
        os.dup2(self.other.fileno(), self.sock.fileno())


class OtherSocket(Reader):
    """Closes the socket, and goes on with another that gets its number."""

    def between(self) -> None:
        assert self.other is not None
        number = self.sock.fileno()
        self.sock.close()
        os.dup2(self.other.fileno(), number)
        self.sock = socket.socket(fileno=number)


async def test_waits_again(loop: Loop) -> None:
    with pair() as (near, far):
        reader = Reader(loop, near)
        await reader.is_waiting_again(far)
        far.send(b"second")
        assert await reader.second() == b"second"


@pytest.mark.parametrize("change", [OtherFile, OtherSocket])
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("early", [False, True])
async def test_another_descriptor_under_the_number(
    loop: Loop, change: type[Reader], busy: bool, early: bool
) -> None:
    """`early`: its data is there before it is waited for."""
    going_on = busy

    def keep_busy() -> None:
        if going_on:
            loop.call_soon(keep_busy)

    with pair() as (near, far), pair() as (other, other_far):
        reader = change(loop, near, other)
        keep_busy()
        if early:
            other_far.send(b"second")
        await reader.is_waiting_again(far)
        if not early:
            await pause(3)
            other_far.send(b"second")
        try:
            assert await reader.second() == b"second"
        finally:
            going_on = False
            reader.sock.close()


async def test_many_messages_in_a_busy_loop(loop: Loop) -> None:
    going_on = True

    def keep_busy() -> None:
        if going_on:
            loop.call_soon(keep_busy)

    async def answer(sock: socket.socket) -> None:
        for _ in range(200):
            await loop.sock_sendall(sock, await loop.sock_recv(sock, 100))

    async def ask(sock: socket.socket) -> None:
        for number in range(200):
            message = b"%d" % number
            await loop.sock_sendall(sock, message)
            assert await loop.sock_recv(sock, 100) == message

    with pair() as (near, far):
        keep_busy()
        try:
            await asyncio.wait_for(asyncio.gather(answer(near), ask(far)), PATIENCE)
        finally:
            going_on = False


async def test_socket_is_not_kept_alive(loop: Loop) -> None:
    ends = []

    async def receive(near: socket.socket) -> weakref.ref[socket.socket]:
        assert await loop.sock_recv(near, 100) == b"x"
        return weakref.ref(near)

    near, far = socket.socketpair()
    near.setblocking(False)
    weakref.finalize(near, ends.append, near.fileno())
    with far:
        task = asyncio.ensure_future(receive(near))
        await pause(3)
        far.send(b"x")
        with pytest.warns(ResourceWarning):
            del near
            received = await asyncio.wait_for(task, PATIENCE)
        assert received() is None
        assert len(ends) == 1


async def test_callback_is_called_as_long_as_there_is_data(loop: Loop) -> None:
    """A callback that reads nothing, where a wait that reads all has just been."""
    called = asyncio.Event()
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            loop.remove_reader(near)
            called.set()

    class AddReader(Reader):
        async def run(self) -> bytes:
            assert await self.loop.sock_recv(self.sock, 100) == b"first"
            self.loop.add_reader(self.sock, count)
            self.again.set()
            return b""

    with pair() as (near, far):
        reader = AddReader(loop, near)
        await reader.is_waiting_again(far)
        far.send(b"unread")
        await asyncio.wait_for(called.wait(), PATIENCE)
        assert near.recv(100) == b"unread"
        await reader.second()


async def test_waiting_for_room_after_waiting_for_data(loop: Loop) -> None:
    data = b"x" * (4 << 20)

    async def answer(sock: socket.socket) -> None:
        assert await loop.sock_recv(sock, 100) == b"go"
        await loop.sock_sendall(sock, data)
        assert await loop.sock_recv(sock, 100) == b"thanks"

    with pair() as (near, far):
        task = asyncio.ensure_future(answer(near))
        await pause(3)
        await loop.sock_sendall(far, b"go")
        received = 0
        while received < len(data):
            received += len(await asyncio.wait_for(loop.sock_recv(far, 1 << 20), PATIENCE))
        await loop.sock_sendall(far, b"thanks")
        await asyncio.wait_for(task, PATIENCE)


async def test_cancelled_while_it_waits_again(loop: Loop) -> None:
    with pair() as (near, far):
        reader = Reader(loop, near)
        await reader.is_waiting_again(far)
        reader.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader.second()
        far.send(b"second")
        assert await asyncio.wait_for(loop.sock_recv(near, 100), PATIENCE) == b"second"
        await pause(3)
        assert not watched_by_epoll(near)


async def test_two_who_wait_for_one_socket(loop: Loop) -> None:
    """Both wake, one finds nothing any more and waits again."""
    with pair() as (near, far):
        tasks = [asyncio.ensure_future(loop.sock_recv(near, 1)) for _ in range(2)]
        await pause(3)
        far.send(b"a")
        done, waiting = await asyncio.wait(
            tasks, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        assert [task.result() for task in done] == [b"a"]
        await pause(3)
        far.send(b"b")
        assert [await asyncio.wait_for(task, PATIENCE) for task in waiting] == [b"b"]


async def test_closed_while_it_waits_again(loop: Loop) -> None:
    """Whoever waits on has a socket that another gets the number of; nothing goes astray."""
    with pair() as (near, far), pair() as (other, other_far):
        number = near.fileno()
        reader = Reader(loop, near)
        await reader.is_waiting_again(far)
        near.close()
        os.dup2(other.fileno(), number)
        with socket.socket(fileno=number) as newer:
            other_far.send(b"not for the reader")
            await pause(5)
            assert newer.recv(100) == b"not for the reader"
            reader.task.cancel()
            await asyncio.wait([reader.task], timeout=PATIENCE)
            assert reader.task.cancelled() or isinstance(reader.task.exception(), OSError)


async def test_what_a_worker_got_is_not_heard_of(loop: Loop) -> None:
    """A duplicate lives on elsewhere, and another socket gets the number."""
    called = []

    class HandOver(Reader):
        async def run(self) -> bytes:
            assert await self.loop.sock_recv(self.sock, 100) == b"first"
            assert self.other is not None
            number = self.sock.fileno()
            self.duplicate = self.sock.dup()
            self.sock.close()
            os.dup2(self.other.fileno(), number)
            self.sock = socket.socket(fileno=number)
            self.loop.add_reader(self.sock, called.append, self.sock)
            self.again.set()
            return b""

    with pair() as (near, far), pair() as (other, _):
        reader = HandOver(loop, near, other)
        await reader.is_waiting_again(far)
        with reader.duplicate:
            for _ in range(3):
                far.send(b"for the worker")
                await pause(3)
        loop.remove_reader(reader.sock)
        reader.sock.close()
        await reader.second()
    assert called == []


async def test_hundreds_at_once(loop: Loop, kind: str) -> None:
    """More than a multiplexer reports at first."""
    if kind == "oxlip-select":
        pytest.skip("so many numbers are too much for select")
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(pair()) for _ in range(300)]
        tasks = [asyncio.ensure_future(loop.sock_recv(near, 10)) for near, _ in pairs]
        await pause(3)
        for _, far in pairs:
            far.send(b"x")
        received = await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        assert received == [b"x"] * len(pairs)


async def test_hundreds_of_streams_at_once(loop: Loop, kind: str) -> None:
    if kind == "oxlip-select":
        pytest.skip("so many numbers are too much for select")
    count = 300
    received = bytearray()
    connected = 0
    everything = asyncio.Event()

    class Receiver(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal connected
            connected += 1

        def data_received(self, data: bytes) -> None:
            received.extend(data)
            if len(received) == count:
                everything.set()

    with contextlib.ExitStack() as stack:
        server = await loop.create_server(Receiver, "127.0.0.1", 0, backlog=count)
        clients = []
        for number in range(count):
            client = socket.create_connection(server.sockets[0].getsockname(), PATIENCE)
            clients.append(stack.enter_context(client))
            while connected <= number:
                await asyncio.sleep(0)
        for client in clients:
            client.send(b"x")
        await asyncio.wait_for(everything.wait(), PATIENCE)
        server.close()
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        await server.wait_closed()


async def test_waits_of_a_program_with_a_select_of_its_own(loop: Any) -> None:
    """As those have that measure or bound the wait."""
    if not hasattr(loop, "_selector"):
        pytest.skip("has no selector")
    select = loop._selector.select
    loop._selector.select = lambda timeout=None: select(timeout)
    try:
        with pair() as (near, far):
            reader = Reader(loop, near)
            await reader.is_waiting_again(far)
            loop.call_later(0.01, far.send, b"second")
            assert await reader.second() == b"second"
    finally:
        loop._selector.select = select


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
async def test_nothing_is_watched_when_nobody_waits(loop: Loop) -> None:
    with pair() as (near, far):
        reader = Reader(loop, near)
        await reader.is_waiting_again(far)
        far.send(b"second")
        assert await reader.second() == b"second"
        await pause(3)
        assert not watched_by_epoll(near)


def watched_by_epoll(sock: socket.socket) -> bool:
    """Whether any epoll descriptor of this process has the socket."""
    inode = os.fstat(sock.fileno()).st_ino
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if "eventpoll" not in str(entry.readlink()):
                continue
            lines = Path("/proc/self/fdinfo", entry.name).read_text().splitlines()
        except OSError:
            continue  # It was of the listing itself.
        if any(f"ino:{inode:x}" in line.replace(" ", "") for line in lines):
            return True
    return False
