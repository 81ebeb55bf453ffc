"""The ASGI application that uvicorn serves in these tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# What happened, in order, for a test to look at.
lifespan: list[str] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Routes by the type of the scope and the path."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await _websocket(receive, send)
    else:
        await _ROUTES.get(scope["path"], _not_found)(receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        lifespan.append(message["type"])
        await asyncio.sleep(0)
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _websocket(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message["type"] == "websocket.disconnect":
            return
        elif message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4000})
            return
        else:
            text = message.get("text") or message["bytes"].decode()
            await send({"type": "websocket.send", "text": text.upper()})


async def _start(send: Send, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def _one_write(receive: Receive, send: Send) -> None:
    await _start(send, 200, (b"content-length", b"5"), (b"content-type", b"text/plain"))
    await send({"type": "http.response.body", "body": b"hello"})


async def _two_writes(receive: Receive, send: Send) -> None:
    await _start(send, 200, (b"content-length", b"12"))
    await send({"type": "http.response.body", "body": b"hello, ", "more_body": True})
    await send({"type": "http.response.body", "body": b"world"})


async def _stream(receive: Receive, send: Send) -> None:
    await _start(send)
    for number in range(50):
        await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
        if number % 10 == 0:
            await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


async def _big(receive: Receive, send: Send) -> None:
    await _start(send, 200, (b"content-length", b"%d" % (4 << 20)))
    for _ in range(64):
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _echo(receive: Receive, send: Send) -> None:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await _start(send, 201, (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.body", "body": bytes(body)})


async def _fail(receive: Receive, send: Send) -> None:
    raise LookupError("on purpose")


async def _loop(receive: Receive, send: Send) -> None:
    loop = asyncio.get_running_loop()
    body = f"{type(loop).__module__} {getattr(loop, 'driver', 'none')}".encode()
    await _start(send, 200, (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.body", "body": body})


async def _not_found(receive: Receive, send: Send) -> None:
    await _start(send, 404, (b"content-length", b"0"))
    await send({"type": "http.response.body", "body": b""})


_ROUTES = {
    "/one": _one_write,
    "/two": _two_writes,
    "/stream": _stream,
    "/big": _big,
    "/echo": _echo,
    "/fail": _fail,
    "/loop": _loop,
}
