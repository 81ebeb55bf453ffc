"""What files of `oxlip.open` refuse and say of themselves; and what is no regular file."""

from __future__ import annotations

import asyncio
import builtins
import io
import os
from pathlib import Path
from typing import Any

import pytest
from support import loops
from support.files import LINES, begun, cancelled

if not loops.STOCK_ONLY:
    import oxlip
    from oxlip import _file_threads

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(loops.STOCK_ONLY, reason="asyncio has no files"),
]


# Other files


async def test_what_open_refuses(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    for arguments in (
        (path, "q"),
        (path, "rw"),
        (path, 3),
        (path, ["r"]),
        (path, "rb", 1.5),
        (path, "r", "1"),
        (path, "r", 0),
        (path, "rb", -1, "utf-8"),
        (path, "rb", -1, None, "strict"),
        (path, "rb", -1, None, None, ""),
        (path, "r", -1, "no encoding"),
        (path, "r", -1, None, None, "n"),
        (path, "r", -1, None, None, None, False),
        (path / "there is none",),
        (path.parent, "w"),
        (path.parent, "rb"),
        (path, "x"),
        (3.5,),
        (-1,),
        ("a\0b",),
    ):
        with pytest.raises(Exception) as ours:
            await oxlip.open(*arguments)  # type: ignore[call-overload]
        with pytest.raises(ours.type) as expected, builtins.open(*arguments):  # type: ignore[call-overload]
            pass
        assert str(ours.value) == str(expected.value)
    assert path.read_bytes() == LINES


async def test_line_buffering_of_binary_files(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="line buffering"):
        async with oxlip.open(path, "rb", 1) as f:
            assert await f.readline() == LINES.splitlines(keepends=True)[0]


async def test_what_methods_refuse(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    async def attempt(f: Any, name: str, arguments: Any) -> tuple[Any, ...]:
        try:
            result = getattr(f, name)(*arguments)
            if asyncio.iscoroutine(result):
                result = await result
        except Exception as error:
            return type(error), str(error)
        return (result,)

    for mode in ("r", "w", "rb", "wb", "a+", "rb0", "wb0"):
        buffering = 0 if "0" in mode else -1
        mode = mode.rstrip("0")
        ours = await oxlip.open(path, mode, buffering)
        expected = builtins.open(path, mode, buffering)
        for close in (False, True):
            if close:
                await ours.close()
                await ours.close()
                expected.close()
            for name, arguments in (
                *((name, ()) for name in ("read", "readline", "readlines", "flush", "tell")),
                *((name, ()) for name in ("readable", "seekable", "writable", "isatty")),
                *((name, ("x",)) for name in ("read", "readline", "write", "seek", "truncate")),
                *((name, (1.5,)) for name in ("read", "readline", "write", "seek", "truncate")),
                ("write", (b"x",)),
                ("write", (None,)),
                ("writelines", ([1],)),
                ("seek", (-1,)),
                ("seek", (0, 9)),
                ("seek", (1, 1)),
                ("truncate", (-1,)),
                ("read", (-5,)),
                ("read", (None,)),
            ):
                got = await attempt(ours, name, arguments)
                wanted = await attempt(expected, name, arguments)
                assert got == wanted, (mode, name, arguments, close)


async def test_what_a_file_says_of_itself(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    async with oxlip.open(path, "r", encoding="latin-1", errors="replace", newline="") as text:
        with builtins.open(path, encoding="latin-1", errors="replace", newline="") as expected:
            for name in ("name", "mode", "encoding", "errors", "newlines", "line_buffering"):
                assert getattr(text, name) == getattr(expected, name)
            await text.readline()
            expected.readline()
            assert text.newlines == expected.newlines == "\n"
        assert not text.closed
        assert isinstance(text, oxlip.TextFile)
        assert os.path.sameopenfile(text.fileno(), text.buffer.raw.fileno())  # type: ignore[attr-defined]
        assert repr(str(path)) in repr(text)
    assert text.closed
    async with oxlip.open(path, "rb") as buffered:
        assert isinstance(buffered, oxlip.BufferedFile)
        assert (buffered.name, buffered.mode) == (str(path), "rb")
        assert isinstance(buffered.raw, io.FileIO)
        assert await buffered.readable() and not await buffered.writable()
        assert await buffered.seekable() and not await buffered.isatty()
    async with oxlip.open(path, "rb", 0) as unbuffered:
        assert isinstance(unbuffered, oxlip.UnbufferedFile)
        assert unbuffered.closefd


async def test_detach(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    f = await oxlip.open(path)
    first = await f.readline()
    with f.detach() as buffer:
        buffer.seek(0)
        assert buffer.readline() == first.encode()
    with pytest.raises(ValueError, match="detached"):
        await f.read()


async def test_awaited_again(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    opening = oxlip.open(path)
    f = await opening
    assert await opening is f
    async with opening as again:
        assert again is f
    assert f.closed
    async with await oxlip.open(path) as f:
        pass
    assert f.closed


# What is no regular file


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.mark.usefixtures("is_slow")
@pytest.mark.parametrize("buffering", [-1, 0])
async def test_a_fifo(loop: asyncio.AbstractEventLoop, fifo: Path, buffering: int) -> None:
    reading, writing = await asyncio.gather(
        oxlip.open(fifo, "rb", buffering), oxlip.open(fifo, "wb", 0)
    )
    async with reading, writing:
        read = await begun(reading.read(4))
        assert await writing.write(b"some") == 4
        assert await read == b"some"
        # Nobody waits any more for what comes; who does next gets it.
        await cancelled(await begun(reading.readline()))
        await writing.write(b"a line\nand more")
        assert await reading.readline() == b"a line\n"
        assert await reading.read(3) == b"and"
        room = bytearray(5)
        assert await reading.readinto(room) == 5
        assert room == b" more"
        await writing.close()
        assert await reading.read() == b""


@pytest.mark.usefixtures("is_slow")
async def test_a_text_through_a_fifo(loop: asyncio.AbstractEventLoop, fifo: Path) -> None:
    reading, writing = await asyncio.gather(oxlip.open(fifo), oxlip.open(fifo, "w"))
    async with reading, writing:
        await cancelled(await begun(reading.readline()))
        await writing.writelines(["first\n", "second\n", "rest"])
        await writing.close()
        assert await reading.readline() == "first\n"
        assert [line async for line in reading] == ["second\n", "rest"]


@pytest.mark.usefixtures("is_slow")
async def test_fifos_keep_no_thread_from_others(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, path: Path
) -> None:
    fifos = [tmp_path / f"fifo{number}" for number in range(2 * _file_threads.MOST)]
    opening = []
    for fifo in fifos:
        os.mkfifo(fifo)
        opening.append(asyncio.ensure_future(oxlip.open(fifo, "rb").__aenter__()))
    async with oxlip.open(path) as f:
        assert await f.read() == LINES.decode()
    for fifo in fifos:
        async with oxlip.open(fifo, "wb") as f:
            await f.write(b"x")
    for f in await asyncio.gather(*opening):
        assert await f.read() == b"x"
        await f.close()


async def test_devices(loop: asyncio.AbstractEventLoop) -> None:
    async with oxlip.open("/dev/null", "w") as f:
        await f.write("nothing")
    async with oxlip.open("/dev/zero", "rb") as f:
        assert await f.read(3) == bytes(3)
    f = await oxlip.open("/dev/full", "w")
    await f.write("nothing")
    with pytest.raises(OSError, match="No space"):
        await f.flush()
    with pytest.raises(OSError, match="No space"):
        await f.close()
    assert f.closed


async def test_files_of_the_kernel(loop: asyncio.AbstractEventLoop) -> None:
    async with oxlip.open("/proc/self/limits") as f:
        assert (await f.readline()).startswith("Limit")
        assert await f.read()
        await f.seek(0)
        assert "Max open files" in await f.read()
