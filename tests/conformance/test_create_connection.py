"""create_connection and connect_accepted_socket: ways to connect, and every way to fail."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from typing import Any

import pytest
from support.protocols import Recorder
from support.sockets import PATIENCE, Peer, connected, has_ipv6, listening, unused_port
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
Infos = list[tuple[Any, ...]]


def resolving_to(loop: Loop, *addresses: tuple[str, int]) -> None:
    """Makes the loop's getaddrinfo answer with these addresses, in this order."""

    async def getaddrinfo(*arguments: Any, **options: Any) -> Infos:
        infos: Infos = []
        for host, port in addresses:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            where = (host, port, 0, 0) if family == socket.AF_INET6 else (host, port)
            infos.append((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where))
        return infos

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign,assignment]


async def finish(transport: asyncio.BaseTransport, *socks: socket.socket) -> None:
    transport.close()
    for sock in socks:
        sock.close()
    await pause(3)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", b"127.0.0.1"])
async def test_connects(loop: Loop, host: Any) -> None:
    with listening() as listener:
        port = listener.getsockname()[1]
        transport, protocol = await loop.create_connection(Recorder, host, port)
        accepted, _ = listener.accept()
        peer = Peer(accepted)
        assert protocol.calls == ["connection_made"], "before create_connection returns"
        assert protocol.transport is transport
        transport.write(b"to")
        assert await peer.exactly(2) == b"to"
        peer.send(b"fro")
        assert await protocol.until_received(3) == b"fro"
        await finish(transport, accepted)


@pytest.mark.parametrize("port", ["number", "text"])
async def test_port_as_text(loop: Loop, port: str) -> None:
    with listening() as listener:
        number = listener.getsockname()[1]
        transport, _ = await loop.create_connection(
            Recorder, "127.0.0.1", number if port == "number" else str(number)
        )
        accepted, _ = listener.accept()
        await finish(transport, accepted)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
async def test_ipv6(loop: Loop) -> None:
    with listening(socket.AF_INET6) as listener:
        transport, _ = await loop.create_connection(Recorder, "::1", listener.getsockname()[1])
        accepted, _ = listener.accept()
        assert transport.get_extra_info("peername") == listener.getsockname()
        await finish(transport, accepted)


async def test_given_socket(loop: Loop) -> None:
    near, far = connected()
    transport, protocol = await loop.create_connection(Recorder, sock=near)
    assert near.gettimeout() == 0
    far.sendall(b"x")
    await protocol.until_received(1)
    await finish(transport, far)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no AF_UNIX here")
async def test_given_socket_of_another_family(loop: Loop) -> None:
    near, far = socket.socketpair()
    transport, protocol = await loop.create_connection(Recorder, sock=near)
    far.sendall(b"x")
    await protocol.until_received(1)
    transport.write(b"y")
    assert await Peer(far).exactly(1) == b"y"
    await finish(transport, far)


async def test_local_addr(loop: Loop) -> None:
    with listening() as listener:
        port = unused_port()
        transport, _ = await loop.create_connection(
            Recorder, *listener.getsockname(), local_addr=("127.0.0.1", port)
        )
        accepted, address = listener.accept()
        assert address == ("127.0.0.1", port)
        await finish(transport, accepted)


async def test_local_addr_in_use(loop: Loop) -> None:
    with listening() as listener, listening() as taken:
        with pytest.raises(OSError, match="error while attempting to bind") as caught:
            await loop.create_connection(
                Recorder, *listener.getsockname(), local_addr=taken.getsockname()
            )
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
async def test_local_addr_of_another_family(loop: Loop) -> None:
    with listening() as listener, pytest.raises(OSError):
        await loop.create_connection(Recorder, *listener.getsockname(), local_addr=("::1", 0))


async def test_refused(loop: Loop) -> None:
    port = unused_port()
    with pytest.raises(ConnectionRefusedError) as caught:
        await loop.create_connection(Recorder, "127.0.0.1", port)
    assert caught.value.errno == errno.ECONNREFUSED
    assert str(port) in str(caught.value)


async def test_the_factory_is_not_called_when_refused(loop: Loop) -> None:
    with pytest.raises(ConnectionRefusedError):
        await loop.create_connection(pytest.fail, "127.0.0.1", unused_port())  # type: ignore[arg-type]


async def test_second_address_is_tried(loop: Loop) -> None:
    with listening() as listener:
        resolving_to(loop, ("127.0.0.1", unused_port()), listener.getsockname())
        transport, _ = await loop.create_connection(Recorder, "any.host", 1)
        accepted, _ = listener.accept()
        await finish(transport, accepted)


async def test_all_refused(loop: Loop) -> None:
    ports = unused_port(), unused_port()
    resolving_to(loop, *(("127.0.0.1", port) for port in ports))
    with pytest.raises(OSError, match="Multiple exceptions: ") as caught:
        await loop.create_connection(Recorder, "any.host", 1)
    assert all(str(port) in str(caught.value) for port in ports)


async def test_all_refused_in_the_same_words(loop: Loop) -> None:
    port = unused_port()
    resolving_to(loop, ("127.0.0.1", port), ("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        await loop.create_connection(Recorder, "any.host", 1)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="all_errors came with 3.12")
@pytest.mark.parametrize("delay", [None, 0.01])
async def test_all_errors(loop: Loop, delay: float | None) -> None:
    resolving_to(loop, ("127.0.0.1", unused_port()), ("127.0.0.1", unused_port()))
    with pytest.raises(ExceptionGroup, match="create_connection failed") as caught:  # noqa: F821
        await loop.create_connection(
            Recorder, "any.host", 1, all_errors=True, happy_eyeballs_delay=delay
        )
    assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError] * 2


async def test_nothing_resolved(loop: Loop) -> None:
    resolving_to(loop)
    with pytest.raises(OSError, match=r"getaddrinfo\(\) returned empty list"):
        await loop.create_connection(Recorder, "any.host", 1)


async def test_unknown_host(loop: Loop) -> None:
    with pytest.raises(socket.gaierror):
        await loop.create_connection(Recorder, "no.such.host.invalid", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "host and port was not specified and no sock"),
        ({"host": "127.0.0.1", "port": 1, "sock": "tcp"}, "can not be specified at the same time"),
        ({"port": 1, "sock": "tcp"}, "can not be specified at the same time"),
        ({"sock": "udp"}, "A Stream Socket was expected"),
        ({"host": "x", "port": 1, "server_hostname": "y"}, "only meaningful with ssl"),
        ({"host": "x", "port": 1, "ssl_handshake_timeout": 1}, "only meaningful with ssl"),
    ],
)
async def test_invalid_arguments(loop: Loop, arguments: dict[str, Any], message: str) -> None:
    kind = socket.SOCK_DGRAM if arguments.get("sock") == "udp" else socket.SOCK_STREAM
    with socket.socket(type=kind) as sock:
        if "sock" in arguments:
            arguments = {**arguments, "sock": sock}
        with pytest.raises(ValueError, match=message):
            await loop.create_connection(Recorder, **arguments)


async def test_given_socket_that_is_not_connected(loop: Loop) -> None:
    with socket.socket() as sock:
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        assert transport.get_extra_info("peername") is None
        transport.abort()
        await protocol.until_lost()


async def test_cancelled_while_connecting(loop: Loop) -> None:
    with listening(backlog=1) as listener:
        task = asyncio.ensure_future(loop.create_connection(Recorder, *listener.getsockname()))
        await pause()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


class TestHappyEyeballs:
    """RFC 8305: the next address starts when the one before has failed or taken too long."""

    @pytest.mark.parametrize("delay", [0.001, 0.25, 60])
    async def test_refused_address_is_no_delay(self, loop: Loop, delay: float) -> None:
        with listening() as listener:
            resolving_to(loop, ("127.0.0.1", unused_port()), listener.getsockname())
            start = loop.time()
            transport, _ = await loop.create_connection(
                Recorder, "any.host", 1, happy_eyeballs_delay=delay
            )
            assert loop.time() - start < 10
            accepted, _ = listener.accept()
            await finish(transport, accepted)

    async def test_slow_address_is_overtaken(self, loop: Loop) -> None:
        with listening() as listener, hanging() as slow:
            resolving_to(loop, slow, listener.getsockname())
            transport, protocol = await asyncio.wait_for(
                loop.create_connection(Recorder, "any.host", 1, happy_eyeballs_delay=0.01),
                PATIENCE,
            )
            assert transport.get_extra_info("peername") == listener.getsockname()
            assert protocol.calls == ["connection_made"]
            accepted, _ = listener.accept()
            await finish(transport, accepted)

    async def test_all_refused(self, loop: Loop) -> None:
        resolving_to(loop, *(("127.0.0.1", unused_port()) for _ in range(3)))
        with pytest.raises(OSError, match="Multiple exceptions"):
            await loop.create_connection(Recorder, "any.host", 1, happy_eyeballs_delay=0.01)

    async def test_cancelled(self, loop: Loop) -> None:
        with hanging() as slow:
            resolving_to(loop, slow, slow)
            both_connect = asyncio.Event()
            sock_connect, attempts = loop.sock_connect, 0

            async def counting(sock: socket.socket, address: Any) -> None:
                nonlocal attempts
                attempts += 1
                if attempts == 2:
                    both_connect.set()
                await sock_connect(sock, address)

            loop.sock_connect = counting  # type: ignore[method-assign]
            task = asyncio.ensure_future(
                loop.create_connection(Recorder, "any.host", 1, happy_eyeballs_delay=0.001)
            )
            await asyncio.wait_for(both_connect.wait(), PATIENCE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    @pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
    async def test_families_take_turns(self, loop: Loop) -> None:
        sixth = [("::1", unused_port()) for _ in range(3)]
        fourth = [("127.0.0.1", unused_port()) for _ in range(2)]
        resolving_to(loop, *sixth, *fourth)
        with pytest.raises(OSError, match="Multiple exceptions") as caught:
            await loop.create_connection(Recorder, "any.host", 1, happy_eyeballs_delay=5)
        order = [host for host in str(caught.value).split("'") if host in ("::1", "127.0.0.1")]
        assert order == ["::1", "127.0.0.1", "::1", "127.0.0.1", "::1"]


class hanging:
    """An address that neither accepts nor refuses: a listener whose queue is full."""

    def __enter__(self) -> tuple[str, int]:
        self.listener = listening(backlog=0)
        self.queued = []
        address = self.listener.getsockname()
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(address)
            self.queued.append(sock)
        return ("127.0.0.1", int(address[1]))

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        for sock in self.queued:
            sock.close()


class TestConnectAcceptedSocket:
    async def test_connects(self, loop: Loop) -> None:
        near, far = connected()
        transport, protocol = await loop.connect_accepted_socket(Recorder, near)
        assert protocol.calls == ["connection_made"]
        far.sendall(b"x")
        await protocol.until_received(1)
        assert transport.get_extra_info("peername") == far.getsockname()
        await finish(transport, far)

    async def test_datagram_socket(self, loop: Loop) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            with pytest.raises(ValueError, match="A Stream Socket was expected"):
                await loop.connect_accepted_socket(Recorder, sock)

    async def test_ssl_arguments_without_ssl(self, loop: Loop) -> None:
        near, far = connected()
        with near, far, pytest.raises(ValueError, match="only meaningful with ssl"):
            await loop.connect_accepted_socket(Recorder, near, ssl_handshake_timeout=1)

    async def test_one_descriptor_has_one_transport(self, loop: Loop) -> None:
        near, far = connected()
        transport, _ = await loop.connect_accepted_socket(Recorder, near)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.connect_accepted_socket(Recorder, near)
        await finish(transport, far)
