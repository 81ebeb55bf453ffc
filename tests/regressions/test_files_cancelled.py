"""Operations on files that were cancelled in the tick in which they would have gone on."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from support import loops
from support.files import Threads
from support.pipes import pipe

if not loops.STOCK_ONLY:
    import oxlip
    from oxlip import _file_threads

pytestmark = pytest.mark.skipif(loops.STOCK_ONLY, reason="asyncio has no files")


async def outcome(task: asyncio.Task[Any]) -> Any:
    try:
        return await task
    except asyncio.CancelledError:
        return None


async def settled(f: Any) -> None:
    while f._work._transfer is not None:
        await asyncio.sleep(0)


async def test_holder_and_waiter_of_the_turn_together(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    async with oxlip.open(tmp_path / "file", "wb", 0) as f:
        for _ in range(5):
            tasks = [asyncio.ensure_future(f.write(bytes(300_000))) for _ in range(3)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in results] == 3 * [asyncio.CancelledError]
        await f.write(b"goes on")


async def test_coroutine_of_a_waiter_that_is_closed(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    async with oxlip.open(tmp_path / "file", "wb", 0) as f:
        task = asyncio.ensure_future(f.write(bytes(300_000)))
        await asyncio.sleep(0)
        waiting = f.write(b"never")
        waiting.send(None)
        waiting.close()
        await task
        await f.write(b"goes on")


@pytest.mark.parametrize("ticks", range(8))
async def test_read_when_its_data_has_arrived(loop: asyncio.AbstractEventLoop, ticks: int) -> None:
    with pipe() as (reader, writer):
        async with oxlip.open(reader.fileno(), "rb", closefd=False) as f:
            reading = asyncio.ensure_future(f.read(5))
            await asyncio.sleep(0)
            writer.write(b"hello")
            arrived = f._work._transfer
            assert arrived is not None
            while not arrived.done():
                await asyncio.sleep(0)
            for _ in range(ticks % 4):
                await asyncio.sleep(0)
            reading.cancel()
            first = await outcome(reading) or b""
            writer.close()
            assert first + await f.read() == b"hello"


async def test_text_in_a_rare_encoding(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a\nb\nc\n", encoding="utf-16")
    async with oxlip.open(path, encoding="utf-16") as f:
        reading = asyncio.ensure_future(f.readline())
        await asyncio.sleep(0)
        while (waiter := f._work._waiter) is None or not waiter.done():
            await asyncio.sleep(0)
        reading.cancel()
        first = await outcome(reading) or ""
        assert first + await f.read() == "a\nb\nc\n"


@pytest.mark.parametrize("mode", ["r", "rb"])
async def test_large_read(loop: asyncio.AbstractEventLoop, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    content = b"0123456789abcde\n" * 200_000
    path.write_bytes(content)
    expected: Any = content if mode == "rb" else content.decode()
    async with oxlip.open(path, mode) as f:
        assert await f.read(3) == expected[:3]
        reading = asyncio.ensure_future(f.read())
        await asyncio.sleep(0)
        reading.cancel()
        assert await outcome(reading) is None
        assert await f.readline() == expected[3:16]
        assert await f.read() == expected[16:]


@pytest.mark.parametrize(("newline", "lines"), [("\r", ["ab\r", "cd\r"]), (None, ["ab\n", "cd\n"])])
async def test_lines_that_were_kept(
    loop: asyncio.AbstractEventLoop, newline: str | None, lines: list[str]
) -> None:
    with pipe() as (reader, writer):
        async with oxlip.open(reader.fileno(), newline=newline, closefd=False) as f:
            reading = asyncio.ensure_future(f.read(6))
            await asyncio.sleep(0)
            reading.cancel()
            assert await outcome(reading) is None
            writer.write(b"ab\rcd\r")
            writer.close()
            await settled(f)
            assert [await f.readline(), await f.readline(), await f.readline()] == [*lines, ""]


async def test_what_was_kept_does_not_outlive_the_file(loop: asyncio.AbstractEventLoop) -> None:
    with pipe() as (reader, writer):
        f = await oxlip.open(reader.fileno(), "rb", closefd=False)
        reading = asyncio.ensure_future(f.read(5))
        await asyncio.sleep(0)
        reading.cancel()
        assert await outcome(reading) is None
        writer.write(b"hello")
        await settled(f)
        await f.close()
        with pytest.raises(ValueError, match="closed file"):
            await f.read(5)


@pytest.mark.parametrize("method", ["readline", "peek"])
async def test_close_does_not_wait_for_a_read_that_hangs(
    loop: asyncio.AbstractEventLoop, method: str
) -> None:
    reading_end, writing_end = os.pipe()
    with pytest.raises(asyncio.TimeoutError):
        async with oxlip.open(reading_end, "rb") as f:
            await asyncio.wait_for(getattr(f, method)(), 0.01)
    assert f.closed
    with pytest.raises(ValueError, match="closed file"):
        await f.read()
    await f.close()
    # Which lets go of the descriptor when it ends.
    os.close(writing_end)
    threads = _file_threads.threads_of(loop)
    await settled(f)
    while not threads.is_idle():
        await asyncio.sleep(0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading_end)
    for thread in threading.enumerate():
        if thread.name == "oxlip-file" and thread not in threads._pool.threads:
            thread.join(10)


async def test_what_is_flushed_is_what_was_written_in_turn(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 10)
    async with oxlip.open(path, "a+b") as f:
        await f.write(b"AB")
        await asyncio.gather(f.seek(5), f.write(b"XYZ"), f.seek(0))
        assert (await f.read(3), await f.tell()) == (b"012", 3)


@pytest.mark.parametrize("refusal", [None, errno.EINVAL])
@pytest.mark.parametrize("ticks", [0, 1, 2, 3])
async def test_write_that_the_driver_refuses_after_all(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, refusal: int | None, ticks: int
) -> None:
    """It had begun, and so it is done."""
    path = tmp_path / "file"
    driver: Any = loop
    transfers = []

    def refuse(*_: Any) -> asyncio.Future[Any]:
        transfer: asyncio.Future[Any] = loop.create_future()
        transfers.append(transfer)
        return transfer

    async with oxlip.open(path, "wb", 0) as f:
        driver._file_write = refuse
        f._work._native = True
        writing = asyncio.ensure_future(f.write(b"done"))
        await asyncio.sleep(0)
        if refusal is None:
            loop.call_soon(transfers[0].set_result, None)
        else:
            loop.call_soon(transfers[0].set_exception, OSError(refusal, "not this file"))
        for _ in range(ticks):
            await asyncio.sleep(0)
        writing.cancel()
        assert await outcome(writing) is None
        del driver._file_write
        f._work._native = False
        assert await f.write(b" and more") == 9
    assert path.read_bytes() == b"done and more"


@pytest.mark.parametrize("buffering", [0, -1])
async def test_read_into_the_programs_buffer(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, buffering: int
) -> None:
    """In a thread, as others know the descriptor: it does not get the buffer."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    f: Any
    async with oxlip.open(path, "rb", buffering) as f:
        f.fileno()
        buffer = bytearray(4)
        with Threads(loop).held():
            reading = asyncio.ensure_future(f.readinto(buffer))
            await asyncio.sleep(0)
            reading.cancel()
            assert await outcome(reading) is None
        await settled(f)
        assert buffer == bytes(4)
        assert (await f.readinto(buffer), buffer) == (4, b"0123")
        assert await f.read() == b"456789"


async def test_close_that_nobody_waits_for_any_more(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """It waits for what is under way, and for its turn, and the file is closed then."""
    for is_waited_for in (True, False):
        f = await oxlip.open(tmp_path / "file", "wb")
        with Threads(loop).held():
            # More than its buffer takes, which is 128 KiB since Python 3.15.
            writing = asyncio.ensure_future(f.write(bytes(1_000_000)))
            await asyncio.sleep(0)
            if not is_waited_for:
                writing.cancel()
                assert await outcome(writing) is None
            closing = asyncio.ensure_future(f.close())
            await asyncio.sleep(0)
            closing.cancel()
            assert await outcome(closing) is None
            assert not f.closed
        while not f.closed:
            await asyncio.sleep(0)
        assert await outcome(writing) == (1_000_000 if is_waited_for else None)
        await f.close()
    assert (tmp_path / "file").stat().st_size == 1_000_000
