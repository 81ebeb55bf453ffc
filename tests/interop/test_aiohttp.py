"""aiohttp: server, client and websockets."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from support.observing import Program, exchange, get, listener, post
from support.sockets import loopback, unused_port

Same = Callable[[Program], Any]
BIG = bytes(range(256)) * 4096


def application() -> web.Application:
    async def index(request: web.Request) -> web.Response:
        return web.Response(text="hello", headers={"X-Peer": str(request.remote)})

    async def echo(request: web.Request) -> web.Response:
        body = await request.read()
        return web.json_response(
            {
                "size": len(body),
                "digest": hashlib.sha256(body).hexdigest(),
                "method": request.method,
            }
        )

    async def chunked(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for number in range(20):
            await response.write(b"%d," % number * 1000)
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    async def big(request: web.Request) -> web.Response:
        return web.Response(body=BIG)

    async def upload(request: web.Request) -> web.Response:
        parts = []
        async for part in await request.multipart():
            data = await part.read()  # type: ignore[union-attr]
            parts.append((part.name, len(data)))  # type: ignore[union-attr]
        return web.json_response(parts)

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        return web.Response()

    async def websocket(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT and message.data == "close":
                await socket.close(code=4000, message=b"as you wish")
            elif message.type == WSMsgType.TEXT:
                await socket.send_str(message.data.upper())
            elif message.type == WSMsgType.BINARY:
                await socket.send_bytes(message.data[::-1])
        return socket

    app = web.Application(client_max_size=1 << 24)
    app.add_routes(
        [
            web.get("/", index),
            web.route("*", "/echo", echo),
            web.get("/chunked", chunked),
            web.get("/big", big),
            web.post("/upload", upload),
            web.get("/slow", slow),
            web.get("/ws", websocket),
        ]
    )
    return app


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, int]]:
    """The application on a free port."""
    runner = web.AppRunner(application(), access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    sock = listener()
    await web.SockSite(runner, sock).start()
    try:
        yield sock.getsockname()
    finally:
        await runner.cleanup()


def url(address: tuple[str, int], path: str) -> str:
    return f"http://127.0.0.1:{address[1]}{path}"


def test_answers_on_the_wire(same_as_stock: Same) -> None:
    async def program() -> list[bytes]:
        async with serving() as address:
            return [
                await exchange(address, get("/")),
                await exchange(address, get("/nowhere")),
                await exchange(address, get("/chunked")),
                await exchange(address, post("/echo", b"body")),
                await exchange(address, post("/echo", BIG)),
                await exchange(address, get("/", close=False), get("/big")),
                await exchange(address, get("/", close=False) * 10 + get("/")),
                await exchange(address, b"GET / HTTP/1.0\r\n\r\n"),
                await exchange(address, b"nonsense\r\n\r\n"),
                await exchange(address, *(bytes([byte]) for byte in get("/"))),
            ]

    answers = same_as_stock(program)
    assert answers[0].endswith(b"\r\n\r\nhello")
    assert answers[6].count(b"HTTP/1.1 200 OK") == 11


def test_client(same_as_stock: Same) -> None:
    async def program() -> list[Any]:
        seen: list[Any] = []
        async with serving() as address, aiohttp.ClientSession() as session:
            for path in ("/", "/chunked", "/big", "/nowhere"):
                async with session.get(url(address, path)) as response:
                    body = await response.read()
                    headers = sorted(response.headers.items())
                    headers = [header for header in headers if header[0] != "Date"]
                    seen.append((response.status, headers, hashlib.sha256(body).hexdigest()))
            async with session.post(url(address, "/echo"), data=BIG) as response:
                seen.append(await response.json())
            form = aiohttp.FormData()
            form.add_field("first", b"x" * 100_000, filename="first.bin")
            form.add_field("second", "text")
            async with session.post(url(address, "/upload"), data=form) as response:
                seen.append(await response.json())
        return seen

    assert same_as_stock(program)[-1] == [["first", 100_000], ["second", 4]]


def test_many_requests_at_once(same_as_stock: Same) -> None:
    async def program() -> list[tuple[int, str]]:
        connector = aiohttp.TCPConnector(limit=20)
        async with serving() as address, aiohttp.ClientSession(connector=connector) as session:

            async def one(number: int) -> tuple[int, str]:
                body = b"%d" % number * number
                async with session.put(url(address, "/echo"), data=body) as response:
                    return response.status, await response.text()

            return await asyncio.gather(*map(one, range(100)))

    assert {status for status, _ in same_as_stock(program)} == {200}


def test_client_that_gives_up(same_as_stock: Same) -> None:
    async def program() -> list[str]:
        seen: list[str] = []
        async with serving() as address:
            timeout = aiohttp.ClientTimeout(total=0.05)
            async with aiohttp.ClientSession(timeout=timeout) as session:
                for _ in range(3):
                    try:
                        await session.get(url(address, "/slow"))
                    except asyncio.TimeoutError as error:
                        seen.append(type(error).__name__)
            async with aiohttp.ClientSession() as session:
                async with session.get(url(address, "/")) as response:
                    seen.append(await response.text())
        return seen

    assert same_as_stock(program)[-1] == "hello"


def test_refused(same_as_stock: Same) -> None:
    async def program() -> str:
        address = (loopback(), unused_port())
        async with aiohttp.ClientSession() as session:
            try:
                await session.get(url(address, "/"))
            except aiohttp.ClientConnectorError as error:
                return f"{type(error).__name__} {error.os_error.errno}"
        return "connected"

    assert "Error" in same_as_stock(program)


def test_websocket(same_as_stock: Same) -> None:
    async def program() -> list[Any]:
        seen: list[Any] = []
        async with serving() as address, aiohttp.ClientSession() as session:
            async with session.ws_connect(url(address, "/ws")) as socket:
                for text in ("hello", "", "x" * 100_000, "ünïcödé"):
                    await socket.send_str(text)
                    seen.append(await socket.receive_str())
                for size in (0, 1, 125, 126, 65536, 1_000_000):
                    await socket.send_bytes(BIG[:size])
                    seen.append(hashlib.sha256(await socket.receive_bytes()).hexdigest())
                await socket.ping(b"are you there")
                await socket.send_str("close")
                message = await socket.receive()
                seen.append((message.type.name, message.data, message.extra, socket.close_code))
            async with session.ws_connect(url(address, "/ws"), compress=15) as socket:
                await socket.send_str("compressed " * 1000)
                seen.append(await socket.receive_str())
                await socket.close(code=1001)
                seen.append(socket.close_code)
        return seen

    seen = same_as_stock(program)
    assert seen[0] == "HELLO"
    assert ("CLOSE", 4000, "as you wish", 4000) in seen


def test_websocket_whose_peer_disappears(same_as_stock: Same) -> None:
    async def program() -> list[str]:
        async with serving() as address, aiohttp.ClientSession() as session:
            socket = await session.ws_connect(url(address, "/ws"))
            await socket.send_str("hello")
            first = await socket.receive_str()
            socket._response.connection.transport.abort()  # type: ignore[union-attr]
            second = await socket.receive()
            await socket.close()
            async with session.get(url(address, "/")) as response:
                return [first, second.type.name, await response.text()]

    assert same_as_stock(program)[0] == "HELLO"
