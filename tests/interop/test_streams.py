"""Programs on asyncio's streams: a line protocol, a proxy and a chat, seen from the wire."""

from __future__ import annotations

import asyncio
import hashlib
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import Callable
from typing import Any

from support.observing import Program, exchange

Same = Callable[[Program], Any]


async def calculator(reader: Reader, writer: Writer) -> None:
    """Answers a line of numbers with their sum."""
    while line := await reader.readline():
        try:
            answer = str(sum(map(int, line.split())))
        except ValueError as error:
            answer = f"error: {error}"
        writer.write(answer.encode() + b"\n")
        await writer.drain()
        if line.strip() == b"0":
            break
    writer.close()
    await writer.wait_closed()


def test_line_protocol(same_as_stock: Same) -> None:
    async def program() -> list[bytes]:
        server = await asyncio.start_server(calculator, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            return await asyncio.gather(
                exchange(address, b"1 2 3\n", b"4", b" 5\nx\n0\n"),
                exchange(address, b"1\n" * 10_000 + b"0\n"),
                exchange(address, *(b"7 8\n" for _ in range(100)), b"0\n"),
            )

    assert same_as_stock(program)[0].startswith(b"6\n9\nerror")


def test_proxy(same_as_stock: Same) -> None:
    async def reverse(reader: Reader, writer: Writer) -> None:
        size = int.from_bytes(await reader.readexactly(4), "big")
        writer.write((await reader.readexactly(size))[::-1])
        writer.write_eof()
        await writer.drain()
        writer.close()

    async def pump(reader: Reader, writer: Writer) -> None:
        while data := await reader.read(10_000):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def program() -> list[str]:
        async def proxy(reader: Reader, writer: Writer) -> None:
            far_reader, far_writer = await asyncio.open_connection(*backend_address)
            upward = asyncio.ensure_future(pump(reader, far_writer))
            await pump(far_reader, writer)
            upward.cancel()
            await asyncio.gather(upward, return_exceptions=True)
            writer.close()
            far_writer.close()
            await asyncio.gather(writer.wait_closed(), far_writer.wait_closed())

        backend = await asyncio.start_server(reverse, "127.0.0.1", 0)
        front = await asyncio.start_server(proxy, "127.0.0.1", 0)
        backend_address = backend.sockets[0].getsockname()
        front_address = front.sockets[0].getsockname()
        digests = []
        async with backend, front:
            for size in (1, 1000, 3_000_000):
                data = (b"%d," % size * size)[:size]
                answer = await exchange(front_address, size.to_bytes(4, "big"), data)
                assert answer == data[::-1]
                digests.append(hashlib.sha256(answer).hexdigest())
        return digests

    assert len(same_as_stock(program)) == 3


def test_chat(same_as_stock: Same) -> None:
    async def program() -> list[list[bytes]]:
        writers: list[Writer] = []

        async def room(reader: Reader, writer: Writer) -> None:
            writers.append(writer)
            writer.write(b"welcome\n")
            while line := await reader.readline():
                for other in writers:
                    other.write(line)
            writers.remove(writer)
            writer.close()

        server = await asyncio.start_server(room, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            members = [await asyncio.open_connection(*address) for _ in range(10)]
            for reader, _ in members:
                assert await reader.readline() == b"welcome\n"
            heard: list[list[bytes]] = [[] for _ in members]
            for number, (_, writer) in enumerate(members):
                writer.write(b"I am %d\n" % number)
                for place, (reader, _) in enumerate(members):
                    heard[place].append(await reader.readline())
            for _, writer in members:
                writer.close()
                await writer.wait_closed()
            while writers:
                await asyncio.sleep(0)
        return heard

    heard = same_as_stock(program)
    assert heard[3] == [b"I am %d\n" % number for number in range(10)]
