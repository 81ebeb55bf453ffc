"""Streams on the loop, asyncio's and ours in their place: open_connection, start_server, and what
they give."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from support.loops import STOCK_ONLY
from support.sockets import PATIENCE, unused_port
from support.streams import behind_asyncios_names

Loop = asyncio.AbstractEventLoop
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=["asyncio", "oxlip"], autouse=True)
def streams(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio's names stand for asyncio's streams or, as after `oxlip.install()`, for ours."""
    if request.param == "asyncio":
        return
    if STOCK_ONLY:
        pytest.skip("without oxlip")
    behind_asyncios_names(monkeypatch)


@asynccontextmanager
async def serving(serve: Serve, limit: int = 2**16) -> AsyncIterator[Streams]:
    """A client's two streams, opposite a server whose connections run `serve`."""
    ended = asyncio.Event()

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            ended.set()

    server = await asyncio.start_server(serve_and_close, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address, limit=limit)
    try:
        yield reader, writer
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        await asyncio.wait_for(ended.wait(), PATIENCE)
        server.close()
        await asyncio.wait_for(server.wait_closed(), PATIENCE)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def test_echo(loop: Loop) -> None:
    async with serving(echo) as (reader, writer):
        for size in (1, 1000, 65536, 200_000):
            data = random.Random(size).randbytes(size)
            writer.write(data)
            assert await asyncio.wait_for(reader.readexactly(size), PATIENCE) == data


async def test_lines(loop: Loop) -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(line.upper())

    async with serving(upper) as (reader, writer):
        writer.write(b"one\ntw")
        assert await reader.readline() == b"ONE\n"
        writer.write(b"o\nthree")
        assert await reader.readline() == b"TWO\n"
        writer.write_eof()
        assert await reader.readline() == b"THREE"
        assert await reader.readline() == b""
        assert reader.at_eof()


async def test_read_to_the_end(loop: Loop) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines([b"<", await reader.read(), b">"])
        await writer.drain()

    async with serving(answer) as (reader, writer):
        writer.write(b"question")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b"<question>"


async def test_readuntil_and_readexactly(loop: Loop) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"head\r\n\r\nbody12345rest")

    async with serving(answer) as (reader, _):
        assert await reader.readuntil(b"\r\n\r\n") == b"head\r\n\r\n"
        assert await reader.readexactly(9) == b"body12345"
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(5)
        assert caught.value.partial == b"rest"


async def test_a_line_over_the_limit(loop: Loop) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 1000 + b"\nshort\n")

    async with serving(answer, limit=100) as (reader, _):
        with pytest.raises((ValueError, asyncio.LimitOverrunError)):
            await reader.readline()


async def test_reader_pauses_the_transport(loop: Loop) -> None:
    size = 4 << 20

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * size)
        await writer.drain()

    async with serving(pour, limit=1000) as (reader, writer):
        assert await reader.readexactly(1) == b"x"
        # Twice its limit is what a StreamReader holds before it pauses the transport.
        while writer.transport.is_reading():  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        received = 1
        while data := await asyncio.wait_for(reader.read(100_000), PATIENCE):
            received += len(data)
        assert received == size


async def test_drain_waits_for_the_peer(loop: Loop) -> None:
    go = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        while await reader.read(1 << 20):
            pass

    async with serving(slow) as (_, writer):
        writer.write(b"x" * (16 << 20))
        draining = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not draining.done()
        go.set()
        await asyncio.wait_for(draining, PATIENCE)


async def test_wait_closed(loop: Loop) -> None:
    async with serving(echo) as (_, writer):
        assert not writer.is_closing()
        writer.close()
        assert writer.is_closing()
        await asyncio.wait_for(writer.wait_closed(), PATIENCE)


async def test_write_to_a_closed_connection(loop: Loop) -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with serving(leave) as (_reader, writer):
        with pytest.raises((ConnectionError, OSError)):
            while True:
                writer.write(b"x" * 1000)
                await writer.drain()
                await asyncio.sleep(0)


async def test_extra_info(loop: Loop) -> None:
    async with serving(echo) as (_, writer):
        sock = writer.get_extra_info("socket")
        assert writer.get_extra_info("sockname") == sock.getsockname()
        assert writer.can_write_eof()


async def test_refused(loop: Loop) -> None:
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", unused_port())


async def test_cancelled_read(loop: Loop) -> None:
    async with serving(echo) as (reader, writer):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(10), 0.005)
        writer.write(b"later")
        assert await asyncio.wait_for(reader.readexactly(5), PATIENCE) == b"later"


async def test_many_clients(loop: Loop) -> None:
    async def client(address: tuple[str, int], number: int) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"%d\n" % number)
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    lines = await asyncio.gather(*(client(address, number) for number in range(50)))
    assert lines == [b"%d\n" % number for number in range(50)]
    server.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio reports it since 3.12")
async def test_error_in_a_client_callback(loop: Loop, contexts: list[dict[str, object]]) -> None:
    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise ValueError("on purpose")

    server = await asyncio.start_server(fail, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    assert [type(context["exception"]) for context in contexts] == [ValueError]
    contexts.clear()
    writer.close()
    await writer.wait_closed()
    server.close()
