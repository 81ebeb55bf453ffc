"""Signals whose handlers raise while the loop sends what is to leave, and waits.

Nothing that has arrived or was written is lost, doubled or sent elsewhere, and the loop runs on.
The handlers raise only from where the loop waits: in the middle of a callback the exception would
be the program's own loss, on every loop.
"""

from __future__ import annotations

import asyncio
import ctypes
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import FrameType
from typing import Any

import pytest
from support import loops
from support.protocols import Calls, Echo, Recorder, connection
from support.sockets import PATIENCE, connected

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")

Loop = asyncio.AbstractEventLoop

CONNECTIONS = 16
ROUNDS = 150

# Sends this process a signal without any instruction of Python's, at which the interpreter would
# look for it: the loop is on its way into the wait when the signal is there.
signal_natively = ctypes.CDLL(None)["raise"]


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    yield
    for number, action in before.items():
        signal.signal(number, action)


@pytest.fixture(params=["the loop's", "the program's"])
def wakeup(request: pytest.FixtureRequest) -> Iterator[None]:
    """Who is woken by signals: with a descriptor of the program's, the loop has none."""
    with ExitStack() as stack:
        if request.param == "the program's":
            _, writing = map(stack.enter_context, socket.socketpair())
            writing.setblocking(False)
            stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writing.fileno()))
        yield


class Later(Echo):
    """Answers in the next tick."""

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_soon(self.transport.write, data)


class FromTasks(Echo):
    """Answers from a task for each message."""

    def data_received(self, data: bytes) -> None:
        async def answer() -> None:
            self.transport.write(data[:1])
            await asyncio.sleep(0)
            self.transport.write(data[1:])

        previous = self.__dict__.setdefault("tasks", set())
        task = asyncio.ensure_future(answer())
        previous.add(task)
        task.add_done_callback(previous.discard)


class Peers(threading.Thread):
    """Clients that ask all at once, check every answer, and interrupt the main thread meanwhile."""

    def __init__(self, sockets: list[socket.socket], done: Callable[[], object]) -> None:
        super().__init__()
        self.sockets, self.done = sockets, done
        self.dice = random.Random(1)
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for turn in range(ROUNDS):
                self.turn(turn)
        except BaseException as error:
            self.error = error
        finally:
            self.done()

    def turn(self, turn: int) -> None:
        when = self.dice.sample(range(2 * CONNECTIONS), 2)
        for at, sock in enumerate(self.sockets):
            if at in when:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            sock.sendall(question(at, turn))
        for at, sock in enumerate(self.sockets):
            if CONNECTIONS + at in when:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            heard = b""
            while len(heard) < len(question(at, turn)):
                data = sock.recv(65536)
                assert data, "the end"
                heard += data
            assert heard == question(at, turn)


def question(at: int, turn: int) -> bytes:
    return f"{at}.{turn};".encode() * (1 + (at * 7 + turn) % 40)


def waits(kind: str, frame: FrameType | None) -> bool:
    """Whether the loop is where it waits, and runs no callback."""
    assert frame is not None
    if kind == loops.STOCK:
        return frame.f_code.co_name == "select"
    return frame.f_code.co_name == "run_forever"


@pytest.mark.parametrize("answering", [Echo, Later, FromTasks])
def test_no_answer_is_lost_or_doubled(loop: Loop, kind: str, answering: type[Echo]) -> None:
    interrupted = 0

    def interrupt(_number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if running and waits(kind, frame):
            interrupted += 1
            raise KeyboardInterrupt

    running = False
    signal.signal(signal.SIGINT, interrupt)
    pairs = [connected() for _ in range(CONNECTIONS)]
    for near, _ in pairs:
        loop.run_until_complete(loop.connect_accepted_socket(answering, near))
    done = loop.create_future()
    peers = Peers(
        [far for _, far in pairs], lambda: loop.call_soon_threadsafe(done.set_result, None)
    )
    peers.start()
    running = True
    left = 0
    while not done.done():
        try:
            loop.run_until_complete(done)
        except KeyboardInterrupt:
            left += 1
    running = False
    peers.join()
    if peers.error:
        raise peers.error
    assert left == interrupted > 0
    for _, far in pairs:
        far.shutdown(socket.SHUT_WR)
    for _, far in pairs:
        assert loop.run_until_complete(asyncio.to_thread(far.recv, 1)) == b""
        far.close()
    loop.run_until_complete(loop.shutdown_default_executor())


class Answering(Calls, asyncio.Protocol):
    """Answers, and interrupts the loop natively behind the last of the connections."""

    def __init__(self, answered: list[bytes]) -> None:
        super().__init__()
        self.answered = answered

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.answered.append(data)
        if len(self.answered) % CONNECTIONS == 0:
            asyncio.get_running_loop().call_soon(signal_natively, signal.SIGINT)


def test_what_was_written_leaves_although_the_loop_is_interrupted(loop: Loop, wakeup: None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answered: list[bytes] = []
    pairs = [connected() for _ in range(CONNECTIONS)]
    transports = [
        loop.run_until_complete(loop.connect_accepted_socket(lambda: Answering(answered), near))[0]
        for near, _ in pairs
    ]
    for turn in range(3):
        for at, (_, far) in enumerate(pairs):
            far.sendall(question(at, turn))
        never: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(PATIENCE, never.set_result, None)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(never)
        timer.cancel()
        # The loop does not run.
        for at, (_, far) in enumerate(pairs):
            assert far.recv(65536) == question(at, turn)
    for transport in transports:
        transport.close()
    for _, far in pairs:
        assert loop.run_until_complete(asyncio.to_thread(far.recv, 1)) == b""
        far.close()
    loop.run_until_complete(loop.shutdown_default_executor())


async def test_a_signal_handler_can_write(loop: Loop, wakeup: None) -> None:
    async with connection(Recorder()) as (transport, _, peer):

        def write(_number: int, _frame: Any) -> None:
            transport.write(b"from the handler")

        signal.signal(signal.SIGUSR1, write)
        loop.call_soon(signal_natively, signal.SIGUSR1)
        assert await peer.exactly(16) == b"from the handler"
