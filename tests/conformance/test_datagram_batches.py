"""`datagrams_received`: beyond asyncio, a whole batch in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import oxlip
import pytest
from support.datagrams import DatagramRecorder, bound, endpoint
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
Batch = list[tuple[bytes, Any]]


class BatchRecorder(DatagramRecorder, oxlip.BatchDatagramProtocol):
    """Keeps the batches and what was in them."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Batch] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        oxlip.BatchDatagramProtocol.datagram_received(self, data, addr)

    def datagrams_received(self, datagrams: Batch) -> None:
        assert type(datagrams) is list
        self.batches.append(datagrams)
        self.datagrams += datagrams
        self.note("datagrams_received")


class Counter(DatagramRecorder):
    """An ordinary protocol, with an attribute of that name."""

    def __init__(self) -> None:
        super().__init__()
        self.datagrams_received = 0

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.datagrams_received += 1
        super().datagram_received(data, addr)


@contextmanager
def senders(transport: Any, count: int = 1) -> Iterator[tuple[Any, list[Any]]]:
    """A function that sends from the sockets in turn, and their names."""
    socks = [bound() for _ in range(count)]
    name = transport.get_extra_info("sockname")

    def send(first: int, end: int) -> None:
        for i in range(first, end):
            socks[i % count].sendto(b"%d" % i, name)

    try:
        yield send, [sock.getsockname() for sock in socks]
    finally:
        for sock in socks:
            sock.close()


async def test_every_loop_gives_all_in_order(loop: Loop) -> None:
    async with endpoint(BatchRecorder()) as (transport, protocol):
        with senders(transport, 3) as (send, names):
            send(0, 150)
            await protocol.until_received(150)
            assert protocol.datagrams == [(b"%d" % i, names[i % 3]) for i in range(150)]


@pytest.mark.ours
async def test_a_flood_comes_in_batches(loop: Loop) -> None:
    async with endpoint(BatchRecorder()) as (transport, protocol):
        with senders(transport) as (send, _):
            send(0, 150)
            await protocol.until_received(150)
            sizes = [len(batch) for batch in protocol.batches]
            assert max(sizes) == 32
            assert len(sizes) < 12, sizes
            await pause(3)
            for i in range(10):
                send(i, i + 1)
                await protocol.until_received(151 + i)
            assert [len(batch) for batch in protocol.batches[-10:]] == [1] * 10


@pytest.mark.ours
async def test_a_burst_shows_its_sender_once(loop: Loop) -> None:
    async with endpoint(BatchRecorder()) as (transport, protocol):
        with senders(transport) as (flood, _), senders(transport) as (send, names):
            flood(0, 150)
            await protocol.until_received(150)
            send(0, 20)
            await protocol.until_received(170)
            shown = [addr for _, addr in protocol.datagrams[150:]]
            assert shown == 20 * names
            assert all(addr is shown[0] for addr in shown)


@pytest.mark.ours
async def test_any_protocol_with_the_method(loop: Loop) -> None:
    class Plain(DatagramRecorder):
        def datagrams_received(self, datagrams: Batch) -> None:
            self.datagrams += datagrams
            self.note("datagrams_received")

    second = DatagramRecorder()
    async with endpoint(Plain()) as (transport, protocol):
        with senders(transport) as (send, _):
            send(0, 5)
            await protocol.until_received(5)
            assert "datagram_received" not in protocol.calls
            transport.set_protocol(second)
            send(5, 8)
            assert await second.until_received(3) == [b"5", b"6", b"7"]
            transport.set_protocol(protocol)
            send(8, 10)
            await protocol.until_received(7)
            assert "datagram_received" not in protocol.calls


async def test_an_exception_is_reported(loop: Loop, contexts: list[dict[str, Any]]) -> None:
    class Raising(BatchRecorder):
        def datagrams_received(self, datagrams: Batch) -> None:
            super().datagrams_received(datagrams)
            raise ZeroDivisionError

    async with endpoint(Raising()) as (transport, protocol):
        with senders(transport) as (send, _):
            send(0, 20)
            await protocol.until_received(20)
            await pause(2)
            assert len(contexts) == len(protocol.batches)
            assert all(isinstance(it["exception"], ZeroDivisionError) for it in contexts)
            contexts.clear()


@pytest.mark.parametrize("method", ["close", "abort"])
async def test_end_within_a_batch(loop: Loop, method: str) -> None:
    class Ending(BatchRecorder):
        def datagrams_received(self, datagrams: Batch) -> None:
            super().datagrams_received(datagrams)
            getattr(self.transport, method)()

    protocol = Ending()
    async with endpoint(protocol) as (transport, _):
        with senders(transport) as (send, _):
            send(0, 100)
            await protocol.until_lost()
            assert len(protocol.batches) == 1
            assert protocol.calls[-2:] == ["datagrams_received", "connection_lost"]


@pytest.mark.ours
async def test_pause_within_a_batch_that_was_taken(loop: Loop) -> None:
    """What the transport has already taken from the system waits in it."""

    class Pausing(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"10":
                self.transport.pause_reading()

    protocol = Pausing()
    async with endpoint(protocol) as (transport, _):
        with senders(transport) as (send, _):
            send(0, 40)
            await protocol.until_received(11)
            await pause(3)
            assert len(protocol.datagrams) == 11
            batches = BatchRecorder()
            transport.set_protocol(batches)
            await pause(3)
            assert batches.batches == []
            transport.resume_reading()
            await batches.until_received(29)
            assert protocol.data + batches.data == [b"%d" % i for i in range(40)]
            transport.set_protocol(protocol)


async def test_errors_come_as_ever(loop: Loop) -> None:
    with bound() as peer:
        address = peer.getsockname()
    protocol = BatchRecorder()
    async with endpoint(protocol, remote_addr=address) as (transport, _):
        transport.sendto(b"x")
        await protocol.until_called("error_received")
        assert isinstance(protocol.errors[0], ConnectionRefusedError)


def test_the_class_is_a_datagram_protocol() -> None:
    assert issubclass(oxlip.BatchDatagramProtocol, asyncio.DatagramProtocol)
    oxlip.BatchDatagramProtocol().datagrams_received([])


def test_the_simulation_has_no_datagrams() -> None:
    loop = oxlip.EventLoop(driver="sim")
    try:
        with pytest.raises(ValueError, match="another world"):
            loop.run_until_complete(
                loop.create_datagram_endpoint(DatagramRecorder, local_addr=("127.0.0.1", 0))
            )
    finally:
        loop.close()


async def test_a_counter_is_no_method(loop: Loop) -> None:
    async with endpoint(Counter()) as (transport, protocol):
        with senders(transport) as (send, _):
            send(0, 3)
            await protocol.until_received(3)
        assert protocol.datagrams_received == 3


async def test_a_mock_gets_what_asyncio_calls(loop: Loop) -> None:
    received = loop.create_future()
    protocol = mock.Mock()
    protocol.datagram_received.side_effect = lambda data, addr: received.set_result(data)
    transport, _ = await loop.create_datagram_endpoint(lambda: protocol, ("127.0.0.1", 0))
    with senders(transport) as (send, _):
        send(7, 8)
        assert await asyncio.wait_for(received, 10) == b"7"
    transport.close()
    protocol.datagrams_received.assert_not_called()
