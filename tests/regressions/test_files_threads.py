"""The threads of files: when none can be started, when they end, and what is raised in them."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import loops

if not loops.STOCK_ONLY:
    import oxlip

NewLoop = Callable[[], asyncio.AbstractEventLoop]

pytestmark = pytest.mark.skipif(loops.STOCK_ONLY, reason="asyncio has no files")


def waiting_opener(free: threading.Event) -> Any:
    def opener(path: str, flags: int) -> int:
        assert free.wait(10)
        return os.open(path, flags)

    return opener


async def opened(*arguments: Any) -> Any:
    return await oxlip.open(*arguments)


async def test_no_thread_can_be_started(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has raised has not been put off."""
    path = tmp_path / "file"
    reading_end, writing_end = os.pipe()
    f: Any = await oxlip.open(writing_end, "wb", 0)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="can't start"):
                await f.write(b"refused")
    await f.write(b"written")
    assert os.read(reading_end, 100) == b"written"
    os.close(reading_end)
    await f.close()
    # Those that there are do it.
    free = threading.Event()
    f = await oxlip.open(path, "ab")
    opening = asyncio.ensure_future(
        opened(path, "rb", -1, None, None, None, True, waiting_opener(free))
    )
    await asyncio.sleep(0)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    writing = asyncio.ensure_future(f.write(b"x" * 100_000))
    await asyncio.sleep(0)
    free.set()
    assert await writing == 100_000
    await (await opening).close()
    await f.close()
    assert path.stat().st_size == 100_000


def test_loop_that_goes_on_after_its_generators_were_shut_down(
    new_loop: NewLoop, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    loop = new_loop()
    free = threading.Event()

    async def begin() -> Any:
        f = await oxlip.open(path, "rb")
        opening = asyncio.ensure_future(
            opened(path, "rb", -1, None, None, None, True, waiting_opener(free))
        )
        await asyncio.sleep(0)
        loop.call_later(0.01, free.set)
        return f, opening

    async def go_on(f: Any, opening: Any) -> None:
        assert opening.done()
        await (await opening).close()
        for _ in range(3):
            assert await asyncio.wait_for(f.seek(0, os.SEEK_END), 10) == 10
        await f.close()

    f, opening = loop.run_until_complete(begin())
    # Which waits for what is under way: who began it gets to know its end.
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(go_on(f, opening))
    threads: Any = loop._oxlip_file_threads  # type: ignore[attr-defined]
    threads.end()


def lines_of_a_program_that_ends() -> Iterator[bytes]:
    yield b"a"
    raise SystemExit(3)


@pytest.mark.parametrize("name", ["file", "/dev/null"])
def test_file_goes_on_after_an_exit(new_loop: NewLoop, tmp_path: Path, name: str) -> None:
    loop = new_loop()
    f: Any = loop.run_until_complete(opened(tmp_path / name, "wb"))
    with pytest.raises(SystemExit):
        loop.run_until_complete(f.writelines(lines_of_a_program_that_ends()))
    loop.run_until_complete(asyncio.wait_for(f.write(b"b"), 10))
    loop.run_until_complete(f.close())
    assert (tmp_path / name).read_bytes() in (b"ab", b"")
    loop.run_until_complete(loop.shutdown_asyncgens())


class Refused(OSError):
    pass


async def test_failure_keeps_nothing_alive(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        f: Any = await oxlip.open("/dev/full", "wb", 0)
        raw = weakref.ref(f._raw)
        with pytest.raises(OSError, match="No space") as failure:
            await f.write(b"x")
        await f.close()
        del failure, f
        for _ in range(5):
            await asyncio.sleep(0)
        assert raw() is None
        failed: list[weakref.ref[Refused]] = []

        def refuse(path: str, flags: int) -> int:
            error = Refused()
            failed.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        with pytest.raises(Refused) as refused:
            await opened(tmp_path / "file", "w", -1, None, None, None, True, refuse)
        del refused
        for _ in range(5):
            await asyncio.sleep(0)
        assert failed[0]() is None
    finally:
        gc.enable()
