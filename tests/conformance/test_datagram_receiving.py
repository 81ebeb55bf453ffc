"""Datagram transports: what arrives, and errors."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import itertools
import sys
from typing import Any

import pytest
from support.datagrams import DatagramRecorder, bound, endpoint
from support.ticks import pause

Loop = asyncio.AbstractEventLoop


async def barrier(transport: Any, protocol: DatagramRecorder, count: int) -> None:
    """Waits until `count` datagrams have come, and a few ticks more."""
    await protocol.until_received(count)
    await pause(5)


async def test_in_order(loop: Loop) -> None:
    sent = [b"%d" % i for i in range(100)]
    async with endpoint(DatagramRecorder()) as (transport, protocol):
        with bound() as peer, bound() as other:
            for i, data in enumerate(sent):
                (peer, other)[i % 2].sendto(data, transport.get_extra_info("sockname"))
            await protocol.until_received(100)
            names = [peer.getsockname(), other.getsockname()]
            assert protocol.datagrams == [(data, names[i % 2]) for i, data in enumerate(sent)]


async def test_nobody_there(loop: Loop) -> None:
    with bound() as peer:
        address = peer.getsockname()
    protocol = DatagramRecorder()
    async with endpoint(protocol, remote_addr=address) as (transport, _):
        transport.sendto(b"x")
        await protocol.until_called("error_received")
        (error,) = protocol.errors
        assert isinstance(error, ConnectionRefusedError)
        assert error.errno == errno.ECONNREFUSED
        assert not transport.is_closing()
        # It may come again.
        transport.sendto(b"x")
        await protocol.until_called("error_received", 2)


async def test_a_refusal_is_told_by_the_next_send(loop: Loop) -> None:
    with bound() as peer:
        address = peer.getsockname()
    protocol = DatagramRecorder()
    async with endpoint(protocol, remote_addr=address) as (transport, _):
        transport.sendto(b"x")
        transport.sendto(b"x")
        assert [type(error) for error in protocol.errors] == [ConnectionRefusedError]


async def test_an_exception_is_reported_and_the_next_comes(
    loop: Loop, contexts: list[dict[str, Any]]
) -> None:
    class Raising(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            raise ValueError(data)

    async with endpoint(Raising()) as (transport, protocol):
        with bound() as peer:
            for data in (b"a", b"b", b"c"):
                peer.sendto(data, transport.get_extra_info("sockname"))
            await barrier(transport, protocol, 3)
    assert [context["exception"].args for context in contexts] == [(b"a",), (b"b",), (b"c",)]
    for context in contexts:
        assert context["message"].startswith("Exception in callback ")
        assert isinstance(context["handle"], asyncio.Handle)
    contexts.clear()


def test_keyboard_interrupt(loop: Loop) -> None:
    class Interrupted(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"5":
                raise KeyboardInterrupt

    protocol = Interrupted()
    transport, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(lambda: protocol, local_addr=("127.0.0.1", 0))
    )
    with bound() as peer:
        for i in range(20):
            peer.sendto(b"%d" % i, transport.get_extra_info("sockname"))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(protocol.until_received(20))
        assert len(protocol.datagrams) == 6
        loop.run_until_complete(protocol.until_received(20))
    assert protocol.data == [b"%d" % i for i in range(20)]
    transport.close()
    loop.run_until_complete(protocol.until_lost())


async def test_runs_in_the_context_of_its_making(loop: Loop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen = []

    class Looking(DatagramRecorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            seen.append(variable.get())
            super().connection_made(transport)

        def datagram_received(self, data: bytes, addr: Any) -> None:
            seen.append(variable.get())
            super().datagram_received(data, addr)

    variable.set("maker's")
    async with endpoint(Looking()) as (transport, protocol):
        variable.set("later")
        with bound() as peer:
            peer.sendto(b"x", transport.get_extra_info("sockname"))
            await protocol.until_received(1)
    assert seen == ["maker's", "maker's"]


@pytest.mark.parametrize("method", ["close", "abort"])
async def test_nothing_comes_after_the_end(loop: Loop, method: str) -> None:
    class Ending(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"3":
                getattr(self.transport, method)()

    protocol = Ending()
    async with endpoint(protocol) as (transport, _):
        with bound() as peer:
            for i in range(50):
                peer.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            await protocol.until_lost()
    assert protocol.data == [b"0", b"1", b"2", b"3"]
    assert protocol.calls[-1] == "connection_lost"
    assert protocol.error is None


async def test_another_protocol_gets_the_next(loop: Loop) -> None:
    second = DatagramRecorder()

    class Handing(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"3":
                self.transport.set_protocol(second)

    first = Handing()
    async with endpoint(first) as (transport, _):
        with bound() as peer:
            for i in range(10):
                peer.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            await second.until_received(6)
        assert transport.get_protocol() is second
        transport.set_protocol(first)
    assert first.data == [b"0", b"1", b"2", b"3"]
    assert second.data == [b"%d" % i for i in range(4, 10)]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's has it since 3.11")
async def test_pause_and_resume(loop: Loop) -> None:
    class Pausing(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.datagrams) % 3 == 0:
                self.transport.pause_reading()

    protocol = Pausing()
    async with endpoint(protocol) as (transport, _):
        assert transport.is_reading()
        with bound() as peer:
            for i in range(20):
                peer.sendto(b"%d" % i, transport.get_extra_info("sockname"))
            for count in (3, 6, 9):
                await barrier(transport, protocol, count)
                assert len(protocol.datagrams) == count
                assert not transport.is_reading()
                transport.pause_reading()
                transport.resume_reading()
                transport.resume_reading()
                assert transport.is_reading()
            transport.resume_reading()
            while len(protocol.datagrams) < 20:
                await pause()
                transport.resume_reading()
    assert protocol.data == [b"%d" % i for i in range(20)]


async def test_others_have_their_turn(loop: Loop) -> None:
    """A flood is handed over in parts, and callbacks run in between."""
    counts: list[int] = []

    class Counting(DatagramRecorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            loop.call_soon(lambda: counts.append(len(self.datagrams)))

    async with endpoint(Counting()) as (transport, protocol):
        with bound() as peer:
            for _ in range(150):
                peer.sendto(b"x", transport.get_extra_info("sockname"))
            await barrier(transport, protocol, 150)
    gaps = [later - earlier for earlier, later in itertools.pairwise(counts)]
    assert max([counts[0], *gaps]) <= 32
