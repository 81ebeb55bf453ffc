"""Datagram transports: what is sent."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from typing import Any

import pytest
from support.datagrams import DatagramRecorder, bound, endpoint

Loop = asyncio.AbstractEventLoop


@pytest.mark.parametrize("data", ["text", None, 7, [b"x"]])
async def test_wrong_data(loop: Loop, data: Any) -> None:
    async with endpoint(DatagramRecorder()) as (transport, _):
        name = type(data).__name__
        expected = f"data argument must be a bytes-like object, not '{name}'"
        with pytest.raises(TypeError, match=expected):
            transport.sendto(data, ("127.0.0.1", 9))


async def test_kinds_of_data(loop: Loop) -> None:
    with bound() as peer:
        async with endpoint(DatagramRecorder()) as (transport, _):
            for data in (b"bytes", bytearray(b"bytearray"), memoryview(b"xview")[1:]):
                transport.sendto(data, peer.getsockname())
                assert peer.recv(100) == data


async def test_another_address_than_the_remote(loop: Loop) -> None:
    with bound() as peer:
        name = peer.getsockname()
        async with endpoint(DatagramRecorder(), remote_addr=name) as (transport, _):
            for address in (("127.0.0.1", 1), "nonsense"):
                with pytest.raises(ValueError, match="Invalid address: must be None or"):
                    transport.sendto(b"x", address)


async def test_empty_datagrams(loop: Loop) -> None:
    with bound() as peer:
        async with endpoint(DatagramRecorder()) as (transport, protocol):
            transport.sendto(b"", peer.getsockname())
            transport.sendto(b"x", peer.getsockname())
            assert peer.recv(100) == (b"" if sys.version_info >= (3, 13) else b"x")
            peer.sendto(b"", transport.get_extra_info("sockname"))
            await protocol.until_received(1)
            assert protocol.datagrams == [(b"", peer.getsockname())]


async def test_the_largest_datagram(loop: Loop) -> None:
    data = os.urandom(65507)
    async with (
        endpoint(DatagramRecorder()) as (transport, _),
        endpoint(DatagramRecorder()) as (other, protocol),
    ):
        transport.sendto(data, other.get_extra_info("sockname"))
        assert await protocol.until_received(1) == [data]


async def test_too_large(loop: Loop) -> None:
    with bound() as peer:
        async with endpoint(DatagramRecorder()) as (transport, protocol):
            transport.sendto(bytes(70000), peer.getsockname())
            (error,) = protocol.errors
            assert isinstance(error, OSError)
            assert error.errno == errno.EMSGSIZE
            assert error.strerror == os.strerror(errno.EMSGSIZE)
            transport.sendto(b"goes on", peer.getsockname())
            assert peer.recv(100) == b"goes on"
            assert not transport.is_closing()


async def test_host_names(loop: Loop) -> None:
    with bound() as peer:
        async with endpoint(DatagramRecorder(), family=socket.AF_INET) as (transport, _):
            transport.sendto(b"x", ("localhost", peer.getsockname()[1]))
            assert peer.recv(10) == b"x"
            # inet_aton(3) takes it, and so do Python's sockets.
            transport.sendto(b"y", ("127.1", peer.getsockname()[1]))
            assert peer.recv(10) == b"y"


async def test_a_name_that_is_none(loop: Loop) -> None:
    async with endpoint(DatagramRecorder(), family=socket.AF_INET) as (transport, protocol):
        transport.sendto(b"x", ("256.256.256.256.", 9))
        (error,) = protocol.errors
        assert isinstance(error, socket.gaierror)


@pytest.mark.parametrize("address", [None, "127.0.0.1", ("127.0.0.1",), ("127.0.0.1", "x")])
async def test_nonsense_as_address(
    loop: Loop, address: Any, contexts: list[dict[str, Any]]
) -> None:
    protocol = DatagramRecorder()
    async with endpoint(protocol) as (transport, _):
        transport.sendto(b"x", address)
        assert transport.is_closing()
        await protocol.until_lost()
        assert isinstance(protocol.error, TypeError)
    (context,) = contexts
    assert context["message"] == "Fatal write error on datagram transport"
    assert context["exception"] is protocol.error
    assert context["transport"] is transport
    assert context["protocol"] is protocol
    contexts.clear()


async def test_a_port_out_of_range(loop: Loop, contexts: list[dict[str, Any]]) -> None:
    protocol = DatagramRecorder()
    async with endpoint(protocol) as (transport, _):
        transport.sendto(b"x", ("127.0.0.1", 70000))
        await protocol.until_lost()
        assert isinstance(protocol.error, OverflowError)
    contexts.clear()


async def test_error_received_that_raises(loop: Loop) -> None:
    class Raising(DatagramRecorder):
        def error_received(self, exc: Exception) -> None:
            raise ZeroDivisionError

    with bound() as peer:
        async with endpoint(Raising()) as (transport, _):
            with pytest.raises(ZeroDivisionError):
                transport.sendto(bytes(70000), peer.getsockname())
