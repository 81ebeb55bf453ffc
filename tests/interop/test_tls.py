"""aiohttp over https and websockets over wss, server and client, compared with stock asyncio."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import websockets
from aiohttp import web
from support import tls
from support.observing import Program
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

Same = Callable[[Program], Any]
BIG = bytes(range(256)) * 4000
NAME = "127.0.0.1"


async def serving(application: web.Application, context: ssl.SSLContext) -> tuple[Any, str]:
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, NAME, 0, ssl_context=context)
    await site.start()
    return runner, f"https://{NAME}:{runner.addresses[0][1]}"


def application() -> web.Application:
    async def index(request: web.Request) -> web.Response:
        certificate: Any = request.get_extra_info("peercert")
        return web.Response(text=f"{request.scheme} {bool(certificate)}")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def chunked(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(50):
            await response.write(b"%d," % number * 2000)
        await response.write_eof()
        return response

    made = web.Application(client_max_size=len(BIG) + 1)
    made.router.add_get("/", index)
    made.router.add_post("/echo", echo)
    made.router.add_get("/chunked", chunked)
    return made


def test_https(same_as_stock: Same) -> None:
    async def program() -> list[Any]:
        runner, url = await serving(application(), tls.server_context(client_certificate=True))
        seen: list[Any] = []
        context = tls.client_context("client.example")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            async with session.get(url) as response:
                seen.append(await response.text())
            for size in (0, 1, 16384, len(BIG)):
                async with session.post(f"{url}/echo", data=BIG[:size]) as response:
                    seen.append(await response.read() == BIG[:size])
            async with session.get(f"{url}/chunked") as response:
                seen.append(len(await response.read()))

            async def one(number: int) -> int:
                async with session.post(f"{url}/echo", data=b"%d" % number) as response:
                    return int(await response.text())

            seen.append(await asyncio.gather(*map(one, range(30))))
        await runner.cleanup()
        return seen

    seen = same_as_stock(program)
    assert seen[:5] == ["https True", True, True, True, True]


def test_https_that_is_refused(same_as_stock: Same) -> None:
    async def program() -> list[Any]:
        runner, url = await serving(application(), tls.server_context("other.example"))
        seen: list[Any] = []
        contexts = [tls.client_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)]
        urls = [url.replace(NAME, "localhost"), url]
        for context, where in zip(contexts, urls, strict=True):
            connector = aiohttp.TCPConnector(ssl=context)
            async with aiohttp.ClientSession(connector=connector) as session:
                try:
                    await session.get(where)
                except aiohttp.ClientError as error:
                    seen.append(type(error).__name__)
        async with aiohttp.ClientSession() as session:
            try:
                await session.get(url.replace("https", "http"))
            except aiohttp.ClientError as error:
                seen.append(type(error).__name__)
        await runner.cleanup()
        return seen

    assert same_as_stock(program)[:2] == ["ClientConnectorCertificateError"] * 2


def test_a_response_that_is_not_read(same_as_stock: Same) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(65536))
                await asyncio.sleep(0)  # aiohttp does not, once its connection is lost
        except ConnectionError:
            gone.set()
            raise

    gone = asyncio.Event()

    async def program() -> bool:
        nonlocal gone
        gone = asyncio.Event()
        endless_application = web.Application()
        endless_application.router.add_get("/", endless)
        runner, url = await serving(endless_application, tls.server_context())
        connector = aiohttp.TCPConnector(ssl=tls.client_context())
        async with aiohttp.ClientSession(connector=connector) as session:
            response = await session.get(url)
            await response.content.readexactly(1 << 20)
            response.close()
            # aiohttp#6762: the connection downloaded on until a time-out of half a minute.
            await asyncio.wait_for(gone.wait(), 1)
        await runner.cleanup()
        return True

    assert same_as_stock(program)


def test_wss(same_as_stock: Same) -> None:
    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            if message == "vanish":
                connection.transport.abort()
            else:
                await connection.send(message[::-1])

    async def program() -> list[Any]:
        seen: list[Any] = []
        async with serve(answer, NAME, 0, ssl=tls.server_context()) as server:
            url = f"wss://{NAME}:{next(iter(server.sockets)).getsockname()[1]}/"
            async with connect(url, ssl=tls.client_context()) as client:
                for message in ("hello", "ü" * 1000, b"", BIG[: 1 << 19]):
                    await client.send(message)
                    seen.append(await client.recv())
            seen.append(client.close_code)
            async with connect(url, ssl=tls.client_context()) as client:
                await client.send("vanish")
                try:
                    await client.recv()
                except websockets.ConnectionClosed as error:
                    seen.append(type(error).__name__)
        return seen

    seen = same_as_stock(program)
    assert seen[0] == "olleh"
    assert seen[-2:] == [1000, "ConnectionClosedError"]
