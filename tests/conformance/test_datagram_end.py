"""Datagram transports: close and abort."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import weakref
from typing import Any

import pytest
from support.datagrams import DatagramRecorder, bound, endpoint
from support.ticks import pause, turn

Loop = asyncio.AbstractEventLoop


async def test_close(loop: Loop) -> None:
    protocol = DatagramRecorder()
    async with endpoint(protocol) as (transport, _):
        assert not transport.is_closing()
        transport.close()
        assert transport.is_closing()
        assert protocol.calls == ["connection_made"], "not within the call"
        await pause()
        assert protocol.calls == ["connection_made", "connection_lost"]
        assert protocol.error is None
        transport.close()
        transport.abort()
        await pause(3)
        assert protocol.calls.count("connection_lost") == 1


async def test_the_socket_of_a_closed_transport(loop: Loop) -> None:
    async with endpoint(DatagramRecorder()) as (transport, protocol):
        transport.close()
        await protocol.until_lost()
        await pause()
        sock = transport.get_extra_info("socket")
        assert (sock.fileno(), sock.type) == (-1, socket.SOCK_DGRAM)


async def test_close_in_connection_made(loop: Loop) -> None:
    class Closing(DatagramRecorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            transport.close()

    async with endpoint(Closing()) as (_, protocol):
        await protocol.until_lost()


async def test_sending_after_the_end_is_warned_about(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    with bound() as peer:
        protocol = DatagramRecorder()
        name = peer.getsockname()
        async with endpoint(protocol, remote_addr=name) as (transport, _):
            transport.close()
            for _ in range(4):
                transport.sendto(b"x")
            assert not caplog.records
            await protocol.until_lost()
            transport.sendto(b"x")
            transport.sendto(b"x")
            assert [record.getMessage() for record in caplog.records] == [
                "socket.send() raised exception.",
                "socket.send() raised exception.",
            ]
            assert all(record.levelno == logging.WARNING for record in caplog.records)
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(10)


def test_closing_the_loop_under_it(loop: Loop) -> None:
    protocol = DatagramRecorder()
    transport, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(iter([protocol]).__next__, local_addr=("127.0.0.1", 0))
    )
    reference = weakref.ref(transport)
    with pytest.warns(ResourceWarning, match="unclosed") as caught:
        loop.close()
        del transport, _, protocol
        gc.collect()
    # A warning refers to the transport, and weak references outlive that since 3.15.
    caught.clear()
    gc.collect()
    assert reference() is None


def test_cycles_are_collected(loop: Loop) -> None:
    class Holding(DatagramRecorder):
        transport: Any

    protocol = Holding()
    transport, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(iter([protocol]).__next__, local_addr=("127.0.0.1", 0))
    )
    protocol.extra = transport  # type: ignore[attr-defined]
    transport.close()
    turn(loop, 3)
    assert protocol.calls[-1] == "connection_lost"
    references = weakref.ref(transport), weakref.ref(protocol)
    del transport, protocol, _
    gc.collect()
    assert [reference() for reference in references] == [None, None]
