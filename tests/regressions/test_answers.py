"""Answers may leave with the wait, which nobody may notice."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support.protocols import Recorder, connection
from support.sockets import connected

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]

SIZE = 10_000


class Answering(Recorder):
    """Answers each byte by many of it, and then does what the test wants."""

    def __init__(self, then: Callable[[asyncio.Transport], object] | None = None) -> None:
        super().__init__()
        self.then = then

    def data_received(self, data: bytes) -> None:
        for byte in data:
            self.transport.write(bytes([byte]) * SIZE)
        if self.then is not None:
            self.then(self.transport)
        super().data_received(data)


@pytest.fixture(autouse=True, params=[False, True], ids=["idle", "busy"])
def busy(request: pytest.FixtureRequest, loop: Loop) -> Iterator[None]:
    """In a busy loop each tick has one more handle, which a write may wait for."""
    timer: asyncio.TimerHandle | None = None

    def again() -> None:
        nonlocal timer
        timer = loop.call_later(0, again)

    if request.param:
        again()
    yield
    if timer is not None:
        timer.cancel()


@pytest.fixture
def numbers() -> bytes:
    return bytes(range(200))


async def test_answers_to_a_peer_that_reads_nothing_are_kept(loop: Loop, numbers: bytes) -> None:
    async with connection(Answering()) as (transport, protocol, peer):
        sent = 0
        while transport.get_write_buffer_size() == 0:
            for number in numbers:
                peer.send(bytes([number]))
                sent += 1
                await protocol.until_received(sent)
        assert "pause_writing" in protocol.calls
        expected = b"".join(bytes([number]) * SIZE for number in numbers) * (sent // len(numbers))
        assert await peer.exactly(len(expected)) == expected
        await protocol.until(lambda: "resume_writing" in protocol.calls)
        assert transport.get_write_buffer_size() == 0
        peer.send(b"x")
        assert await peer.exactly(SIZE) == b"x" * SIZE


async def test_an_answer_is_not_counted_as_waiting(loop: Loop) -> None:
    sizes = []
    async with connection(
        Answering(lambda transport: sizes.append(transport.get_write_buffer_size()))
    ) as (_, _, peer):
        peer.send(b"x")
        assert await peer.exactly(SIZE) == b"x" * SIZE
    assert sizes == [0]


async def test_an_answer_leaves_before_the_end(loop: Loop) -> None:
    async with connection(Answering(lambda transport: transport.write_eof())) as (_, _, peer):
        peer.send(b"x")
        assert await peer.to_end() == b"x" * SIZE


async def test_an_answer_leaves_before_the_close(loop: Loop) -> None:
    async with connection(Answering(lambda transport: transport.close())) as (_, protocol, peer):
        peer.send(b"x")
        assert await peer.to_end() == b"x" * SIZE
        await protocol.until_lost()
        assert protocol.error is None


async def test_an_answer_leaves_before_an_abort(loop: Loop) -> None:
    async with connection(Answering(lambda transport: transport.abort())) as (_, protocol, peer):
        peer.send(b"x")
        assert await peer.exactly(SIZE) == b"x" * SIZE
        await protocol.until_lost()


def test_an_answer_leaves_although_the_run_is_over(loop: Loop) -> None:
    near, far = connected()
    far.settimeout(5)
    with far:
        protocol = Answering(lambda _: loop.stop())
        loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
        far.sendall(b"x")
        loop.run_forever()
        received = b""
        while len(received) < SIZE:
            received += far.recv(SIZE)
        protocol.transport.abort()
        loop.run_until_complete(protocol.until_lost())


async def test_answers_do_not_wait_in_a_loop_that_was_blocked(loop: Loop) -> None:
    seen = []

    def block(_: asyncio.Transport) -> None:
        time.sleep(0.02)
        seen.append(len(peer.sock.recv(SIZE)) if len(seen) else None)

    async with connection(Answering(block)) as (_, protocol, peer):
        peer.send(b"x")
        await protocol.until_received(1)
        assert await peer.exactly(SIZE) == b"x" * SIZE
        peer.send(b"y")
        await protocol.until_received(2)
        assert seen[1], "the second answer was there before the handle was over"


async def test_an_answer_to_nobody_ends_the_connection(loop: Loop) -> None:
    async with connection(Answering()) as (transport, protocol, peer):
        while not transport.is_closing():
            peer.send(b"x" * 50)
            peer.sock.close()
            await protocol.until_lost()
    assert protocol.calls[-1] == "connection_lost"


def test_a_loop_at_rest_goes_on_in_another_thread(loop: Loop) -> None:
    near, far = connected()
    far.settimeout(5)
    with far:
        protocol = Answering()
        loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
        for at in range(1, 5):
            far.sendall(b"x")
            until = protocol.until_received(at)
            thread = threading.Thread(target=loop.run_until_complete, args=(until,))
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
            received = b""
            while len(received) < SIZE:
                received += far.recv(SIZE)
            assert received == b"x" * SIZE
        protocol.transport.abort()
        loop.run_until_complete(protocol.until_lost())
