"""create_datagram_endpoint: what it makes of its arguments, and what it refuses."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import socket
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from support.datagrams import DatagramRecorder, at_path, bound, endpoint
from support.sockets import has_ipv6

Loop = asyncio.AbstractEventLoop

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")


async def test_local_address(loop: Loop) -> None:
    async with endpoint(DatagramRecorder()) as (transport, protocol):
        assert protocol.calls == ["connection_made"]
        assert protocol.transport is transport
        host, port = transport.get_extra_info("sockname")
        assert host == "127.0.0.1"
        assert port > 0
        assert transport.get_extra_info("peername") is None
        with bound() as peer:
            peer.sendto(b"ping", (host, port))
            await protocol.until_received(1)
            assert protocol.datagrams == [(b"ping", peer.getsockname())]
            transport.sendto(b"pong", protocol.datagrams[0][1])
            assert peer.recvfrom(100) == (b"pong", (host, port))


async def test_remote_address(loop: Loop) -> None:
    with bound() as peer:
        address = peer.getsockname()
        async with endpoint(DatagramRecorder(), remote_addr=address) as (transport, protocol):
            assert transport.get_extra_info("peername") == address
            assert transport.get_extra_info("socket").getpeername() == address
            transport.sendto(b"one")
            transport.sendto(b"two", None)
            transport.sendto(b"three", address)
            assert [peer.recv(100) for _ in range(3)] == [b"one", b"two", b"three"]
            peer.sendto(b"answer", transport.get_extra_info("sockname"))
            await protocol.until_received(1)
            assert protocol.datagrams == [(b"answer", address)]


async def test_both_addresses(loop: Loop) -> None:
    with bound() as peer:
        local, remote = ("127.0.0.1", 0), peer.getsockname()
        async with endpoint(DatagramRecorder(), local_addr=local, remote_addr=remote) as (
            transport,
            _,
        ):
            assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
            assert transport.get_extra_info("peername") == remote


async def test_only_a_family(loop: Loop) -> None:
    async with endpoint(DatagramRecorder(), family=socket.AF_INET) as (transport, _):
        assert transport.get_extra_info("sockname") == ("0.0.0.0", 0)
        with bound() as peer:
            transport.sendto(b"x", peer.getsockname())
            assert peer.recv(10) == b"x"


async def test_names_are_looked_up_by_the_loop(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
        asked.append((host, port, options["type"], options["family"]))
        return await real("127.0.0.1", port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    with bound() as peer:
        port = peer.getsockname()[1]
        async with endpoint(
            DatagramRecorder(), local_addr=("here.test", 0), remote_addr=("there.test", port)
        ) as (transport, _):
            assert transport.get_extra_info("peername") == ("127.0.0.1", port)
    assert asked == [
        ("here.test", 0, socket.SOCK_DGRAM, 0),
        ("there.test", port, socket.SOCK_DGRAM, 0),
    ]


async def test_a_given_socket_is_the_transports(loop: Loop) -> None:
    sock = bound()
    async with endpoint(DatagramRecorder(), sock=sock) as (transport, protocol):
        assert sock.gettimeout() == 0
        assert transport.get_extra_info("socket").fileno() == sock.fileno()
        with bound() as peer:
            peer.sendto(b"x", sock.getsockname())
            assert await protocol.until_received(1) == [b"x"]
    assert sock.fileno() == -1


async def test_a_given_socket_may_be_connected(loop: Loop) -> None:
    with bound() as peer:
        sock = bound()
        sock.connect(peer.getsockname())
        async with endpoint(DatagramRecorder(), sock=sock) as (transport, _):
            assert transport.get_extra_info("peername") == peer.getsockname()
            transport.sendto(b"one")
            # Unlike after remote_addr, another address is not checked, and not heeded.
            transport.sendto(b"two", ("127.0.0.1", 9))
            assert [peer.recv(10), peer.recv(10)] == [b"one", b"two"]


async def test_options_of_a_given_socket(loop: Loop) -> None:
    with bound() as sock:
        with pytest.raises(ValueError, match=r"socket modifier keyword arguments can not be used"):
            await loop.create_datagram_endpoint(
                DatagramRecorder, local_addr=("127.0.0.1", 1), sock=sock
            )
        with pytest.raises(ValueError, match=r"\(family=2, reuse_port=True\)$") as caught:
            await loop.create_datagram_endpoint(
                DatagramRecorder,
                family=int(socket.AF_INET),
                reuse_port=True,
                sock=sock,
                **({"reuse_address": False} if sys.version_info < (3, 11) else {}),  # type: ignore
            )
        del caught


async def test_a_stream_socket(loop: Loop) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock,
        pytest.raises(
            ValueError, match=r"A (datagram socket|UDP Socket) was expected, got <socket"
        ),
    ):
        await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "unexpected address family"),
        ({"local_addr": ()}, ValueError, "unexpected address family"),
        ({"family": socket.AF_UNIX, "local_addr": b"x"}, TypeError, "string is expected"),
        ({"family": socket.AF_UNIX, "remote_addr": ("h", 1)}, TypeError, "string is expected"),
    ],
)
async def test_arguments_that_make_no_sense(
    loop: Loop, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await loop.create_datagram_endpoint(DatagramRecorder, **arguments)


@pytest.mark.parametrize("address", ["127.0.0.1:80", ("127.0.0.1",), ("127.0.0.1", 1, 0, 0)])
async def test_an_address_that_is_no_pair(loop: Loop, address: Any) -> None:
    error = TypeError if sys.version_info >= (3, 11) else AssertionError
    with pytest.raises(error, match="2-tuple is expected"):
        await loop.create_datagram_endpoint(DatagramRecorder, local_addr=address)


@needs_ipv6
async def test_addresses_of_different_families(loop: Loop) -> None:
    with pytest.raises(ValueError, match="can not get address information"):
        await loop.create_datagram_endpoint(
            DatagramRecorder, local_addr=("127.0.0.1", 0), remote_addr=("::1", 9)
        )


@needs_ipv6
async def test_ipv6(loop: Loop) -> None:
    async with endpoint(DatagramRecorder(), local_addr=("::1", 0)) as (transport, protocol):
        name = transport.get_extra_info("sockname")
        assert name[::2] == ("::1", 0)
        with bound(socket.AF_INET6) as peer:
            peer.sendto(b"ping", name)
            await protocol.until_received(1)
            assert protocol.datagrams == [(b"ping", peer.getsockname())]
            port = peer.getsockname()[1]
            for address in (("::1", port), ("::1", port, 0), ("::1", port, 0, 0)):
                transport.sendto(b"pong", address)
                assert peer.recvfrom(10) == (b"pong", name)


async def test_a_port_that_is_taken(loop: Loop) -> None:
    with bound() as other, pytest.raises(OSError) as caught:
        await loop.create_datagram_endpoint(DatagramRecorder, local_addr=other.getsockname())
    assert caught.value.errno == errno.EADDRINUSE
    del caught
    gc.collect()  # stock asyncio's frames


async def test_reuse_port(loop: Loop) -> None:
    async with endpoint(DatagramRecorder(), local_addr=("127.0.0.1", 0), reuse_port=True) as (
        first,
        _,
    ):
        name = first.get_extra_info("sockname")
        async with endpoint(DatagramRecorder(), local_addr=name, reuse_port=True) as (second, _):
            assert second.get_extra_info("sockname") == name


async def test_broadcast_does_not_connect(loop: Loop) -> None:
    with bound() as peer:
        remote = peer.getsockname()
        async with endpoint(DatagramRecorder(), remote_addr=remote, allow_broadcast=True) as (
            transport,
            protocol,
        ):
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
            assert transport.get_extra_info("peername") is None
            transport.sendto(b"x")
            data, sender = peer.recvfrom(10)
            assert data == b"x"
            with pytest.raises(ValueError, match=r"Invalid address: must be None or \('127"):
                transport.sendto(b"x", ("127.0.0.1", 1))
            # Not connected: others are heard.
            with bound() as other:
                other.sendto(b"hello", ("127.0.0.1", sender[1]))
                await protocol.until_received(1)
                assert protocol.datagrams == [(b"hello", other.getsockname())]


async def test_unix_path(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    async with endpoint(DatagramRecorder(), family=socket.AF_UNIX, local_addr=path) as (
        transport,
        protocol,
    ):
        assert transport.get_extra_info("sockname") == path
        with at_path(tmp_path / "peer") as peer:
            peer.sendto(b"ping", path)
            await protocol.until_received(1)
            assert protocol.datagrams == [(b"ping", str(tmp_path / "peer"))]
            transport.sendto(b"pong", protocol.datagrams[0][1])
            assert peer.recvfrom(10) == (b"pong", path)
    assert os.path.exists(path), "asyncio leaves it there"


@pytest.mark.parametrize("dead", [True, False])
async def test_unix_path_that_was_left(loop: Loop, tmp_path: Path, dead: bool) -> None:
    other = at_path(tmp_path / "socket")
    if dead:
        other.close()
    path = str(tmp_path / "socket")
    with other:
        async with endpoint(DatagramRecorder(), family=socket.AF_UNIX, local_addr=path) as (
            transport,
            _,
        ):
            assert transport.get_extra_info("sockname") == path


async def test_unix_path_of_something_else(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError) as caught:
        await loop.create_datagram_endpoint(
            DatagramRecorder, family=socket.AF_UNIX, local_addr=str(path)
        )
    assert caught.value.errno == errno.EADDRINUSE
    del caught
    gc.collect()
    assert path.read_text() == "precious"


async def test_unix_path_that_cannot_be_looked_at(
    loop: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file" / "below")
    with pytest.raises(NotADirectoryError):
        await loop.create_datagram_endpoint(
            DatagramRecorder, family=socket.AF_UNIX, local_addr=path
        )
    gc.collect()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage().startswith(
        f"Unable to check or remove stale UNIX socket {path!r}: NotADirectoryError("
    )


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
async def test_unix_abstract_name(loop: Loop) -> None:
    name = f"\0oxlip-test-{uuid.uuid4()}"
    async with endpoint(DatagramRecorder(), family=socket.AF_UNIX, local_addr=name) as (
        transport,
        protocol,
    ):
        assert transport.get_extra_info("sockname") == name.encode()
        async with endpoint(DatagramRecorder(), family=socket.AF_UNIX, remote_addr=name) as (
            other,
            _,
        ):
            other.sendto(b"who is it?")
            await protocol.until_received(1)
            assert protocol.datagrams == [(b"who is it?", None)]
        named = f"{name}-2"
        async with endpoint(
            DatagramRecorder(), family=socket.AF_UNIX, local_addr=named, remote_addr=name
        ) as (other, answers):
            other.sendto(b"me")
            await protocol.until_received(2)
            assert protocol.datagrams[1] == (b"me", named.encode())
            transport.sendto(b"hello", named.encode())
            await answers.until_received(1)
            assert answers.datagrams == [(b"hello", name.encode())]


async def test_a_factory_that_raises(loop: Loop) -> None:
    def factory() -> asyncio.DatagramProtocol:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await loop.create_datagram_endpoint(factory, local_addr=("127.0.0.1", 0))


async def test_cancelled_before_it_begins(loop: Loop) -> None:
    protocol = DatagramRecorder()

    def factory() -> DatagramRecorder:
        creating.cancel()
        return protocol

    creating = loop.create_task(loop.create_datagram_endpoint(factory, local_addr=("127.0.0.1", 0)))
    await asyncio.wait([creating])
    assert creating.cancelled()
    await protocol.until_lost()
    assert protocol.calls == ["connection_made", "connection_lost"]


@pytest.mark.parametrize("local", [True, False])
async def test_debug_mode_tells(loop: Loop, local: bool, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    with bound() as peer, caplog.at_level(logging.DEBUG, "asyncio"):
        arguments: dict[str, Any] = {"remote_addr": peer.getsockname()}
        if local:
            arguments["local_addr"] = ("127.0.0.1", 0)
        async with endpoint(DatagramRecorder(), **arguments) as (transport, protocol):
            (record,) = [r for r in caplog.records if "Datagram endpoint" in r.getMessage()]
            expected = "Datagram endpoint "
            if local:
                expected += "local_addr=('127.0.0.1', 0) "
            expected += f"remote_addr={peer.getsockname()!r} created: ({transport!r}, {protocol!r})"
            assert record.getMessage() == expected
            assert record.levelno == (logging.INFO if local else logging.DEBUG)


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="the argument is gone since 3.11")
async def test_reuse_address(loop: Loop) -> None:
    arguments: dict[str, Any] = {"local_addr": ("127.0.0.1", 0)}
    with pytest.raises(ValueError, match="no longer supported"):
        await loop.create_datagram_endpoint(DatagramRecorder, reuse_address=True, **arguments)  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match=r"\*reuse_address\* parameter"):
        async with endpoint(DatagramRecorder(), reuse_address=False, **arguments):
            pass
