"""Tornado: its HTTP server and client, which watch their descriptors with add_reader."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import tornado.httpclient
import tornado.httpserver
import tornado.ioloop
import tornado.iostream
import tornado.tcpclient
import tornado.tcpserver
import tornado.web
import tornado.websocket
from support import loops
from support.observing import Program, exchange, get, listener, post

Same = Callable[[Program], Any]


class Index(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write("hello")


class Echo(tornado.web.RequestHandler):
    def post(self) -> None:
        self.set_status(201)
        self.write(self.request.body[::-1])


class Stream(tornado.web.RequestHandler):
    async def get(self) -> None:
        for number in range(50):
            self.write(f"{number}\n" * 500)
            await self.flush()


class Fail(tornado.web.RequestHandler):
    def get(self) -> None:
        raise LookupError("on purpose")


class Socket(tornado.websocket.WebSocketHandler):
    async def on_message(self, message: str | bytes) -> None:
        if message == "close":
            self.close(4002, "as you wish")
        else:
            await self.write_message(message[::-1], binary=isinstance(message, bytes))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    for name in ("tornado.access", "tornado.application", "tornado.general"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    yield
    # Tornado holds a closed loop until it meets the next one.
    tornado.ioloop.IOLoop._ioloop_for_asyncio.clear()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, int]]:
    routes = [("/", Index), ("/echo", Echo), ("/stream", Stream), ("/fail", Fail), ("/ws", Socket)]
    server = tornado.httpserver.HTTPServer(tornado.web.Application(routes))  # type: ignore[arg-type]
    sock = listener()
    sock.setblocking(False)
    server.add_socket(sock)
    try:
        yield sock.getsockname()
    finally:
        server.stop()
        await server.close_all_connections()


def test_answers_on_the_wire(same_as_stock: Same) -> None:
    async def program() -> list[bytes]:
        async with serving() as address:
            return [
                await exchange(address, get("/")),
                await exchange(address, get("/stream")),
                await exchange(address, post("/echo", b"x" * 1_000_000)),
                await exchange(address, get("/nowhere")),
                await exchange(address, get("/fail")),
                await exchange(address, get("/", close=False) * 10 + get("/")),
                await exchange(address, b"GET / HTTP/1.0\r\n\r\n"),
                await exchange(address, *(bytes([byte]) for byte in get("/"))),
            ]

    answers = same_as_stock(program)
    assert answers[0].endswith(b"\r\n\r\nhello")
    assert answers[5].count(b"HTTP/1.1 200 OK") == 11


def test_client(same_as_stock: Same) -> None:
    async def program() -> list[Any]:
        client = tornado.httpclient.AsyncHTTPClient(force_instance=True)
        async with serving() as (_, port):
            base = f"http://127.0.0.1:{port}"
            responses = [
                await client.fetch(base + "/"),
                await client.fetch(base + "/stream"),
                await client.fetch(base + "/echo", method="POST", body=b"abc" * 100_000),
                await client.fetch(base + "/nowhere", raise_error=False),
            ]
            several = await asyncio.gather(*(client.fetch(base + "/") for _ in range(30)))
        client.close()
        return [(response.code, response.body) for response in [*responses, *several]]

    assert same_as_stock(program)[0] == (200, b"hello")


def test_websocket(same_as_stock: Same) -> None:
    async def program() -> list[Any]:
        seen: list[Any] = []
        async with serving() as (_, port):
            client = await tornado.websocket.websocket_connect(f"ws://127.0.0.1:{port}/ws")
            for message in ("hello", "x" * 100_000, b"bytes"):
                await client.write_message(message, binary=isinstance(message, bytes))
                seen.append(await client.read_message())
            await client.write_message("close")
            seen.append(await client.read_message())
            seen.append((client.close_code, client.close_reason))
            client.close()
        return seen

    assert same_as_stock(program)[-2:] == [None, (4002, "as you wish")]


def test_iostreams(same_as_stock: Same) -> None:
    class Lines(tornado.tcpserver.TCPServer):
        async def handle_stream(self, stream: tornado.iostream.IOStream, address: Any) -> None:
            try:
                while True:
                    await stream.write((await stream.read_until(b"\n")).upper())
            except tornado.iostream.StreamClosedError:
                stream.close()
                self.ended.set()  # type: ignore[attr-defined]

    async def program() -> list[bytes]:
        server = Lines()
        server.ended = asyncio.Event()  # type: ignore[attr-defined]
        sock = listener()
        sock.setblocking(False)
        server.add_socket(sock)
        stream = await tornado.tcpclient.TCPClient().connect(*sock.getsockname())
        seen = []
        for size in (1, 1000, 100_000):
            await stream.write(b"x" * size + b"\n")
            seen.append(await stream.read_until(b"\n"))
        stream.close()
        await server.ended.wait()  # type: ignore[attr-defined]
        server.stop()
        return seen

    assert [len(line) for line in same_as_stock(program)] == [2, 1001, 100_001]


def test_ioloop_on_top_of_the_loop(kind: str) -> None:
    seen: list[Any] = []
    asyncio_loop = loops.factory(kind)()
    loop = tornado.ioloop.IOLoop(asyncio_loop=asyncio_loop, make_current=False)
    try:

        async def main() -> str:
            tornado.ioloop.IOLoop.current().add_callback(seen.append, "callback")
            tornado.ioloop.IOLoop.current().call_later(0.001, seen.append, "timer")
            repeated = tornado.ioloop.PeriodicCallback(lambda: seen.append("again"), 1)
            repeated.start()
            while seen.count("again") < 3:
                await asyncio.sleep(0.001)
            repeated.stop()
            return "result"

        assert loop.run_sync(main) == "result"
    finally:
        loop.close(all_fds=True)
    assert {"callback", "timer", "again"} <= set(seen)
    assert asyncio_loop.is_closed()
