"""A program: one server and very many connections, opened, cancelled and reset at random.

    connections.py KIND --connections N [--tls] [--seed N]

When the first hundredth of them is gone it counts what there is, and again when all are. It exits
with an error if then anything is left: a descriptor, a task, a native object or Python's own.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from storm import PATIENCE, Storm, Tagged, judged
from support import leaks, tls

AT_ONCE = 40
# A port that a connection has used is not free at once: several addresses have more of them.
ADDRESSES = [f"127.0.0.{n}" for n in range(1, 9)]
# A number of objects that a leak of one for each connection would exceed at once.
SOME = 100


class Guest(asyncio.Protocol):
    """The server's side: sends back what comes, or has enough of it at any moment."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.dice = house.storm.dice

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.house.guests.add(self)
        self.house.storm.count["served"] += 1
        self.have_enough()

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.have_enough()

    def have_enough(self) -> None:
        match self.dice.randrange(12):
            case 0:
                self.transport.abort()
            case 1:
                self.transport.close()
            case 2:
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    def connection_lost(self, error: Exception | None) -> None:
        self.house.guests.remove(self)  # an error if it is told twice


class House:
    """The server, and the ways to call on it."""

    def __init__(self, storm: Storm, *, encrypted: bool) -> None:
        self.storm = storm
        self.port = storm.port
        self.guests: set[Guest] = set()
        self.secure: dict[str, Any] = {}
        self.accepting: ssl.SSLContext | None = None
        self.ways = [self.with_transport, self.with_streams, self.with_socket, self.with_knock]
        if encrypted:
            storm.ticks = 30  # shaking hands takes longer than connecting
            self.secure = {"ssl": tls.client_context(), "server_hostname": tls.HOST}
            self.accepting = tls.server_context()
            self.ways = [self.with_transport, self.with_streams, self.with_knock]

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(
            lambda: Guest(self), "0.0.0.0", self.port, backlog=1000, ssl=self.accepting
        )

    def address(self) -> tuple[str, int]:
        return self.storm.dice.choice(ADDRESSES), self.port

    async def with_transport(self) -> None:
        tag = self.storm.tag()
        loop = asyncio.get_running_loop()
        _, end = await loop.create_connection(
            lambda: Tagged(self.storm, tag, tag), *self.address(), **self.secure
        )
        try:
            for _ in range(self.storm.dice.randrange(8)):
                await asyncio.sleep(0)
        finally:
            self.storm.dice.choice((end.transport.close, end.transport.abort))()
        await asyncio.shield(end.lost)  # cancelled, it would look as if it had been told

    async def with_streams(self) -> None:
        tag = self.storm.tag()
        reader, writer = await asyncio.open_connection(*self.address(), **self.secure)
        try:
            writer.write(self.storm.words(tag))
            await writer.drain()
            self.storm.check(await reader.read(1000), tag)
            if self.storm.dice.random() < 0.5:
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def with_socket(self) -> None:
        tag = self.storm.tag()
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, self.address())
            await loop.sock_sendall(sock, self.storm.words(tag))
            self.storm.check(await loop.sock_recv(sock, 1000), tag)
        finally:
            self.storm.end(sock)

    async def with_knock(self) -> None:
        """Gone before anybody opens."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(self.address())
        self.storm.end(sock)

    async def receive(self, connections: int) -> None:
        """Keeps a number of visitors going at once, until so many more have been served."""
        wanted = self.storm.count["served"] + connections

        async def visit() -> None:
            while self.storm.count["served"] < wanted:
                way: Callable[[], Coroutine[Any, Any, None]] = self.storm.dice.choice(self.ways)
                self.storm.count["begun"] += 1
                await self.storm.disturbed(way())

        await asyncio.gather(*(visit() for _ in range(AT_ONCE)))

    async def settle(self) -> None:
        """Until everybody has gone; those that nobody sees off are shown the door."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while self.guests or len(asyncio.all_tasks()) > 1:
            for guest in list(self.guests):
                guest.transport.abort()
            assert loop.time() < deadline, (self.guests, asyncio.all_tasks())
            await asyncio.sleep(0.01)
        for _ in range(20):
            await asyncio.sleep(0)

    async def close(self) -> None:
        self.server.close()
        await asyncio.wait_for(self.server.wait_closed(), PATIENCE)
        await self.settle()


def python_objects() -> Counter[str]:
    """How many objects the collector knows, by type."""
    return Counter(f"{type(it).__module__}.{type(it).__qualname__}" for it in gc.get_objects())


def run(loop: asyncio.AbstractEventLoop, house: House, connections: int) -> list[str]:
    """What is left of so many connections; the loop rests while it is counted."""

    async def receive(connections: int) -> None:
        await house.receive(connections)
        await house.settle()

    loop.run_until_complete(house.open())
    loop.run_until_complete(receive(max(connections // 100, AT_ONCE)))
    before, objects = leaks.take(), python_objects()
    loop.run_until_complete(receive(connections))
    problems = [f"{line}, while the loop is there" for line in leaks.grown(before, leaks.take())]
    for name, count in (python_objects() - objects).items():
        if count > SOME:
            problems.append(f"{count} more {name}")
    loop.run_until_complete(house.close())
    return problems


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faulthandler.dump_traceback_later(1700, exit=True)
    judged(
        options.kind,
        Storm(options.seed),
        lambda loop, storm: run(loop, House(storm, encrypted=options.tls), options.connections),
    )


if __name__ == "__main__":
    main()
