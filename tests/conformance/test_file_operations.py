"""Operations on files that are under way: in turn, cancelled, and when the loop ends."""

from __future__ import annotations

import asyncio
import builtins
import gc
import resource
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import loops
from support.files import LINES, begun, cancelled

if not loops.STOCK_ONLY:
    import oxlip
    from oxlip import _file_raw, _file_threads

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(loops.STOCK_ONLY, reason="asyncio has no files"),
]


NewLoop = Callable[[], asyncio.AbstractEventLoop]


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
