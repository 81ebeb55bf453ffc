"""Datagram transports: what they show of themselves."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest
from support.datagrams import DatagramRecorder, endpoint

Loop = asyncio.AbstractEventLoop


async def test_kinds(loop: Loop) -> None:
    async with endpoint(DatagramRecorder()) as (transport, protocol):
        assert isinstance(transport, asyncio.BaseTransport)
        assert isinstance(transport, asyncio.Transport)
        if sys.version_info >= (3, 12):
            assert isinstance(transport, asyncio.DatagramTransport)
        assert transport.get_protocol() is protocol
        assert transport.get_extra_info("nothing") is None
        assert transport.get_extra_info("nothing", 5) == 5
        sock = transport.get_extra_info("socket")
        assert type(sock) is asyncio.trsock.TransportSocket
        assert sock.type == socket.SOCK_DGRAM
        assert sock.family == socket.AF_INET
        assert sock.getsockname() == transport.get_extra_info("sockname")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10000)
        with pytest.raises(NotImplementedError):
            transport.write(b"x")


async def test_repr(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with endpoint(protocol) as (transport, _):
        fd = transport.get_extra_info("socket").fileno()
        name = type(transport).__name__
        assert repr(transport) == f"<{name} fd={fd} read=polling write=<idle, bufsize=0>>"
        transport.close()
        closing = f"<{name} closing fd={fd} read=idle write=<idle, bufsize=0>>"
        assert repr(transport) == closing
        await protocol.until_lost()
        assert repr(transport) == f"<{name} closed fd={fd}>"


async def test_the_descriptor_is_protected(loop: Loop) -> None:
    async with endpoint(DatagramRecorder()) as (transport, _):
        fd = transport.get_extra_info("socket").fileno()
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(fd, print)


@pytest.mark.skipif(sys.platform != "linux", reason="a family of Linux")
async def test_a_family_of_its_own(loop: Loop) -> None:
    """The addresses of netlink are known to Python's sockets only. (uvloop#676)"""
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0)
        sock.bind((0, 0))
    except OSError:
        pytest.skip("no netlink here")
    # RTM_GETLINK with NLM_F_REQUEST | NLM_F_DUMP, to the kernel.
    request = (20).to_bytes(4, sys.byteorder) + (18).to_bytes(2, sys.byteorder)
    request += (0x301).to_bytes(2, sys.byteorder) + bytes(12)
    async with endpoint(DatagramRecorder(), sock=sock) as (transport, protocol):
        transport.sendto(request, (0, 0))
        await protocol.until_received(1)
        data, sender = protocol.datagrams[0]
        assert len(data) > 20
        assert sender == (0, 0)
