"""A program: forks with an open loop, which the child closes, and uses it in the parent.

    fork_and_close.py KIND connection|server|wake-up|datagrams

It exits with an error unless the parent's loop still sees the bytes on its connection, the next
connection to its server, the call from another thread, or the datagrams that had arrived joined.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable

from support import loops
from support.datagrams import DatagramRecorder, bound
from support.protocols import Echo
from support.sockets import PATIENCE

LIMIT = 5.0


def main(loop: asyncio.AbstractEventLoop, what: str) -> None:
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()

    async def converse(client: socket.socket) -> None:
        client.setblocking(False)
        await loop.sock_sendall(client, b"x")
        assert await asyncio.wait_for(loop.sock_recv(client, 10), LIMIT) == b"x"

    async def connection() -> None:
        await converse(client)

    async def another_connection() -> None:
        with socket.create_connection(address, PATIENCE) as other:
            await converse(other)

    async def wake() -> None:
        woken = asyncio.Event()
        calling = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set,))
        # The thread calls when this tick is over, so the loop is asleep or about to be.
        loop.call_soon(calling.start)
        await asyncio.wait_for(woken.wait(), LIMIT)
        calling.join()

    received = DatagramRecorder()
    transport, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(lambda: received, local_addr=("127.0.0.1", 0))
    )
    sender = bound()
    sender.connect(transport.get_extra_info("sockname"))
    for count in range(1, 4):
        sender.send(b"single")
        loop.run_until_complete(received.until_received(count))

    async def datagrams() -> None:
        await received.until_received(8)
        assert received.data[3:] == [b"1234"] * 5, received.data

    uses: dict[str, Callable[[], Awaitable[None]]] = {
        "connection": connection,
        "server": another_connection,
        "wake-up": wake,
        "datagrams": datagrams,
    }
    with socket.create_connection(address, PATIENCE) as client:
        loop.run_until_complete(connection())
        try:
            sender.setsockopt(socket.IPPROTO_UDP, 103, 4)  # UDP_SEGMENT: the kernel is to cut
            sender.send(b"1234" * 5)
        except OSError:
            for _ in range(5):
                sender.send(b"1234")
        child = os.fork()
        if child == 0:
            loop.close()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, f"the child ended with {status}"
        loop.run_until_complete(uses[what]())
    server.close()
    sender.close()
    transport.close()


if __name__ == "__main__":
    event_loop = loops.factory(sys.argv[1])()
    try:
        main(event_loop, sys.argv[2])
        # The echoing connection sees its end and is closed.
        for _ in range(10):
            event_loop.run_until_complete(asyncio.sleep(0))
    finally:
        event_loop.close()
    print("works")
