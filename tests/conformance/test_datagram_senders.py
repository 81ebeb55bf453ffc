"""Datagram transports: who has sent what, and answers to them."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.datagrams import DatagramRecorder, at_path, bound, endpoint
from support.sockets import loopback

Loop = asyncio.AbstractEventLoop

# More than are remembered.
MANY = 300
FEW_AT_ONCE = 50


class Answering(DatagramRecorder):
    """Sends each datagram back to the address it was given, or to an equal one."""

    def __init__(self, *, equal: bool) -> None:
        super().__init__()
        self.equal = equal

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data, (*addr,) if self.equal else addr)


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_answers_to_many(loop: Loop, family: int, equal: bool) -> None:
    protocol = Answering(equal=equal)
    with ExitStack() as stack:
        peers = [stack.enter_context(bound(family)) for _ in range(MANY)]
        names = [peer.getsockname() for peer in peers]
        async with endpoint(protocol, local_addr=(loopback(family), 0)) as (transport, _):
            address = transport.get_extra_info("sockname")
            count = 0
            for _ in range(2):
                for first in range(0, MANY, FEW_AT_ONCE):
                    some = range(first, first + FEW_AT_ONCE)
                    for i in some:
                        peers[i].sendto(b"%d" % i, address)
                    count += FEW_AT_ONCE
                    await protocol.until_received(count)
                    for i in some:
                        assert peers[i].recvfrom(100) == (b"%d" % i, address)
    assert len(protocol.datagrams) == 2 * MANY
    assert all(addr == names[int(data)] for data, addr in protocol.datagrams)


async def test_an_answer_to_who_is_not_the_latest(loop: Loop) -> None:
    protocol = DatagramRecorder()
    with bound() as one, bound() as other:
        async with endpoint(protocol) as (transport, _):
            for peer, count in ((one, 1), (other, 2)):
                peer.sendto(b"?", transport.get_extra_info("sockname"))
                await protocol.until_received(count)
            for number, (_, addr) in enumerate(protocol.datagrams):
                transport.sendto(b"%d" % number, addr)
            for number, peer in enumerate((one, other)):
                assert peer.recv(100) == b"%d" % number


async def test_a_sender_without_a_name_among_others(loop: Loop, tmp_path: Path) -> None:
    protocol = DatagramRecorder()
    path = str(tmp_path / "here")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless,
        at_path(tmp_path / "first") as first,
        at_path(tmp_path / "second") as second,
    ):
        peers = [nameless, first, second]
        async with endpoint(protocol, local_addr=path, family=socket.AF_UNIX):
            for number, peer in enumerate([*peers, *peers]):
                peer.sendto(b"%d" % number, path)
                await protocol.until_received(number + 1)
    shown = [addr or None for _, addr in protocol.datagrams]
    assert shown == 2 * [None, str(tmp_path / "first"), str(tmp_path / "second")]
