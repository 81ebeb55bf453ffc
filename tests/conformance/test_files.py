"""`oxlip.open` gives what `open` gives, awaited: on every loop, whoever reads and writes."""

from __future__ import annotations

import asyncio
import builtins
import io
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import loops
from support.files import LINES, begun, size_limit

if not loops.STOCK_ONLY:
    import oxlip

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(loops.STOCK_ONLY, reason="asyncio has no files"),
]


# Reading


async def test_read_as_a_whole(loop: asyncio.AbstractEventLoop, path: Path, cache: str) -> None:
    async with oxlip.open(path) as text:
        assert await text.read() == LINES.decode()
        assert await text.read() == ""
    async with oxlip.open(path, "rb") as buffered:
        assert await buffered.read() == LINES
    async with oxlip.open(path, "rb", 0) as unbuffered:
        assert await unbuffered.readall() == LINES
        assert await unbuffered.readall() == b""


async def test_read_in_pieces(loop: asyncio.AbstractEventLoop, path: Path, cache: str) -> None:
    for buffering in (-1, 0):
        async with oxlip.open(os.fspath(path), "rb", buffering) as f:
            pieces = []
            while piece := await f.read(4096):
                pieces.append(piece)
            assert b"".join(pieces) == LINES
            assert {len(piece) for piece in pieces[:-1]} == {4096}


@pytest.mark.parametrize("arguments", [(), ("rb",), ("rb", 0), ("r", -1, "utf-16-le")])
async def test_lines(
    loop: asyncio.AbstractEventLoop, path: Path, cache: str, arguments: Any
) -> None:
    path.write_bytes(LINES.decode().encode(arguments[2]) if len(arguments) > 2 else LINES[:20000])
    with builtins.open(path, *arguments) as f:
        expected = f.readlines()
    async with oxlip.open(path, *arguments) as f:
        assert [line async for line in f] == expected
        await f.seek(0)
        assert await f.readline() == expected[0]
        assert await f.readlines(100) == expected[1:5]
        assert await f.readlines() == expected[5:]
        assert await f.readline() == expected[0][:0]
        await f.seek(0)
        assert await f.readline(5) == expected[0][:5]


async def test_read_into_a_buffer(loop: asyncio.AbstractEventLoop, path: Path, cache: str) -> None:
    async with oxlip.open(path, "rb") as f:
        room = bytearray(10)
        assert await f.readinto(room) == 10
        assert room == LINES[:10]
        assert await f.readinto1(memoryview(room)[5:]) == 5
        assert room == LINES[:5] + LINES[10:15]
        assert (await f.peek(1))[:9] == LINES[15:24]
        assert await f.read1(9) == LINES[15:24]


async def test_a_file_that_grows(loop: asyncio.AbstractEventLoop, path: Path, cache: str) -> None:
    path.write_bytes(b"")
    async with oxlip.open(path) as f:
        with builtins.open(path, "ab", 0) as other:
            for number in range(3):
                assert await f.readline() == ""
                other.write(b"half")
                assert await f.readline() == "half"
                other.write(b" a line %d\n" % number)
                assert await f.readline() == f" a line {number}\n"


# Writing


async def test_write_and_read_again(
    loop: asyncio.AbstractEventLoop, path: Path, cache: str
) -> None:
    async with oxlip.open(path, "w+") as f:
        assert await f.write("first\n") == 6
        await f.writelines(["second\n", "third\n"])
        await f.seek(0)
        assert await f.read() == "first\nsecond\nthird\n"
        assert await f.truncate(6) == 6
        await f.seek(0, os.SEEK_END)
        await f.write("end")
    assert path.read_text() == "first\nend"


async def test_what_was_flushed_is_written(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    async with oxlip.open(path, "wb") as f:
        await f.write(b"some")
        assert path.read_bytes() == b""
        await f.flush()
        assert path.read_bytes() == b"some"
        await f.write(LINES * 20)
        assert len(path.read_bytes()) >= len(LINES) * 20 - io.DEFAULT_BUFFER_SIZE
    assert path.read_bytes() == b"some" + LINES * 20


async def test_append(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    async with oxlip.open(path, "ab", 0) as one, oxlip.open(path, "a") as other:
        for _ in range(3):
            assert await one.write(b"one") == 3
            assert await one.tell() == path.stat().st_size
            await other.write("other")
            await other.flush()
            assert await other.tell() == path.stat().st_size
    assert path.read_bytes() == LINES + b"oneother" * 3


async def test_a_buffer_may_be_changed_after_the_call(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    async with oxlip.open(path, "wb", 0) as f:
        data = bytearray(b"x" * 100_000)
        writing = await begun(f.write(data))
        data[:] = bytes(len(data))
        assert await writing == len(data)
    assert path.read_bytes() == b"x" * 100_000


async def test_a_full_disk(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    """What could not be written stays in the buffer as far as in `io`'s."""

    async def attempt(result: Any) -> Any:
        try:
            outcome = result()
            return await outcome if asyncio.iscoroutine(outcome) else outcome
        except OSError as error:
            return str(error)

    outcomes = []
    for opened in (await oxlip.open(path, "wb"), builtins.open(path, "wb")):
        with size_limit(50_000):
            outcome = [
                await attempt(partial(getattr(opened, name), *arguments))
                for name, *arguments in (
                    ("write", b"a" * 100),
                    ("flush",),
                    ("write", b"b" * 60_000),
                    ("flush",),
                    ("write", b"c" * 100),
                    ("flush",),
                    ("flush",),
                )
            ]
        await attempt(opened.close)
        outcomes.append((outcome, path.read_bytes()))
    ours, expected = outcomes
    assert ours == expected
    assert "too large" in str(expected)


async def test_a_full_disk_at_the_end(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    path.write_bytes(b"")
    f = await oxlip.open(path, "w")
    await f.write("a" * 1000)
    with size_limit(500):
        with pytest.raises(OSError, match="too large"):
            await f.close()
    assert f.closed


# Whoever knows the descriptor


async def test_a_descriptor_of_the_program(
    loop: asyncio.AbstractEventLoop, path: Path, cache: str
) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        assert os.read(fd, 5) == LINES[:5]
        async with oxlip.open(fd, "rb", 0, closefd=False) as f:
            assert await f.read(5) == LINES[5:10]
            assert os.read(fd, 5) == LINES[10:15]
            assert await f.tell() == 15
            assert await f.read(5) == LINES[15:20]
        async with oxlip.open(fd, "wb", closefd=False) as f:
            await f.write(b"new")
        assert os.lseek(fd, 0, os.SEEK_CUR) == 23
        assert os.pread(fd, 6, 18) == LINES[18:20] + b"new" + LINES[23:24]
    finally:
        os.close(fd)


async def test_others_write_through_its_descriptor(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    async with oxlip.open(path, "w") as f:
        await f.write("ours\n")
        await f.flush()
        os.write(f.fileno(), b"theirs\n")
        await f.write("ours again\n")
    assert path.read_text() == "ours\ntheirs\nours again\n"


async def test_opener(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    calls = []

    def opener(name: str, flags: int) -> int:
        calls.append((name, flags))
        return os.open(path, flags)

    async with oxlip.open("another name", opener=opener) as f:
        assert await f.readline() == LINES.decode().splitlines(keepends=True)[0]
        assert f.name == "another name"
    with builtins.open("another name", opener=opener):
        pass
    assert calls[0] == calls[1]
