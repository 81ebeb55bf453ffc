"""A program: a server that is closed while it waits for descriptors, and loops that cannot be made.

closing_while_limited.py KIND
"""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import os
import resource
import socket
import sys
from typing import Any

from faults.accept_limit import Greeter, take_all
from support import leaks, loops

LIMIT = 64


async def main(contexts: list[dict[str, Any]]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Greeter, "127.0.0.1", 0, backlog=1)
    with socket.socket() as client:
        client.setblocking(False)
        taken = take_all()
        await loop.sock_connect(client, server.sockets[0].getsockname())
        while not contexts:
            await asyncio.sleep(0.001)
        server.close()
        for descriptor in taken:
            os.close(descriptor)
        time = loop.time
        loop.time = lambda: time() + 1.2  # type: ignore[method-assign]  # when it would try again
        for _ in range(5):
            await asyncio.sleep(0)
    # asyncio 3.14 accepts once more than the backlog, and comes to grief in vain each time.
    assert len(contexts) <= 4, contexts


def refused(kind: str) -> None:
    """A loop that cannot get its descriptors raises OSError and leaves none behind."""
    before = leaks.take()
    taken = take_all()
    for spare in range(4):
        try:
            loops.factory(kind)().close()
        except OSError as error:
            assert error.errno in (errno.EMFILE, errno.ENFILE), error
        else:
            assert spare > 0, "it cannot have been made without a descriptor"
        os.close(taken.pop())
    for descriptor in taken:
        os.close(descriptor)
    left = leaks.grown(before, leaks.take())
    assert not left, left


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
    refused(sys.argv[1])
    print("closed")
