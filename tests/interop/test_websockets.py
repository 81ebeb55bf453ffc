"""The websockets library: server and client, close codes, broken connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import websockets
from support.observing import Program, exchange, get
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.protocol import State

Same = Callable[[Program], Any]


async def answer(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "close":
            await connection.close(4001, "as you wish")
        elif message == "vanish":
            connection.transport.abort()
        elif message == "fail":
            raise LookupError("on purpose")
        else:
            await connection.send(message[::-1])


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Server, str]]:
    server = await serve(answer, "127.0.0.1", 0, **options)
    port = next(iter(server.sockets)).getsockname()[1]
    async with server:
        yield server, f"ws://127.0.0.1:{port}/"


async def ending(client: Any) -> tuple[str, int, str]:
    """How a connection ended."""
    try:
        while True:
            await client.recv()
    except websockets.ConnectionClosed as error:
        received = error.rcvd
        code, reason = (received.code, received.reason) if received else (1006, "")
        return type(error).__name__, code, reason


def test_messages(same_as_stock: Same) -> None:
    async def program() -> list[Any]:
        seen: list[Any] = []
        async with serving() as (_, url), connect(url) as client:
            for message in ("hello", "", "ü" * 1000, b"bytes", b"", b"\0\1" * 200_000):
                await client.send(message)
                seen.append(await client.recv())
            await client.send(["in ", "several ", "parts"])
            seen.append(await client.recv())
            latency = await (await client.ping(b"ping"))
            seen.append(latency >= 0)
        seen.append((client.close_code, client.close_reason))
        return seen

    seen = same_as_stock(program)
    assert seen[0] == "olleh"
    assert seen[-1] == (1000, "")


def test_endings(same_as_stock: Same) -> None:
    async def program() -> list[Any]:
        seen: list[Any] = []
        async with serving() as (server, url):
            for last in ("close", "vanish", "fail"):
                async with connect(url) as client:
                    await client.send(last)
                    seen.append(await ending(client))
            async with connect(url) as client:
                await client.send("hello")
                await client.recv()
                server.close()
                seen.append(await ending(client))
        return seen

    assert [end[1] for end in same_as_stock(program)] == [4001, 1006, 1011, 1001]


def test_without_compression(same_as_stock: Same) -> None:
    async def program() -> list[Any]:
        async with serving(compression=None) as (_, url), connect(url, compression=None) as client:
            data = bytes(range(256)) * 4000
            await client.send(data)
            return [await client.recv() == data[::-1], client.subprotocol]

    assert same_as_stock(program) == [True, None]


def test_many_clients(same_as_stock: Same) -> None:
    async def program() -> list[Any]:
        async with serving() as (_, url):

            async def one(number: int) -> list[Any]:
                async with connect(url) as client:
                    seen = []
                    for turn in range(5):
                        await client.send(f"{number} {turn}")
                        seen.append(await client.recv())
                    return seen

            return await asyncio.gather(*map(one, range(20)))

    assert same_as_stock(program)[12][3] == "3 21"


def test_refused_handshakes_on_the_wire(same_as_stock: Same) -> None:
    async def program() -> list[bytes]:
        async with serving() as (server, _):
            address = next(iter(server.sockets)).getsockname()
            return [
                await exchange(address, get("/")),
                await exchange(address, get("/", "Upgrade: websocket")),
                await exchange(address, b"nonsense\r\n\r\n"),
            ]

    answers = same_as_stock(program)
    assert answers[0].startswith(b"HTTP/1.1 426")


def test_keepalive_notices_a_silent_peer(same_as_stock: Same) -> None:
    async def program() -> Any:
        async with serving(ping_interval=0.02, ping_timeout=0.02) as (server, url):
            client = await connect(url, ping_interval=None)
            client.transport.pause_reading()  # so that no pong is sent
            (connection,) = server.connections
            while connection.state is State.OPEN:
                await asyncio.sleep(0.001)
            client.transport.resume_reading()
            return await ending(client)

    assert same_as_stock(program)[1] == 1011
