"""Running one program on two loops and comparing what can be seen of it."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from support import loops
from support.sockets import PATIENCE

Program = Callable[[], Awaitable[Any]]

_DATE = re.compile(rb"(?mi)^date: [^\r\n]*")


def run(kind: str, program: Program) -> Any:
    """The program's result on a loop of this kind, with what the exception handler was told."""
    loop = loops.factory(kind)()
    problems: list[str] = []
    loop.set_exception_handler(lambda _, context: problems.append(context["message"]))
    asyncio.set_event_loop(loop)
    try:
        result = loop.run_until_complete(asyncio.wait_for(program(), 2 * PATIENCE))
        loop.run_until_complete(_finish(loop))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return result, problems


async def _finish(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def listener() -> socket.socket:
    """A bound socket for a server, on a free loopback port."""
    return socket.create_server(("127.0.0.1", 0))


async def exchange(address: tuple[str, int], *pieces: bytes) -> bytes:
    """Everything that a server answers to these bytes until it closes, without its date and port.

    Sent and received by a plain socket in a thread.
    """

    def converse() -> bytes:
        with socket.create_connection(address, PATIENCE) as sock:
            for piece in pieces:
                sock.sendall(piece)
            received = bytearray()
            while data := sock.recv(1 << 20):
                received += data
        return bytes(received)

    answer = await asyncio.to_thread(converse)
    return _DATE.sub(b"date: some day", answer).replace(b":%d" % address[1], b":PORT")


def get(path: str, *headers: str, close: bool = True) -> bytes:
    """A GET request."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode()


def post(path: str, body: bytes, *headers: str, close: bool = True) -> bytes:
    """A POST request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body
