"""uvicorn with httptools: its lifespan, responses in one write and in more, websockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import websockets
from interop import asgi
from support import children, loops
from support.observing import Program, exchange, get, listener, post

Same = Callable[[Program], Any]


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, int]]:
    """The application of asgi.py, served by uvicorn on a free port."""
    config = uvicorn.Config(
        asgi.app, http="httptools", ws="websockets-sansio", lifespan="on", log_config=None
    )
    server = uvicorn.Server(config)
    sock = listener()
    task = asyncio.ensure_future(server.serve(sockets=[sock]))
    while not server.started:
        await asyncio.sleep(0.001)
        assert not task.done()
    try:
        yield sock.getsockname()
    finally:
        server.should_exit = True
        await task


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    asgi.lifespan.clear()


def test_answers_on_the_wire(same_as_stock: Same) -> None:
    async def program() -> list[bytes]:
        async with serving() as address:
            return [
                await exchange(address, get("/one")),
                await exchange(address, get("/two")),
                await exchange(address, get("/stream")),
                await exchange(address, get("/big")),
                await exchange(address, post("/echo", b"body")),
                await exchange(address, post("/echo", b"x" * 1_000_000)),
                await exchange(address, get("/nowhere")),
                await exchange(address, get("/fail")),
                await exchange(address, get("/one", close=False) * 20 + get("/two")),
                await exchange(address, b"GET /one HTTP/1.0\r\n\r\n"),
                await exchange(address, b"nonsense\r\n\r\n"),
            ]

    answers = same_as_stock(program)
    assert answers[0].endswith(b"\r\n\r\nhello")
    assert answers[1].endswith(b"\r\n\r\nhello, world")
    assert answers[8].count(b"HTTP/1.1 200 OK") == 21


def test_lifespan(same_as_stock: Same) -> None:
    async def program() -> list[str]:
        asgi.lifespan.clear()
        async with serving() as address:
            await exchange(address, get("/one"))
            asgi.lifespan.append("served")
        return list(asgi.lifespan)

    assert same_as_stock(program) == ["lifespan.startup", "served", "lifespan.shutdown"]


def test_many_clients(same_as_stock: Same) -> None:
    async def program() -> list[bytes]:
        async with serving() as address:
            requests = [get("/one"), get("/two"), get("/stream"), post("/echo", b"x" * 5000)] * 10
            return await asyncio.gather(*(exchange(address, request) for request in requests))

    assert len(same_as_stock(program)) == 40


def test_expect_continue(same_as_stock: Same) -> None:
    async def program() -> bytes:
        async with serving() as address:
            head = post("/echo", b"body", "Expect: 100-continue")[:-4]
            return await exchange(address, head, b"body")

    assert b"100 Continue" in same_as_stock(program)


def test_websocket(same_as_stock: Same) -> None:
    async def program() -> list[Any]:
        seen: list[Any] = []
        async with serving() as address:
            async with websockets.connect(f"ws://127.0.0.1:{address[1]}/") as socket:
                for text in ("hello", "x" * 100_000):
                    await socket.send(text)
                    seen.append(await socket.recv())
                await socket.send("close")
                with pytest.raises(websockets.ConnectionClosed):
                    await socket.recv()
                seen.append(socket.close_code)
        return seen

    assert same_as_stock(program)[-1] == 4000


def test_by_the_name_of_a_factory(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loops.is_ours(kind):
        monkeypatch.setenv("OXLIP_DRIVER", loops.driver_of(kind))
        name, expected = "oxlip:new_event_loop", f"oxlip._loop {loops.driver_of(kind)}"
    else:
        name, expected = "asyncio:SelectorEventLoop", "asyncio.unix_events none"
    program = Path(__file__).with_name("uvicorn_by_name.py")
    output = children.run(program, kind, name, timeout=25)
    assert expected in output
    assert "lifespan.startup lifespan.shutdown" in output
