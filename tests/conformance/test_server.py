"""create_server and Server: listening, accepting, closing."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

import pytest
from support.protocols import Recorder
from support.sockets import PATIENCE, Peer, has_ipv6, listening, unused_port
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]


class Serving:
    """A protocol factory that keeps what it made, and lets a test wait for a connection."""

    def __init__(self) -> None:
        self.protocols: list[Recorder] = []
        self.arrived = asyncio.Queue[Recorder]()

    def __call__(self) -> Recorder:
        serving = self

        class Arriving(Recorder):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                serving.arrived.put_nowait(self)

        self.protocols.append(Arriving())
        return self.protocols[-1]

    async def next(self) -> Recorder:
        return await asyncio.wait_for(self.arrived.get(), PATIENCE)


def address(server: asyncio.AbstractServer) -> Any:
    assert isinstance(server.sockets, tuple)  # type: ignore[attr-defined]
    return server.sockets[0].getsockname()  # type: ignore[attr-defined]


def connect(server: asyncio.AbstractServer) -> Peer:
    return Peer(socket.create_connection(address(server)[:2], PATIENCE))


def refused(where: Any) -> bool:
    with socket.socket() as sock:
        sock.settimeout(PATIENCE)
        return sock.connect_ex(where[:2]) == errno.ECONNREFUSED


async def test_serves(loop: Loop) -> None:
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0)
    assert server.is_serving()
    assert server.get_loop() is loop
    peer = connect(server)
    protocol = await serving.next()
    assert protocol.transport.get_extra_info("peername") == peer.sock.getsockname()
    assert protocol.transport.get_extra_info("sockname") == address(server)
    peer.send(b"hello")
    assert await protocol.until_received(5) == b"hello"
    peer.close()
    await protocol.until_lost()
    server.close()
    await server.wait_closed()
    assert not server.is_serving()


async def test_reset_before_it_is_accepted(loop: Loop) -> None:
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0)
    for _ in range(3):
        peer = connect(server)
        name = peer.sock.getsockname()
        peer.reset()
        protocol = await serving.next()
        assert protocol.transport.get_extra_info("peername") == name
        await protocol.until_lost()
    server.close()


def test_shared_socket_is_served_by_who_is_idle(new_loop: NewLoop) -> None:
    # As worker processes share one: a loop that has no time must not keep connections from another.
    sock = listening()
    loops = [new_loop() for _ in range(3)]
    servings = [Serving() for _ in loops]
    servers = []

    async def serve(serving: Serving) -> None:
        loop = asyncio.get_running_loop()
        servers.append(await loop.create_server(serving, sock=sock.dup()))
        await pause(3)

    for loop, serving in zip(loops, servings, strict=True):
        loop.run_until_complete(serve(serving))
    for loop, serving in reversed([*zip(loops, servings, strict=True)]):
        peers = [Peer(socket.create_connection(sock.getsockname(), PATIENCE)) for _ in range(3)]
        for _ in peers:
            protocol = loop.run_until_complete(serving.next())
            protocol.transport.close()
            loop.run_until_complete(protocol.until_lost())
        for peer in peers:
            peer.close()
    assert [len(serving.protocols) for serving in servings] == [3, 3, 3]
    for server in servers:
        server.close()
    sock.close()


async def test_isinstance(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    assert isinstance(server, asyncio.AbstractServer)
    server.close()


async def test_sockets(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    (sock,) = server.sockets
    assert isinstance(sock, TransportSocket)
    assert sock.getsockname()[0] == "127.0.0.1"
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) != 0
    assert sock.gettimeout() == 0
    server.close()
    assert server.sockets == ()
    await pause()
    assert sock.fileno() == -1


async def test_close_stops_listening(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    where = address(server)
    server.close()
    server.close()
    await pause()
    assert refused(where)


async def test_close_leaves_connections_alone(loop: Loop) -> None:
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0)
    peer = connect(server)
    protocol = await serving.next()
    server.close()
    await pause(3)
    peer.send(b"still here")
    assert await protocol.until_received(10) == b"still here"
    protocol.transport.write(b"so am I")
    assert await peer.exactly(7) == b"so am I"
    peer.close()
    await protocol.until_lost()


async def test_several_hosts(loop: Loop) -> None:
    hosts = ["127.0.0.1", "127.0.0.2"] if sys.platform == "linux" else ["127.0.0.1"]
    serving = Serving()
    server = await loop.create_server(serving, hosts, unused_port())
    assert sorted(sock.getsockname()[0] for sock in server.sockets) == hosts
    for sock in server.sockets:
        peer = Peer(socket.create_connection(sock.getsockname(), PATIENCE))
        protocol = await serving.next()
        peer.close()
        await protocol.until_lost()
    server.close()


async def test_the_same_host_twice_is_bound_once(loop: Loop) -> None:
    server = await loop.create_server(Recorder, ["127.0.0.1", "127.0.0.1"], unused_port())
    assert len(server.sockets) == 1
    server.close()


@pytest.mark.parametrize("host", [None, ""])
async def test_every_interface(loop: Loop, host: str | None) -> None:
    serving = Serving()
    server = await loop.create_server(serving, host, unused_port())
    families = {sock.family for sock in server.sockets}
    assert socket.AF_INET in families
    assert len(server.sockets) == (2 if has_ipv6() else 1)
    for sock in server.sockets:
        host = "::1" if sock.family == socket.AF_INET6 else "127.0.0.1"
        peer = Peer(socket.create_connection((host, sock.getsockname()[1]), PATIENCE))
        protocol = await serving.next()
        peer.close()
        await protocol.until_lost()
    server.close()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
async def test_ipv6_only(loop: Loop) -> None:
    serving = Serving()
    server = await loop.create_server(serving, "::1", 0)
    (sock,) = server.sockets
    assert sock.family == socket.AF_INET6
    assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    peer = connect(server)
    protocol = await serving.next()
    assert len(protocol.transport.get_extra_info("peername")) == 4
    peer.close()
    await protocol.until_lost()
    server.close()


async def test_family(loop: Loop) -> None:
    server = await loop.create_server(Recorder, None, 0, family=socket.AF_INET)
    assert [sock.family for sock in server.sockets] == [socket.AF_INET]
    server.close()


async def test_given_socket(loop: Loop) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    serving = Serving()
    server = await loop.create_server(serving, sock=sock)
    assert sock.gettimeout() == 0
    assert address(server) == sock.getsockname()
    peer = connect(server)
    protocol = await serving.next()
    peer.close()
    await protocol.until_lost()
    server.close()
    await pause()
    assert sock.fileno() == -1


async def test_not_started(loop: Loop) -> None:
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0, start_serving=False)
    assert not server.is_serving()
    assert refused(address(server))
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    peer = connect(server)
    protocol = await serving.next()
    peer.close()
    await protocol.until_lost()
    server.close()


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="no SO_REUSEPORT here")
async def test_reuse_port(loop: Loop) -> None:
    first = await loop.create_server(Recorder, "127.0.0.1", 0, reuse_port=True)
    assert first.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) != 0
    second = await loop.create_server(Recorder, *address(first), reuse_port=True)
    assert address(first) == address(second)
    first.close()
    second.close()


async def test_address_in_use(loop: Loop) -> None:
    with listening() as taken:
        with pytest.raises(OSError, match="error while attempting to bind") as caught:
            await loop.create_server(Recorder, *taken.getsockname())
        assert caught.value.errno == errno.EADDRINUSE
        assert "127.0.0.1" in str(caught.value)


async def test_reuse_address_can_be_refused(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0, reuse_address=False)
    assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
    server.close()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the argument came with 3.13")
async def test_keep_alive(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0, keep_alive=True)
    assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    server.close()


async def test_a_socket_that_cannot_listen_stays_the_callers(loop: Loop) -> None:
    connected, other = socket.socketpair()
    with connected, other:
        with pytest.raises(OSError, match="Invalid argument"):
            await loop.create_server(Recorder, sock=connected)
        assert connected.fileno() >= 0
        await loop.sock_sendall(connected, b"x")
        assert other.recv(10) == b"x"


@pytest.mark.ours  # asyncio accepts nothing with a backlog of 0 or less
@pytest.mark.parametrize("backlog", [0, -1])
async def test_backlog_of_nothing(loop: Loop, backlog: int) -> None:
    await test_backlog(loop, backlog)


@pytest.mark.parametrize("backlog", [1, 100_000])
async def test_backlog(loop: Loop, backlog: int) -> None:
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0, backlog=backlog)
    for _ in range(5):
        peer = connect(server)
        protocol = await serving.next()
        peer.close()
        await protocol.until_lost()
    server.close()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "Neither host/port nor sock"),
        ({"host": "127.0.0.1", "port": 0, "sock": "tcp"}, ValueError, "can not be specified"),
        ({"sock": "udp"}, ValueError, "A Stream Socket was expected"),
        ({"host": "127.0.0.1", "port": 0, "ssl": True}, TypeError, "ssl argument must be"),
        ({"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": 5}, ValueError, "with ssl"),
    ],
)
async def test_invalid_arguments(
    loop: Loop, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    kinds = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
    with socket.socket(type=kinds.get(arguments.get("sock", "tcp"), 1)) as sock:
        if "sock" in arguments:
            arguments = {**arguments, "sock": sock}
        with pytest.raises(error, match=message):
            await loop.create_server(Recorder, **arguments)


@pytest.mark.parametrize("host", ["256.0.0.1.invalid", "no.such.host.invalid"])
async def test_unknown_host(loop: Loop, host: str) -> None:
    with pytest.raises(OSError):
        await loop.create_server(Recorder, host, 0)


async def test_address_of_another_machine(loop: Loop) -> None:
    # 192.0.2.0/24 is for documentation, so it is no address of this machine.
    with pytest.raises(OSError) as caught:
        await loop.create_server(Recorder, "192.0.2.1", 0)
    assert "192.0.2.1" in str(caught.value)


async def test_many_connections_in_one_tick(loop: Loop) -> None:
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0, backlog=50)
    peers = [connect(server) for _ in range(40)]
    protocols = [await serving.next() for _ in peers]
    names = {protocol.transport.get_extra_info("peername") for protocol in protocols}
    assert names == {peer.sock.getsockname() for peer in peers}
    for peer in peers:
        peer.close()
    for protocol in protocols:
        await protocol.until_lost()
    server.close()


@pytest.mark.parametrize("count", [1, 2, 8, 9, 20])
async def test_all_that_wait_are_accepted_at_once(loop: Loop, count: int) -> None:
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0)
    for _ in range(2):
        peers = [connect(server) for _ in range(count)]
        await pause(5)
        assert serving.arrived.qsize() == count
        protocols = [await serving.next() for _ in peers]
        for peer in peers:
            peer.close()
        for protocol in protocols:
            await protocol.until_lost()
    server.close()


async def test_connection_that_has_gone_before_it_is_accepted(loop: Loop) -> None:
    serving = Serving()
    server = await loop.create_server(serving, "127.0.0.1", 0)
    gone = connect(server)
    gone.reset()
    peer = connect(server)
    first = await serving.next()
    if first.transport.get_extra_info("peername") != peer.sock.getsockname():
        await first.until_lost()
        first = await serving.next()
    peer.send(b"x")
    await first.until_received(1)
    peer.close()
    await first.until_lost()
    server.close()


async def test_async_with(loop: Loop) -> None:
    async with await loop.create_server(Recorder, "127.0.0.1", 0) as server:
        assert server.is_serving()
        where = address(server)
    assert not server.is_serving()
    assert refused(where)


async def test_repr(loop: Loop) -> None:
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    assert "sockets=(" in repr(server)
    assert "127.0.0.1" in repr(server)
    server.close()
