"""Datagrams that a sender has left to the kernel to cut (`UDP_SEGMENT`), as QUIC stacks do.

Loopback carries such a message whole to a socket that has `UDP_GRO` set: one that our loops have
made for an endpoint, once more than one datagram was asked for at a time, or one on which the
program has set it. No protocol may notice.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import sys
from typing import Any

import oxlip
import pytest
from support.datagrams import DatagramRecorder, bound, endpoint
from support.loops import is_ours
from support.ticks import pause

Loop = asyncio.AbstractEventLoop

UDP_SEGMENT = 103
UDP_GRO = 104


def kernel_joins() -> bool:
    with bound() as sock:
        try:
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        except OSError:
            return False
        return True


pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not kernel_joins(), reason="this kernel joins no datagrams"
)


class BatchRecorder(DatagramRecorder, oxlip.BatchDatagramProtocol):
    """Keeps the sizes of the batches, too."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        oxlip.BatchDatagramProtocol.datagram_received(self, data, addr)

    def datagrams_received(self, datagrams: list[tuple[bytes, Any]]) -> None:
        self.batches.append(len(datagrams))
        self.datagrams += datagrams
        self.note("datagrams_received")


def send_cut(sock: socket.socket, name: Any, data: bytes, part: int) -> list[bytes]:
    """Sends the data as one message for the kernel to cut; what is to arrive."""
    control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", part))]
    assert sock.sendmsg([data], control, 0, name) == len(data)
    return [data[at : at + part] for at in range(0, len(data), part)]


def is_joined(sock: Any) -> bool:
    return bool(sock.getsockopt(socket.IPPROTO_UDP, UDP_GRO))


async def warm(kind: str, transport: Any, protocol: DatagramRecorder, peer: socket.socket) -> Any:
    """Lets the endpoint see some datagrams, so that it is joined what comes then; its name."""
    name = transport.get_extra_info("sockname")
    for count in range(1, 4):
        peer.sendto(b"warm", name)
        await protocol.until_received(count)
    protocol.datagrams.clear()
    assert is_joined(transport.get_extra_info("socket")) == is_ours(kind)
    return name


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_all_come_apart_in_order(loop: Loop, kind: str, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        peer = bound(family)
    except OSError:
        pytest.skip("no IPv6 here")
    with peer:
        async with endpoint(DatagramRecorder(), local_addr=(host, 0)) as (transport, protocol):
            name = await warm(kind, transport, protocol, peer)
            for length, part in (
                (1000, 100),
                (1030, 100),
                (101, 100),
                (64, 1),
                (64_000, 1400),
                (60_000, 30_000),
                (100, 100),
                (0, 100),
            ):
                sent = send_cut(peer, name, os.urandom(length), part) or [b""]
                await protocol.until_received(len(sent))
                expected = [(data, peer.getsockname()) for data in sent]
                assert protocol.datagrams == expected, (length, part)
                protocol.datagrams.clear()
            await pause(3)
            assert protocol.datagrams == []


async def test_beside_others(loop: Loop, kind: str) -> None:
    """Joined, single, empty and largest ones, from two senders."""
    with bound() as peer, bound() as other:
        async with endpoint(DatagramRecorder()) as (transport, protocol):
            name = await warm(kind, transport, protocol, peer)
            expected = []
            for data in (b"", b"x", os.urandom(65507), b"yy", b""):
                peer.sendto(data, name)
                expected.append((data, peer.getsockname()))
                for part in send_cut(other, name, os.urandom(55), 10):
                    expected.append((part, other.getsockname()))
            await protocol.until_received(len(expected))
            assert protocol.datagrams == expected


async def test_a_connected_endpoint(loop: Loop, kind: str) -> None:
    with bound() as peer:
        protocol = DatagramRecorder()
        async with endpoint(protocol, remote_addr=peer.getsockname()) as (transport, _):
            name = await warm(kind, transport, protocol, peer)
            sent = send_cut(peer, name, os.urandom(950), 100)
            assert await protocol.until_received(10) == sent
            peer.close()
            transport.sendto(b"x")
            await protocol.until_called("error_received")
            (error,) = protocol.errors
            assert isinstance(error, ConnectionRefusedError)
            assert error.errno == errno.ECONNREFUSED


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's has it since 3.11")
async def test_pause_in_the_middle(loop: Loop, kind: str) -> None:
    class Pausing(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.datagrams) % 7 == 0:
                self.transport.pause_reading()

    protocol = Pausing()
    with bound() as peer:
        async with endpoint(protocol) as (transport, _):
            name = await warm(kind, transport, protocol, peer)
            sent = send_cut(peer, name, os.urandom(300), 10)
            for count in (7, 14, 21, 28):
                await protocol.until_received(count)
                await pause(3)
                assert len(protocol.datagrams) == count
                transport.resume_reading()
            assert await protocol.until_received(30) == sent


@pytest.mark.parametrize("method", ["close", "abort"])
async def test_end_in_the_middle(loop: Loop, kind: str, method: str) -> None:
    class Ending(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.datagrams) == 7:
                getattr(self.transport, method)()

    protocol = Ending()
    with bound() as peer:
        async with endpoint(protocol) as (transport, _):
            name = await warm(kind, transport, protocol, peer)
            sent = send_cut(peer, name, os.urandom(300), 10)
            await protocol.until_lost()
            await pause(3)
            assert protocol.data == sent[:7]
            assert protocol.error is None
            assert protocol.calls[-1] == "connection_lost"


async def test_another_protocol_in_the_middle(loop: Loop, kind: str) -> None:
    second = DatagramRecorder()

    class Yielding(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.datagrams) == 7:
                self.transport.set_protocol(second)

    protocol = Yielding()
    with bound() as peer:
        async with endpoint(protocol) as (transport, _):
            name = await warm(kind, transport, protocol, peer)
            sent = send_cut(peer, name, os.urandom(300), 10)
            assert await second.until_received(23) == sent[7:]
            assert protocol.data == sent[:7]
            transport.set_protocol(protocol)


@pytest.mark.ours
async def test_a_joined_message_is_one_batch(loop: Loop, kind: str) -> None:
    with bound() as peer:
        async with endpoint(BatchRecorder()) as (transport, protocol):
            name = await warm(kind, transport, protocol, peer)
            del protocol.batches[:]
            sent = send_cut(peer, name, os.urandom(640), 10)
            assert await protocol.until_received(64) == sent
            assert protocol.batches == [64]


@pytest.mark.ours
async def test_a_flood_of_joined_messages(loop: Loop, kind: str) -> None:
    """Fewer messages are taken at a time, so that others still have their turn."""
    with bound() as peer:
        async with endpoint(BatchRecorder()) as (transport, protocol):
            name = await warm(kind, transport, protocol, peer)
            del protocol.batches[:]
            sent = []
            for _ in range(20):
                sent += send_cut(peer, name, os.urandom(640), 10)
            assert await protocol.until_received(len(sent)) == sent
            assert protocol.batches[2:] == [64] * (len(protocol.batches) - 2)
            assert max(protocol.batches) <= 4 * 64


async def test_who_has_the_descriptor_afterwards(loop: Loop, kind: str) -> None:
    """A duplicate receives as if no endpoint had ever had the socket."""
    with bound() as peer:
        protocol = DatagramRecorder()
        async with endpoint(protocol) as (transport, _):
            name = await warm(kind, transport, protocol, peer)
            with transport.get_extra_info("socket").dup() as twin:
                transport.close()
                await protocol.until_lost()
                assert not is_joined(twin)
                sent = send_cut(peer, name, os.urandom(95), 10)
                twin.settimeout(10)
                assert [twin.recv(1000) for _ in sent] == sent


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio pauses since 3.11")
async def test_a_socket_that_others_have(loop: Loop) -> None:
    """The program and other processes may receive from it, too: all get single datagrams."""
    own = bound()
    with bound() as peer, own.dup() as twin:
        protocol = DatagramRecorder()
        async with endpoint(protocol, sock=own) as (transport, _):
            name = transport.get_extra_info("sockname")
            for count in range(1, 100):
                peer.sendto(b"warm", name)
                if count % 33 == 0:
                    await protocol.until_received(count)
            assert not is_joined(twin)
            transport.pause_reading()
            sent = send_cut(peer, name, os.urandom(95), 10)
            assert [twin.recv(1000) for _ in sent] == sent
            transport.resume_reading()
            sent = send_cut(peer, name, os.urandom(95), 10)
            await protocol.until_received(99 + len(sent))
            assert protocol.data[99:] == sent


@pytest.mark.ours
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_closing_the_loop_under_it(loop: Loop, kind: str) -> None:
    protocol = DatagramRecorder()

    async def receive() -> Any:
        transport, _ = await loop.create_datagram_endpoint(
            lambda: protocol, local_addr=("127.0.0.1", 0)
        )
        with bound() as peer:
            await warm(kind, transport, protocol, peer)
        return transport.get_extra_info("socket").dup()

    with loop.run_until_complete(receive()) as twin:
        loop.close()
        assert not is_joined(twin)


@pytest.mark.ours
async def test_what_the_program_has_set(loop: Loop) -> None:
    """It stays set, and protocols get datagrams all the same; asyncio's would get them joined."""
    with bound() as peer:
        own = bound()
        own.setblocking(False)
        own.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        protocol = DatagramRecorder()
        async with endpoint(protocol, sock=own) as (transport, _):
            name = transport.get_extra_info("sockname")
            sent = send_cut(peer, name, os.urandom(95), 10)
            assert await protocol.until_received(10) == sent
            with transport.get_extra_info("socket").dup() as twin:
                transport.close()
                await protocol.until_lost()
                assert is_joined(twin)


@pytest.mark.ours
async def test_a_quiet_endpoint_is_left_alone(loop: Loop) -> None:
    """One that never has more than one datagram costs no system call for this."""
    with bound() as peer:
        async with endpoint(DatagramRecorder()) as (transport, protocol):
            peer.sendto(b"x", transport.get_extra_info("sockname"))
            await protocol.until_received(1)
            assert not is_joined(transport.get_extra_info("socket"))
