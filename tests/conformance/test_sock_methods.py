"""sock_recv, sock_recv_into, sock_sendall, sock_accept and sock_connect."""

from __future__ import annotations

import asyncio
import inspect
import random
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.protocols import Recorder, connection
from support.sockets import PATIENCE, has_ipv6, listening, pair, unused_port
from support.ticks import pause

Loop = asyncio.AbstractEventLoop


async def test_recv_of_what_is_there(loop: Loop) -> None:
    with pair() as (near, far):
        far.send(b"hello")
        assert await loop.sock_recv(near, 100) == b"hello"


def test_parameters_are_named_as_asyncio_names_them(loop: Loop) -> None:
    theirs = asyncio.SelectorEventLoop
    for name in dir(theirs):
        if name.startswith("sock_"):
            parameters = inspect.signature(getattr(theirs, name)).parameters
            ours = inspect.signature(getattr(type(loop), name)).parameters
            assert list(ours) == list(parameters), name


class Counting(socket.socket):
    """Of a program that does more with what it receives and sends, here in pieces."""

    calls: list[str]

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        self.calls.append("recv")
        return super().recv(bufsize, flags).upper()

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        self.calls.append("recv_into")
        return super().recv_into(buffer, min(len(buffer), 2), flags)

    def send(self, data: Any, flags: int = 0) -> int:
        self.calls.append("send")
        return super().send(data[:2], flags)


async def test_methods_of_a_subclass_are_called(loop: Loop) -> None:
    with pair() as (near, far), Counting(fileno=near.detach()) as own:
        own.calls = []
        task = asyncio.ensure_future(loop.sock_recv(own, 100))
        await pause(2)
        far.send(b"late")
        assert await asyncio.wait_for(task, PATIENCE) == b"LATE"
        far.send(b"abc")
        buffer = bytearray(10)
        assert await loop.sock_recv_into(own, buffer) == 2
        assert buffer[:3] == b"ab\0"
        assert own.calls == ["recv", "recv", "recv_into"]
        await loop.sock_sendall(own, b"12345")
        assert far.recv(100) == b"12345"
        assert own.calls[3:] == ["send", "send", "send"]


async def test_errors_of_a_subclass_are_passed_on(loop: Loop) -> None:
    class Broken(socket.socket):
        def recv(self, bufsize: int, flags: int = 0) -> bytes:
            raise LookupError("own")

    with pair() as (near, far), Broken(fileno=near.detach()) as own:
        far.send(b"x")
        with pytest.raises(LookupError, match="own"):
            await loop.sock_recv(own, 100)


async def test_recv_waits(loop: Loop) -> None:
    with pair() as (near, far):
        task = asyncio.ensure_future(loop.sock_recv(near, 100))
        await pause(3)
        assert not task.done()
        far.send(b"late")
        assert await asyncio.wait_for(task, PATIENCE) == b"late"


async def test_recv_takes_no_more_than_asked(loop: Loop) -> None:
    with pair() as (near, far):
        far.send(b"123456789")
        assert await loop.sock_recv(near, 4) == b"1234"
        assert await loop.sock_recv(near, 4) == b"5678"
        assert await loop.sock_recv(near, 4) == b"9"


@pytest.mark.parametrize("of_what", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
async def test_recv_of_a_large_message(loop: Loop, of_what: socket.SocketKind) -> None:
    """The rest of a message that is received in part is lost."""
    near, far = socket.socketpair(socket.AF_UNIX, of_what)
    with near, far:
        near.setblocking(False)
        far.settimeout(PATIENCE)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        message = random.randbytes(far.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) * 3 // 4)
        assert len(message) > 256 * 1024
        far.send(message)
        received = bytearray(await loop.sock_recv(near, 1 << 21))
        if of_what == socket.SOCK_STREAM:
            while len(received) < len(message):
                received += await loop.sock_recv(near, 1 << 21)
        assert received == message


async def test_recv_of_the_end(loop: Loop) -> None:
    with pair() as (near, far):
        far.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(near, 100) == b""
        assert await loop.sock_recv_into(near, bytearray(10)) == 0


async def test_recv_into(loop: Loop) -> None:
    with pair() as (near, far):
        buffer = bytearray(b"." * 8)
        far.send(b"hello")
        assert await loop.sock_recv_into(near, buffer) == 5
        assert buffer == b"hello..."
        task = asyncio.ensure_future(loop.sock_recv_into(near, memoryview(buffer)[2:4]))
        await pause(3)
        far.send(b"XYZ")
        assert await asyncio.wait_for(task, PATIENCE) == 2
        assert buffer == b"heXYo..."
        buffer.append(0)  # fails while somebody holds an export


async def test_recv_into_what_is_read_only(loop: Loop) -> None:
    with pair() as (near, far):
        far.send(b"x")
        with pytest.raises((TypeError, BufferError)):
            await loop.sock_recv_into(near, b"read-only")


@pytest.mark.parametrize("data", [b"bytes", bytearray(b"array"), memoryview(b"a view")[2:]])
async def test_sendall(loop: Loop, data: Any) -> None:
    with pair() as (near, far):
        assert await loop.sock_sendall(near, data) is None  # type: ignore[func-returns-value]
        assert far.recv(100) == bytes(data)


async def test_sendall_of_nothing(loop: Loop) -> None:
    with pair() as (near, _):
        await loop.sock_sendall(near, b"")


async def test_sendall_of_a_wrong_type(loop: Loop) -> None:
    with pair() as (near, _):
        with pytest.raises(TypeError):
            await loop.sock_sendall(near, "text")  # type: ignore[arg-type]


async def test_much_data_both_ways(loop: Loop) -> None:
    data = random.Random(7).randbytes(8 << 20)

    async def receive(sock: socket.socket) -> bytes:
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(sock, 1 << 20)
        return bytes(received)

    with pair() as (near, far):
        results = await asyncio.gather(
            loop.sock_sendall(near, data),
            receive(far),
            loop.sock_sendall(far, data[::-1]),
            receive(near),
        )
        assert results[1] == data
        assert results[3] == data[::-1]


async def test_accept_and_connect(loop: Loop) -> None:
    with listening() as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        task = asyncio.ensure_future(loop.sock_accept(listener))
        await pause(2)
        assert not task.done()
        await loop.sock_connect(client, listener.getsockname())
        accepted, address = await asyncio.wait_for(task, PATIENCE)
        with accepted:
            assert address == client.getsockname()
            assert accepted.gettimeout() == 0
            assert isinstance(accepted, socket.socket)
            await loop.sock_sendall(client, b"x")
            assert await loop.sock_recv(accepted, 10) == b"x"


async def test_connect_refused(loop: Loop) -> None:
    with socket.socket() as client:
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_connect(client, ("127.0.0.1", unused_port()))


async def test_connect_by_name(loop: Loop) -> None:
    with listening() as listener, socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("localhost", listener.getsockname()[1]))
        assert client.getpeername() == listener.getsockname()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
async def test_connect_of_ipv6(loop: Loop) -> None:
    with listening(socket.AF_INET6) as listener, socket.socket(socket.AF_INET6) as client:
        client.setblocking(False)
        await loop.sock_connect(client, listener.getsockname()[:2])
        assert client.getpeername() == listener.getsockname()


async def test_reset_while_waiting(loop: Loop) -> None:
    with pair() as (near, far):
        task = asyncio.ensure_future(loop.sock_recv(near, 10))
        await pause(2)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(task, PATIENCE)


def calls(loop: Loop, sock: socket.socket) -> list[Callable[[], Coroutine[Any, Any, Any]]]:
    return [
        lambda: loop.sock_recv(sock, 1),
        lambda: loop.sock_recv_into(sock, bytearray(1)),
        lambda: loop.sock_sendall(sock, b"x"),
        lambda: loop.sock_accept(sock),
        lambda: loop.sock_connect(sock, ("127.0.0.1", 1)),
    ]


async def test_blocking_sockets_are_refused_in_debug_mode(loop: Loop) -> None:
    loop.set_debug(True)
    with socket.socket() as sock:
        for call in calls(loop, sock):
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await call()


async def test_sockets_of_transports_are_protected(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, _):
        sock = transport.get_extra_info("socket")
        with pytest.raises((RuntimeError, TypeError, AttributeError)):
            await loop.sock_recv(sock, 1)
        assert not transport.is_closing()


async def test_cancelled_recv_loses_nothing(loop: Loop) -> None:
    with pair() as (near, far):
        task = asyncio.ensure_future(loop.sock_recv(near, 10))
        await pause(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        far.send(b"kept")
        assert await loop.sock_recv(near, 10) == b"kept"


async def test_recv_cancelled_when_data_has_come(loop: Loop) -> None:
    with pair() as (near, far):
        task = asyncio.ensure_future(loop.sock_recv(near, 10))
        await pause(2)
        far.send(b"kept")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await loop.sock_recv(near, 10) == b"kept"


async def test_cancelled_accept_loses_no_connection(loop: Loop) -> None:
    with listening() as listener:
        listener.setblocking(False)
        task = asyncio.ensure_future(loop.sock_accept(listener))
        await pause(2)
        client = socket.create_connection(listener.getsockname(), PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with client:
            accepted, address = await asyncio.wait_for(loop.sock_accept(listener), PATIENCE)
            accepted.close()
            assert address == client.getsockname()


async def test_cancelled_send_can_go_on(loop: Loop) -> None:
    with pair() as (near, far):
        task = asyncio.ensure_future(loop.sock_sendall(near, b"x" * (32 << 20)))
        await pause(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        received = 0
        while True:
            try:
                received += len(far.recv(1 << 20))
            except BlockingIOError:
                break
        assert 0 < received < 32 << 20
        await loop.sock_sendall(near, b"tail")


async def test_cancelled_connect(loop: Loop) -> None:
    with listening() as listener:
        for _ in range(5):
            with socket.socket() as client:
                client.setblocking(False)
                task = asyncio.ensure_future(loop.sock_connect(client, listener.getsockname()))
                await pause()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def test_recv_and_send_on_one_socket_at_once(loop: Loop) -> None:
    with pair() as (near, far):
        receiving = asyncio.ensure_future(loop.sock_recv(near, 10))
        sending = asyncio.ensure_future(loop.sock_sendall(near, b"y" * (16 << 20)))
        await pause(3)
        far.send(b"x")
        assert await asyncio.wait_for(receiving, PATIENCE) == b"x"
        assert not sending.done()
        received = 0
        while received < 16 << 20:
            received += len(await loop.sock_recv(far, 1 << 20))
        await asyncio.wait_for(sending, PATIENCE)
