"""A program: storms of operations that are cancelled at random, on connections with tagged bytes.

    storm.py KIND SCENE --seed N --rounds N

It exits with an error when a byte arrives on a connection that it was not sent on, when a
descriptor or a native object is left, or when the loop's exception handler is called.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import random
import socket
import ssl
import struct
import sys
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from support import leaks, loops, sockets

WORD = struct.Struct("!I")
AT_ONCE = 12
TICKS = 6
PATIENCE = 20.0


class CrossDelivery(Exception):
    """Bytes of one connection arrived on another."""


class Storm:
    """What the scenes share: the dice, the counters, and the tags."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.count: Counter[str] = Counter()
        self.tags = 0
        self.ticks = TICKS
        self.port = sockets.unused_port()

    def tag(self) -> bytes:
        """Four bytes that no other connection has."""
        self.tags += 1
        return WORD.pack(self.tags)

    def address(self) -> tuple[str, int]:
        """Where to listen: each listener at an address of its own, all at one port.

        A connection that has ended keeps its pair of addresses for a minute, and storms end more
        in a minute than the system has ports to give out. What they keep must therefore differ in
        the listener's address, and leave alone the ports that are given out.
        """
        if sys.platform != "linux":  # elsewhere 127.0.0.1 is the only one of its network
            return "127.0.0.1", 0
        return f"127.{'.'.join(str(self.dice.randrange(1, 255)) for _ in range(3))}", self.port

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """The two ends of a connection, non-blocking; the first is the accepted one."""
        with socket.create_server(self.address()) as listener:
            client = socket.create_connection(listener.getsockname(), 10)
            accepted, _ = listener.accept()
        client.setblocking(False)
        accepted.setblocking(False)
        return accepted, client

    def words(self, tag: bytes) -> bytes:
        """A message: its tag, some number of times."""
        return tag * self.dice.choice((1, 2, 50, 3000))

    def check(self, data: bytes | bytearray, tag: bytes) -> None:
        """Whether every whole word is the tag."""
        self.count["bytes"] += len(data)
        whole = len(data) - len(data) % len(tag)
        if bytes(data[:whole]) != tag * (whole // len(tag)):
            raise CrossDelivery(f"expected {tag!r} only, got {bytes(data[:64])!r} …")

    async def disturbed(self, operation: Awaitable[Any]) -> None:
        """Runs an operation, and cancels it after a random number of ticks or not at all."""
        task = asyncio.ensure_future(operation)
        try:
            for _ in range(self.dice.randrange(self.ticks)):
                await asyncio.sleep(0)
            if self.dice.random() < 0.7:
                task.cancel()
            await asyncio.wait_for(task, PATIENCE)
            self.count["completed"] += 1
        except asyncio.CancelledError:  # of the operation, or of whoever waits for it
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.count["cancelled"] += 1
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            self.count["failed"] += 1

    def end(self, sock: socket.socket) -> None:
        """Closes it, now and then with a reset, so that its number is free at once."""
        if self.dice.random() < 0.3:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


async def sock_methods(storm: Storm) -> None:
    """sock_recv, sock_recv_into and sock_sendall on pairs that are closed in mid-operation."""
    loop = asyncio.get_running_loop()
    near, far = storm.pair()
    out, back = storm.tag(), storm.tag()

    async def receive(sock: socket.socket, tag: bytes) -> None:
        received = bytearray()
        while data := await loop.sock_recv(sock, storm.dice.choice((4, 100, 65536))):
            received += data
            storm.check(received, tag)

    async def receive_into(sock: socket.socket, tag: bytes) -> None:
        received = bytearray()
        buffer = bytearray(1000)
        while size := await loop.sock_recv_into(sock, buffer):
            received += buffer[:size]
            storm.check(received, tag)

    operations = [
        loop.sock_sendall(near, storm.words(out)),
        storm.dice.choice((receive, receive_into))(far, out),
        loop.sock_sendall(far, storm.words(back)),
        storm.dice.choice((receive, receive_into))(near, back),
    ]
    tasks = [asyncio.ensure_future(storm.disturbed(operation)) for operation in operations]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    storm.end(near)
    storm.end(far)


class Tagged(asyncio.Protocol):
    """Sends its tag and expects only the other side's."""

    def __init__(self, storm: Storm, tag: bytes, expected: bytes) -> None:
        self.storm = storm
        self.tag = tag
        self.expected = expected
        self.received = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.storm.words(self.tag))

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.storm.check(self.received, self.expected)
        match self.storm.dice.randrange(8):
            case 0:
                self.transport.close()
            case 1:
                self.transport.abort()
            case 2:
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)
            case _:
                self.transport.write(self.storm.words(self.tag))

    def connection_lost(self, error: Exception | None) -> None:
        assert not self.lost.done(), "connection_lost twice"
        self.lost.set_result(None)


async def transports(storm: Storm) -> None:
    """Two transports that write to each other until one has had enough."""
    loop = asyncio.get_running_loop()
    near, far = storm.pair()
    out, back = storm.tag(), storm.tag()
    ends = [(near, Tagged(storm, out, back)), (far, Tagged(storm, back, out))]
    await asyncio.gather(
        *(
            storm.disturbed(loop.create_connection(lambda end=end: end, sock=sock))  # type: ignore[misc]
            for sock, end in ends
        )
    )
    for _ in range(storm.dice.randrange(10)):
        await asyncio.sleep(0)
    for sock, end in ends:
        if hasattr(end, "transport"):
            storm.dice.choice((end.transport.close, end.transport.abort))()
            await asyncio.wait_for(end.lost, PATIENCE)
        else:
            sock.close()  # cancelled before there was a transport


async def streams(storm: Storm) -> None:
    """A server and clients over streams, each side cancelled at any of its awaits."""
    tags: dict[bytes, bytes] = {}
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def conversation() -> None:
            hello = await reader.readexactly(4)
            writer.write(storm.words(tags[hello]))
            await writer.drain()
            received = bytearray(hello)
            while data := await reader.read(1000):
                received += data
                storm.check(received, hello)

        serving.add(asyncio.current_task())
        try:
            await storm.disturbed(conversation())
        finally:
            writer.transport.abort()

    async def client() -> None:
        mine, theirs = storm.tag(), storm.tag()
        tags[mine] = theirs
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(storm.words(mine))
            await writer.drain()
            storm.check(await reader.read(1000), theirs)
        finally:
            storm.dice.choice((writer.close, writer.transport.abort))()

    server = await asyncio.start_server(serve, *storm.address())
    address = server.sockets[0].getsockname()
    await asyncio.gather(*(storm.disturbed(client()) for _ in range(4)))
    server.close()
    for _ in range(3):  # those that were accepted last get their task
        await asyncio.sleep(0)
    await asyncio.gather(*filter(None, serving))


async def readers(storm: Storm) -> None:
    """add_reader on numbers that are closed and reused while their hint is on its way."""
    loop = asyncio.get_running_loop()
    near, far = storm.pair()
    tag = storm.tag()
    far.send(tag)
    reached = loop.create_future()

    def readable() -> None:
        storm.check(near.recv(100), tag)
        loop.remove_reader(near)
        if not reached.done():
            reached.set_result(None)

    loop.add_reader(near, readable)
    loop.add_writer(near, int)
    await storm.disturbed(reached)
    loop.remove_reader(near)
    loop.remove_writer(near)
    storm.end(near)
    storm.end(far)


async def connects(storm: Storm) -> None:
    """sock_accept, sock_connect and create_connection, cancelled on their way."""
    loop = asyncio.get_running_loop()
    with socket.create_server(storm.address(), backlog=4) as listener:
        listener.setblocking(False)
        address = listener.getsockname()

        async def accept() -> None:
            while True:
                accepted, _ = await loop.sock_accept(listener)
                with accepted:
                    hello = await loop.sock_recv(accepted, 4)
                    await loop.sock_sendall(accepted, hello * 10)

        async def converse(sock: socket.socket) -> None:
            tag = storm.tag()
            await loop.sock_sendall(sock, tag)
            received = bytearray()
            while data := await loop.sock_recv(sock, 100):
                received += data
                storm.check(received, tag)

        async def connect() -> None:
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
                await converse(sock)

        async def connect_transport() -> None:
            tag = storm.tag()
            _, end = await loop.create_connection(lambda: Tagged(storm, tag, tag), *address)
            try:
                await asyncio.shield(end.lost)
            finally:
                end.transport.abort()

        accepting = asyncio.ensure_future(storm.disturbed(accept()))
        # Whoever is in the queue then is reset.
        accepting.add_done_callback(lambda _: listener.close())
        await asyncio.gather(
            storm.disturbed(connect()),
            storm.disturbed(connect()),
            storm.disturbed(connect_transport()),
        )
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)


Scene = Callable[[Storm], Awaitable[None]]
SCENES: dict[str, Scene] = {
    scene.__name__: scene for scene in (sock_methods, transports, streams, readers, connects)
}


async def run(storm: Storm, scene: Scene, rounds: int) -> None:
    """Keeps a number of scenes going at once, until so many have been played."""

    async def play() -> None:
        nonlocal rounds
        while rounds > 0:
            rounds -= 1
            await scene(storm)

    await asyncio.gather(*(play() for _ in range(AT_ONCE)))


def weather(loop: asyncio.AbstractEventLoop, storm: Storm, scene: Scene, rounds: int) -> list[str]:
    """Plays the scene, and lets the loop finish what has ended."""
    loop.run_until_complete(run(storm, scene, rounds))
    for _ in range(10):
        loop.run_until_complete(asyncio.sleep(0))
    return []


Play = Callable[[asyncio.AbstractEventLoop, Storm], list[str]]


def judged(kind: str, storm: Storm, play: Play) -> None:
    """Plays on a new loop, and exits with everything that went wrong or was left behind."""
    warnings.simplefilter("error")
    before = leaks.take()
    problems: list[str] = []
    untold: list[str] = []

    def report(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        is_untold = context["message"] == "Future exception was never retrieved"
        is_reset = isinstance(context.get("exception"), ConnectionError)
        (untold if is_untold and is_reset else problems).append(str(context))

    sys.unraisablehook = lambda problem: problems.append(f"{problem.exc_value!r}")
    loop = loops.factory(kind)()
    loop.set_exception_handler(report)
    try:
        problems += play(loop, storm)
    finally:
        loop.close()
    del loop
    print(dict(storm.count))
    problems += leaks.grown(before, leaks.take())
    # A StreamReaderProtocol that is collected asks its future how the connection has ended, so that
    # nobody complains. Once in a while the collector comes to the future first.
    problems += untold[1:]
    if problems:
        sys.exit("\n".join([f"{len(problems)} problems, such as", *problems[:20]]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    faulthandler.dump_traceback_later(750, exit=True)
    scene = SCENES[options.scene]
    judged(
        options.kind,
        Storm(options.seed),
        lambda loop, storm: weather(loop, storm, scene, options.rounds),
    )


if __name__ == "__main__":
    main()
