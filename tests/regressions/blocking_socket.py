"""A program: a connection whose socket was made blocking behind the loop's back.

    blocking_socket.py KIND write|read|"buffered read"

It ends with a traceback unless the loop goes on with something else while the peer does nothing.
"""

from __future__ import annotations

import asyncio
import faulthandler
import sys

from support import loops
from support.protocols import BufferedRecorder, Recorder
from support.sockets import connected
from support.ticks import pause

LARGE = 16 << 20


async def main(direction: str) -> None:
    loop = asyncio.get_running_loop()
    near, far = connected()
    protocol = BufferedRecorder(2) if direction == "buffered read" else Recorder()
    transport, _ = await loop.create_connection(lambda: protocol, sock=near)
    near.setblocking(True)
    if direction == "write":
        transport.write(b"x" * LARGE)
        assert transport.get_write_buffer_size() > 0
    else:
        for size in (2, 4, 6):  # with a buffer of two bytes each read fills it
            far.send(b"xy")
            await protocol.until_received(size)
    await pause(3)
    transport.abort()
    await protocol.until_lost()
    far.close()


if __name__ == "__main__":
    faulthandler.dump_traceback_later(10, exit=True)
    event_loop = loops.factory(sys.argv[1])()
    try:
        event_loop.run_until_complete(main(sys.argv[2]))
    finally:
        event_loop.close()
    print("not blocked")
