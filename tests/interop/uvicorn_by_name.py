"""A program: uvicorn that makes its own loop, by the name of a factory.

    uvicorn_by_name.py KIND MODULE:FACTORY

It prints what the application says about its loop, then the events of the lifespan.
"""

from __future__ import annotations

import sys
import threading
import urllib.request

import uvicorn
from interop import asgi
from support.observing import listener


def ask(server: uvicorn.Server, port: int) -> None:
    """Asks the application once, then stops the server."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/loop", timeout=10) as answer:
            print(answer.read().decode())
    finally:
        server.should_exit = True


if __name__ == "__main__":
    sock = listener()
    config = uvicorn.Config(asgi.app, loop=sys.argv[2], http="httptools", log_level="critical")
    uvicorn_server = uvicorn.Server(config)
    client = threading.Thread(target=ask, args=(uvicorn_server, sock.getsockname()[1]))
    client.start()
    uvicorn_server.run(sockets=[sock])
    client.join()
    print(*asgi.lifespan)
