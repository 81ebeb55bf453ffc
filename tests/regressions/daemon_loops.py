"""A program whose daemon threads run loops while the interpreter ends.

    daemon_loops.py KIND WHAT

Its loops do WHAT all the time: each way by which a callback is called.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import weakref
from typing import Any

from support import loops

kind, what = sys.argv[1:]
logging.basicConfig(filename="/dev/null", level=logging.INFO)
under_way = threading.Semaphore(0)


def work() -> None:
    """Waits for the interpreter again and again, in the log's lock and in a sleep."""
    under_way.release()
    logging.info("tick")
    time.sleep(0.0001)


async def task() -> None:
    while True:
        work()
        await asyncio.sleep(0)


async def handle() -> None:
    loop = asyncio.get_running_loop()

    def again() -> None:
        work()
        loop.call_soon(again)

    again()
    await loop.create_future()


async def timer() -> None:
    loop = asyncio.get_running_loop()

    def again() -> None:
        work()
        loop.call_later(0, again)

    again()
    await loop.create_future()


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        work()
        self.transport.write(data)


async def protocol() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(Echo, *server.sockets[0].getsockname())
    transport.write(b"ping")
    await loop.create_future()


async def finalizer() -> None:
    class Slow:
        def __del__(self) -> None:
            work()

    loop = asyncio.get_running_loop()
    while True:
        # Its last reference is the loop's.
        loop.call_soon(id, Slow())
        await asyncio.sleep(0)


async def handler() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: work())
    while True:
        loop.call_soon(int, "no number")
        await asyncio.sleep(0)


async def weak_reference() -> None:
    loop = asyncio.get_running_loop()
    while True:
        handle = loop.call_soon(int)
        reference = weakref.ref(handle, lambda _: work())
        del handle
        await asyncio.sleep(0)
        del reference


class AtTheEnd:
    """Lets the threads go on in the middle of the end."""

    def __init__(self) -> None:
        self.sleep = time.sleep

    def __del__(self) -> None:
        self.sleep(0.02)


def run() -> None:
    loop = loops.factory(kind)()
    loop.run_until_complete(globals()[what]())


kept = AtTheEnd()
for _ in range(2):
    threading.Thread(target=run, daemon=True).start()
for _ in range(20):
    under_way.acquire()
print("the end", flush=True)
