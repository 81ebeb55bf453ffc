"""A program: the interpreter ends while a loop and a connection are open.

    exit_with_connection.py KIND accepted|"handed over"

The connection's socket object was made, and whoever is freed first must not close it for the other.
"""

from __future__ import annotations

import asyncio
import socket
import sys

from support import loops
from support.protocols import Recorder
from support.sockets import PATIENCE, connected

loop = loops.factory(sys.argv[1])()
protocol = Recorder()
if sys.argv[2] == "accepted":
    server = loop.run_until_complete(loop.create_server(lambda: protocol, "127.0.0.1", 0))
    far = socket.create_connection(server.sockets[0].getsockname(), PATIENCE)
    loop.run_until_complete(protocol.until_called("connection_made"))
else:
    near, far = connected()
    loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
sock: asyncio.trsock.TransportSocket = protocol.transport.get_extra_info("socket")
assert sock.fileno() >= 0
print("connected")
