"""Several writes of one handle may be sent together, which nobody may notice."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from support.loops import is_ours
from support.protocols import Recorder, connection
from support.sockets import connected
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
NewLoop = Callable[[], Loop]


class Line:
    """A connection of a loop that does not run, and its far end."""

    def __init__(self, loop: Loop) -> None:
        near, self.far = connected()
        self.far.settimeout(2)
        connecting = loop.create_connection(Recorder, sock=near)
        self.transport, self.protocol = loop.run_until_complete(connecting)

    def write_apart(self) -> None:
        for piece in (b"one ", b"two ", b"three"):
            self.transport.write(piece)

    def received(self) -> bytes:
        """What the far end has: the loop does not run meanwhile, so it must have been sent."""
        data = bytearray()
        try:
            while len(data) < len(b"one two three"):
                data += self.far.recv(100)
        except TimeoutError:
            data += b" and no more"
        return bytes(data)


@pytest.fixture
def line(loop: Loop) -> Iterator[Line]:
    line = Line(loop)
    with line.far:
        yield line
        if not loop.is_closed():
            line.transport.abort()
            loop.run_until_complete(line.protocol.until_lost())


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_writes_of_a_handle_that_ends_the_run_are_sent(
    loop: Loop, line: Line, error: type[BaseException]
) -> None:
    def write_and_leave() -> None:
        line.write_apart()
        raise error

    loop.call_soon(write_and_leave)
    with pytest.raises(error):
        loop.run_forever()
    assert line.received() == b"one two three"


def test_writes_of_a_handle_that_stops_the_loop_are_sent(loop: Loop, line: Line) -> None:
    def write_and_stop() -> None:
        line.write_apart()
        loop.stop()

    loop.call_soon(write_and_stop)
    loop.run_forever()
    assert line.received() == b"one two three"


def test_writes_while_no_loop_runs_are_sent(line: Line) -> None:
    line.write_apart()
    assert line.received() == b"one two three"


def test_writes_while_another_loop_runs_are_sent(new_loop: NewLoop, line: Line) -> None:
    async def write() -> None:
        line.write_apart()

    new_loop().run_until_complete(write())
    assert line.received() == b"one two three"


async def test_writes_do_not_pause_a_protocol_whose_socket_takes_them(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=0)
        transport.write(b"a")
        transport.write(b"b")
        transport.writelines([b"c", b"d"])
        transport.write(b"e")
        assert await peer.exactly(5) == b"abcde"
        assert protocol.calls == ["connection_made"]


async def test_writes_and_close_are_told_in_the_order_of_asyncio(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=0)
        transport.write(b"a")
        transport.write(b"b")
        protocol.note("written")
        transport.close()
        loop.call_soon(protocol.note, "after close")
        await pause(3)
        assert protocol.calls == ["connection_made", "written", "connection_lost", "after close"]
        assert await peer.to_end() == b"ab"


async def test_held_writes_and_close_are_told_in_the_order_of_asyncio(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):

        def write_and_close() -> None:
            transport.write(b"a")
            transport.write(b"b")
            transport.close()
            loop.call_soon(protocol.note, "after close")

        loop.call_soon(write_and_close)
        loop.call_soon(int)  # something is left to run, for which the writes wait
        await pause(3)
        assert protocol.calls == ["connection_made", "connection_lost", "after close"]
        assert await peer.to_end() == b"ab"


async def test_writes_then_abort_are_told_in_the_order_of_asyncio(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write(b"a")
        transport.write(b"b")
        transport.abort()
        loop.call_soon(protocol.note, "after abort")
        await pause(3)
        assert protocol.calls == ["connection_made", "connection_lost", "after abort"]
        assert await peer.to_end() == b"ab", "the socket had taken them before abort()"


async def test_writes_then_end_are_sent_in_order(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        transport.write(b"a")
        transport.write(b"b")
        transport.write_eof()
        assert await peer.to_end() == b"ab"


async def test_sent_writes_are_not_counted_as_waiting(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, _):
        transport.write(b"a")
        transport.write(b"b")
        assert transport.get_write_buffer_size() == 0


def at_once(far: socket.socket) -> int:
    """How many bytes the far end has, without a tick of the loop."""
    far.settimeout(2)
    try:
        return len(far.recv(1 << 20))
    except TimeoutError:
        return 0


async def test_much_does_not_wait_for_the_end_of_the_tick(loop: Loop) -> None:
    received = []
    async with connection(Recorder()) as (transport, _, peer):
        transport.set_write_buffer_limits(high=1 << 20)

        def write_and_look() -> None:
            transport.write(b"x" * 20_000)
            transport.write(b"x" * 20_000)
            received.append(at_once(peer.sock))

        loop.call_soon(write_and_look)
        loop.call_soon(int)  # something is left to run
        await pause(2)
        assert received[0] > 0


async def test_writes_do_not_wait_for_slow_handles(loop: Loop) -> None:
    received = []
    async with connection(Recorder()) as (transport, _, peer):
        for _ in range(2):
            loop.call_soon(transport.write, b"first ")
        loop.call_soon(time.sleep, 0.002)
        loop.call_soon(lambda: received.append(at_once(peer.sock)))
        await pause(2)
        assert received[0] > 0


async def test_writes_do_not_wait_in_a_loop_that_was_blocked(loop: Loop) -> None:
    received = []
    async with connection(Recorder()) as (transport, _, peer):

        def write() -> None:
            transport.write(b"a")
            transport.write(b"b")

        def write_and_look() -> None:
            peer.sock.settimeout(2)
            while peer.sock.recv(100)[-1:] != b"b":
                pass
            loop.call_soon(int)
            transport.write(b"c")
            received.append(at_once(peer.sock))

        loop.call_soon(write)
        loop.call_soon(time.sleep, 0.02)
        loop.call_soon(loop.call_soon, write_and_look)
        loop.call_soon(loop.call_soon, int)
        await pause(3)
        assert received[0] > 0


async def test_one_handle_with_two_writes_does_not_make_all_others_wait(loop: Loop) -> None:
    """Who writes once in each handle is sent at once again, from the second such handle on."""
    async with connection(Recorder()) as (transport, _, peer):
        for pieces in (2, 1):
            for _ in range(pieces):
                transport.write(b"x")
            await pause(2)
            assert at_once(peer.sock) == pieces
        for _ in range(3):
            transport.write(b"x")
            # The handle that writes still runs.
            assert at_once(peer.sock) == 1
            await pause(2)


class Asking(Recorder):
    """Does in the next tick what the test wants, when something arrives."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self.then = then

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_soon(self.then)


@contextlib.asynccontextmanager
async def asking(then: Callable[[], object], count: int) -> AsyncIterator[Callable[[], None]]:
    """So many connections that ask, all of them when the function is called."""
    async with contextlib.AsyncExitStack() as stack:
        peers = []
        for number in range(count):
            # One of them is enough to do it.
            protocol = Asking(then if number == 0 else int)
            _, _, peer = await stack.enter_async_context(connection(protocol))
            peers.append(peer)

        def ask() -> None:
            for peer in peers:
                peer.sock.send(b"?")

        yield ask


def is_readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


@pytest.mark.parametrize("askers", [1, 2])
async def test_writes_wait_for_answers_to_what_their_tick_has_received(
    loop: Loop, kind: str, askers: int
) -> None:
    """That is for speed alone, and nothing is won with a single answer."""
    held = []
    async with connection(Recorder()) as (transport, _, peer):

        def look() -> None:
            held.append(not is_readable(peer.sock))

        async with asking(look, askers) as ask:
            loop.call_soon(transport.write, b"a")
            ask()
            await pause(3)
            assert held == [is_ours(kind) and askers > 1]
            assert await peer.exactly(1) == b"a"


async def test_writes_do_not_wait_while_others_go_on_receiving(loop: Loop) -> None:
    ticks = 0
    arrived = False
    async with connection(Recorder()) as (transport, _, peer):

        def go_on() -> None:
            nonlocal ticks
            ticks += 1
            if not arrived and not is_readable(peer.sock) and ticks < 1000:
                ask()
                time.sleep(0.0002)

        async with asking(go_on, 2) as ask:
            loop.call_soon(transport.write, b"a")
            ask()
            assert await peer.exactly(1) == b"a"
            # The peer is closed soon: nobody looks at it any more.
            arrived = True
            assert ticks < 100


async def test_answers_do_not_wait_for_work_that_follows_each_of_them(loop: Loop) -> None:
    """Acknowledge, then work in a callback of its own: too short to block, too long to wait for."""
    late = 0

    class Worker(Recorder):
        far: socket.socket

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)
            self.transport.write(data)
            loop.call_soon(self.work)

        def work(self) -> None:
            nonlocal late
            until = time.perf_counter() + 0.002
            while time.perf_counter() < until:
                pass
            late += not is_readable(self.far)

    workers = [Worker(), Worker()]
    async with connection(workers[0]) as (_, _, one), connection(workers[1]) as (_, _, two):
        for worker, peer in zip(workers, (one, two), strict=True):
            worker.far = peer.sock
        for _ in range(20):
            for worker in workers:
                worker.far.send(b"?")
            await pause(4)
            for peer in (one, two):
                assert await peer.exactly(2) == b"??"
        # The first ones, and those for which the loop has become trusting again.
        assert late <= 10


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, None])
def test_writes_that_waited_for_a_tick_that_ends_the_run_are_sent(
    loop: Loop, line: Line, error: type[BaseException] | None
) -> None:
    def leave() -> None:
        if error is not None:
            raise error
        loop.stop()

    stack = contextlib.AsyncExitStack()
    ask = loop.run_until_complete(stack.enter_async_context(asking(leave, 2)))
    loop.call_soon(line.write_apart)
    ask()
    with pytest.raises(error) if error is not None else contextlib.nullcontext():
        loop.run_forever()
    assert line.received() == b"one two three"
    loop.run_until_complete(stack.aclose())
