"""Files of `oxlip.open` whose descriptor others know, and what others leave of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import loops
from support.sockets import PATIENCE
from support.ticks import pause

if not loops.STOCK_ONLY:
    import oxlip

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(loops.STOCK_ONLY, reason="asyncio has no files"),
]


def echo(word: str, fd: int) -> None:
    """Another process writes to the descriptor."""
    subprocess.run(["echo", word], stdout=fd, check=True)


async def test_flush_of_nothing_leaves_what_others_have_written(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    async with oxlip.open(path, "w") as f:
        await f.write("head\n")
        await f.flush()
        echo("one", f.fileno())
        await f.flush()
        echo("two", f.fileno())
        await f.write("tail\n")
    assert path.read_text().split() == ["head", "one", "two", "tail"]


@pytest.mark.parametrize("buffering", [0, -1])
async def test_file_by_number_writes_where_the_descriptor_stands(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, buffering: int
) -> None:
    path = tmp_path / "file"
    with path.open("wb", buffering=0) as owner:
        async with oxlip.open(owner.fileno(), "wb", buffering, closefd=False) as f:  # type: ignore[call-overload]
            await f.write(b"abc")
            await f.flush()
            owner.write(b"DEF")
            await f.flush()
            await f.write(b"x")
    assert path.read_bytes() == b"abcDEFx"


async def test_number_that_is_asked_for_while_much_is_fetched(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(5000)))
    f = await oxlip.open(path, "rb", 0)
    try:
        assert await f.readline() == b"line 0\n"
        assert os.read(f.fileno(), 7) == b"line 1\n"
        assert await f.readline() == b"line 2\n"
        assert await f.tell() == 21
    finally:
        await f.close()


async def test_unbuffered_file_sees_what_has_changed_behind_a_line(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first\n" + b"o" * 100)
    async with oxlip.open(path, "rb", 0) as f:
        assert await f.readline() == b"first\n"
        path.write_bytes(b"first\n" + b"n" * 100)
        assert await f.read() == b"n" * 100


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


async def test_cancelled_look_takes_nothing(loop: asyncio.AbstractEventLoop, kind: str) -> None:
    if kind == "oxlip-sim":
        pytest.skip("nothing is under way in simulated time")
    with pipe() as (reading, writing):
        f = await oxlip.open(reading, "rb", closefd=False)
        task = asyncio.ensure_future(f.peek())
        await pause(3)
        task.cancel()
        await asyncio.wait([task])
        os.write(writing, b"abc")
        assert await asyncio.wait_for(f.read(3), PATIENCE) == b"abc"
        task = asyncio.ensure_future(f.read(1))
        await pause(3)
        os.write(writing, b"d")
        assert await asyncio.wait_for(task, PATIENCE) == b"d"
        await f.close()


async def test_cancelled_lines_after_a_cancelled_read(
    loop: asyncio.AbstractEventLoop, kind: str
) -> None:
    if kind == "oxlip-sim":
        pytest.skip("nothing is under way in simulated time")
    with pipe() as (reading, writing):
        f = await oxlip.open(reading, "rb", closefd=False)
        task = asyncio.ensure_future(f.read1())
        await pause(3)
        task.cancel()
        os.write(writing, b"one\ntwo\nthr")
        # It has come by then, and nobody has it.
        assert (await asyncio.wait_for(f.peek(), PATIENCE)).startswith(b"one")
        task = asyncio.ensure_future(f.readlines())
        await pause(3)
        task.cancel()
        await asyncio.wait([task])
        os.write(writing, b"ee\n")
        lines = [await asyncio.wait_for(f.readline(), PATIENCE) for _ in range(2)]
        assert lines == [b"one\n", b"two\n"]
        os.write(writing, b"end\n")
        assert await asyncio.wait_for(f.readline(), PATIENCE) == b"three\n"
        assert await asyncio.wait_for(f.readline(), PATIENCE) == b"end\n"
        await f.close()


def test_file_that_a_global_holds_is_written_at_the_end_of_the_program(tmp_path: Path) -> None:
    program = """
        import asyncio, sys, oxlip
        async def main():
            global f
            f = await oxlip.open(sys.argv[1], "w")
            await f.write("content")
        asyncio.run(main())
    """
    path = tmp_path / "file"
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    assert path.read_text() == "content"


async def test_fifo_with_an_opener_takes_no_thread_of_others(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, kind: str
) -> None:
    if kind == "oxlip-sim":
        pytest.skip("nothing is under way in simulated time")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    tasks = [
        asyncio.ensure_future(oxlip.open(fifo, "rb", opener=os.open).__aenter__()) for _ in range(8)
    ]
    await pause(3)
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def other() -> bytes:
        async with oxlip.open(path, "rb") as f:
            return await f.read()

    try:
        assert await asyncio.wait_for(other(), PATIENCE) == b"content"
    finally:
        with os.fdopen(os.open(fifo, os.O_RDWR), "wb", 0):
            for task in tasks:
                await (await asyncio.wait_for(task, PATIENCE)).close()
