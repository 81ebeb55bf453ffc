"""`oxlip.open` gives what `open` gives, awaited: on every loop, whoever reads and writes."""

from __future__ import annotations

import asyncio
import builtins
import gc
import io
import os
import resource
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import loops
from support.files import size_limit

if not loops.STOCK_ONLY:
    import oxlip
    from oxlip import _file_raw, _file_threads

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(loops.STOCK_ONLY, reason="asyncio has no files"),
]

NewLoop = Callable[[], asyncio.AbstractEventLoop]

LINES = b"".join(b"line %d, and what stands in it\n" % number for number in range(3000))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(LINES)
    return path


@pytest.fixture(params=["cached", "fetched"])
def cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the system has in memory what is read. If not, each fetch is waited for."""
    if request.param == "fetched":
        monkeypatch.setattr(_file_raw.RawFile, "fetch_now", lambda *_: False)
    return str(request.param)


@pytest.fixture
def is_slow(kind: str) -> None:
    """For tests that need an operation to be under way: a simulation has them done at once."""
    if kind == "oxlip-sim":
        pytest.skip("nothing is under way in simulated time")


async def begun(coroutine: Any) -> asyncio.Task[Any]:
    """A task that has taken its first step."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    return task


async def cancelled(task: asyncio.Task[Any]) -> None:
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


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


# Several operations


async def test_calls_follow_one_another(
    loop: asyncio.AbstractEventLoop, path: Path, cache: str
) -> None:
    async with oxlip.open(path, "rb") as f:
        pieces = await asyncio.gather(*(f.read(100) for _ in range(50)))
        assert b"".join(pieces) == LINES[:5000]
    async with oxlip.open(path, "wb", 0) as f:
        await asyncio.gather(*(f.write(b"%03d" % number) for number in range(100)), f.seek(1))
        await f.write(b"x")
    expected = b"".join(b"%03d" % number for number in range(100))
    assert path.read_bytes() == b"0x" + expected[2:]


@pytest.mark.usefixtures("is_slow")
@pytest.mark.parametrize("arguments", [("rb",), ("rb", 0), ("r",), ("r", -1, "utf-16-le")])
async def test_a_cancelled_read_loses_nothing(
    loop: asyncio.AbstractEventLoop, path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any
) -> None:
    monkeypatch.setattr(_file_raw.RawFile, "fetch_now", lambda *_: False)
    with builtins.open(path, *arguments) as expected:
        async with oxlip.open(path, *arguments) as f:
            for number in range(5):
                # So far that it is not in the buffer.
                place = 20_000 * number + 2
                assert await f.seek(place) == expected.seek(place)
                reading = await begun(f.read(1000))
                behind = await begun(f.read(10))
                await cancelled(reading)
                assert await behind == expected.read(10)
                assert await f.readline() == expected.readline()
                if "utf-16-le" not in arguments:
                    assert await f.tell() == expected.tell()


@pytest.mark.usefixtures("is_slow")
async def test_a_cancelled_write_is_done(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    async with oxlip.open(path, "wb", 0) as f:
        for number in range(10):
            waiting = await begun(f.write(b"%d" % number))
            never_begun = await begun(f.write(b"never"))
            await cancelled(never_begun)
            await cancelled(waiting)
            await f.write(b"+")
    assert path.read_bytes() == b"".join(b"%d+" % number for number in range(10))


@pytest.mark.usefixtures("is_slow")
async def test_close_waits_for_what_is_under_way(
    loop: asyncio.AbstractEventLoop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_file_raw.RawFile, "fetch_now", lambda *_: False)
    f = await oxlip.open(path, "rb")
    reading = await begun(f.read(10))
    closing = await begun(f.close())
    too_late = await begun(f.read(10))
    assert await reading == LINES[:10]
    await closing
    with pytest.raises(ValueError, match="closed file"):
        await too_late
    # Also if nobody waits for it any more.
    f = await oxlip.open(path, "rb")
    await cancelled(await begun(f.read(10)))
    await cancelled(await begun(f.close()))
    await f.close()
    assert f.closed


@pytest.mark.usefixtures("is_slow")
async def test_a_cancelled_open_leaves_nothing_open(
    loop: asyncio.AbstractEventLoop, path: Path
) -> None:
    async def opened() -> None:
        await oxlip.open(path)

    for _ in range(10):
        await cancelled(await begun(opened()))
    threads = _file_threads.threads_of(loop)
    while not threads.is_idle():
        await asyncio.sleep(0)


async def test_others_get_their_turn(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = await begun(count())
    async with oxlip.open(path) as f:
        before = turns
        while await f.read(10):
            pass
        assert turns > before + 5
    await cancelled(counting)


async def test_the_executor_is_the_programs(
    loop: asyncio.AbstractEventLoop, path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(_file_raw.RawFile, "fetch_now", lambda *_: False)
    free = threading.Event()
    executor = ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    try:
        blocked = loop.run_in_executor(None, free.wait)
        async with oxlip.open(path) as f:
            assert await f.read() == LINES.decode()
    finally:
        free.set()
    await blocked


async def test_a_thousand_files(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        before = threading.active_count()
        most = 0

        async def first_line() -> str:
            nonlocal most
            async with oxlip.open(path) as f:
                most = max(most, threading.active_count() - before)
                return await f.readline()

        async with oxlip.open(path) as f:
            expected = await f.readline()
        assert set(await asyncio.gather(*(first_line() for _ in range(1000)))) == {expected}
        assert most <= _file_threads.MOST
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


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


# Loops


async def opened(path: Path) -> Any:
    return await oxlip.open(path, "rb")


def test_of_another_loop(new_loop: NewLoop, path: Path) -> None:
    one, other = new_loop(), new_loop()
    f = one.run_until_complete(opened(path))
    with pytest.raises(RuntimeError, match="different event loop"):
        other.run_until_complete(f.read())
    with pytest.raises(RuntimeError, match="different event loop"):
        other.run_until_complete(f.close())
    one.run_until_complete(f.close())


def test_not_closed(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    async def write() -> None:
        f = await oxlip.open(path, "w")
        await f.write("written nevertheless")

    with pytest.warns(ResourceWarning, match="unclosed file"):
        loop.run_until_complete(write())
        gc.collect()
    assert path.read_text() == "written nevertheless"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_file_threads, "IDLE_SECONDS", 0.01)


@pytest.mark.usefixtures("is_slow", "impatient")
def test_loop_closed_with_operations_under_way(
    new_loop: NewLoop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_file_raw.RawFile, "fetch_now", lambda *_: False)

    async def begin() -> None:
        loop = asyncio.get_running_loop()
        for number in range(5):
            f = await oxlip.open(path, "r+b", 0)
            # A call without a task: nothing is left pending but what the file does.
            (f.read(100) if number % 2 else f.write(LINES)).send(None)
            loop.call_soon(f.read, 1).cancel()

    before = set(threading.enumerate())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(10):
            loop = new_loop()
            loop.run_until_complete(begin())
            loop.close()
            del loop
            gc.collect()
        for thread in set(threading.enumerate()) - before:
            thread.join(10)
        gc.collect()
    assert path.read_bytes() == LINES


@pytest.mark.usefixtures("is_slow")
def test_threads_end_with_the_loop(new_loop: NewLoop, path: Path) -> None:
    loop = new_loop()
    before = set(threading.enumerate())

    async def close(f: Any) -> None:
        await f.close()

    loop.run_until_complete(close(loop.run_until_complete(opened(path))))
    assert set(threading.enumerate()) > before
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert set(threading.enumerate()) == before
    # It may go on.
    loop.run_until_complete(close(loop.run_until_complete(opened(path))))
    _file_threads.end_threads_of(loop)


@pytest.mark.usefixtures("is_slow", "impatient")
async def test_idle_threads_end(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    before = set(threading.enumerate())
    f = await oxlip.open(path)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
    await f.close()
