"""A program: a server that runs out of descriptors, backs off, and recovers.

    accept_limit.py KIND

It exits with an error unless the server reports it, sleeps instead of spinning, accepts the waiting
connection once a descriptor is free, and serves the next one at once.
"""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import os
import resource
import socket
import sys
import time
from typing import Any

from support import loops
from support.sleeping import Nap

LIMIT = 64
PATIENCE = 10.0


class Greeter(asyncio.Protocol):
    """Says hello."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")


def take_all() -> list[int]:
    """Every descriptor that the process may still have."""
    taken: list[int] = []
    while True:
        try:
            taken.append(os.dup(0))
        except OSError as error:
            assert error.errno == errno.EMFILE
            return taken


async def greeted(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    assert await asyncio.wait_for(loop.sock_recv(client, 5), PATIENCE) == b"hello"


async def main(contexts: list[dict[str, Any]]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Greeter, "127.0.0.1", 0, backlog=1)
    address = server.sockets[0].getsockname()
    clients = [socket.socket() for _ in range(3)]
    for client in clients:
        client.setblocking(False)

    await loop.sock_connect(clients[0], address)
    await greeted(clients[0])

    taken = take_all()
    await loop.sock_connect(clients[1], address)  # the kernel accepts it, the server cannot
    while not contexts:
        await asyncio.sleep(0.001)
    error = contexts[0]["exception"]
    assert isinstance(error, OSError) and error.errno == errno.EMFILE, error
    assert contexts[0]["message"] == "socket.accept() out of system resource"
    assert contexts[0]["socket"].getsockname() == address

    nap = Nap()
    await asyncio.sleep(0.3)
    slept = nap.slept()
    assert slept > 0.2, f"slept for {slept:.3f} s of 0.3 s"
    assert len(contexts) <= 3, f"{len(contexts)} reports within 0.3 s"

    for descriptor in taken:
        os.close(descriptor)
    await greeted(clients[1])
    reports = len(contexts)

    start = time.monotonic()
    await loop.sock_connect(clients[2], address)
    await greeted(clients[2])
    assert time.monotonic() - start < 0.9, "it accepts without a pause again"
    assert len(contexts) == reports

    for client in clients:
        client.close()
    server.close()
    await asyncio.wait_for(server.wait_closed(), PATIENCE)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(25, exit=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    found: list[dict[str, Any]] = []
    event_loop = loops.factory(sys.argv[1])()
    event_loop.set_exception_handler(lambda _, context: found.append(context))
    try:
        event_loop.run_until_complete(main(found))
    finally:
        event_loop.close()
    print("recovered")
