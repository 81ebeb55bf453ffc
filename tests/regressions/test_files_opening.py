"""`oxlip.open(…)` is one file, however often and by however many it is awaited."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path
from typing import Any

import pytest
from support import loops
from support.files import Threads

if not loops.STOCK_ONLY:
    import oxlip

pytestmark = pytest.mark.skipif(loops.STOCK_ONLY, reason="asyncio has no files")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def threads(loop: asyncio.AbstractEventLoop) -> Threads:
    return Threads(loop)


async def begun(coroutine: Any) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    return task


async def opened(opening: Any) -> Any:
    return await opening


def descriptors_of(path: Path) -> int:
    """How often this process has it open."""
    count = 0
    for number in os.listdir("/dev/fd"):
        try:
            count += os.path.samestat(os.fstat(int(number)), path.stat())
        except OSError:
            pass  # The listing's own.
    return count


async def test_awaited_by_two_at_once(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    opening = oxlip.open(path, "rb")
    f, again = await asyncio.gather(opened(opening), opened(opening))
    assert f is again
    assert descriptors_of(path) == 1
    await f.close()
    assert descriptors_of(path) == 0


async def test_entered_by_two_at_once(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    """Who leaves first closes it, as with any file that two have."""
    opening = oxlip.open(path, "rb")
    async with opening as f:
        async with opening as again:
            assert f is again
        assert f.closed
    assert descriptors_of(path) == 0


async def test_entered_again(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    opening = oxlip.open(path, "rb")
    async with opening as f:
        pass
    with pytest.raises(ValueError, match="closed file"):
        async with opening:
            pass
    with pytest.raises(ValueError, match="closed file"):
        async with f:
            pass


async def test_failure_is_everybodys(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    path = tmp_path / "new"
    opening = oxlip.open(path)
    outcomes = await asyncio.gather(opened(opening), opened(opening), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [FileNotFoundError] * 2
    path.touch()
    async with opening as f:  # It can be tried again.
        assert await f.read() == ""


@pytest.mark.parametrize("ticks", range(4))
@pytest.mark.parametrize("which", [0, 1])
async def test_one_of_two_is_cancelled(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, threads: Threads, which: int, ticks: int
) -> None:
    """The other gets the file, which is created only once."""
    path = tmp_path / "new"
    opening = oxlip.open(path, "x")
    with threads.held():
        tasks = [await begun(opened(opening)), await begun(opened(opening))]
        if ticks == 0:
            tasks[which].cancel()
    while not path.exists():
        await asyncio.sleep(0)
    for _ in range(ticks - 1):
        await asyncio.sleep(0)
    tasks[which].cancel()
    f = await tasks[1 - which]
    await asyncio.wait(tasks)
    assert not f.closed
    await f.close()


async def test_all_are_cancelled(
    loop: asyncio.AbstractEventLoop, path: Path, threads: Threads
) -> None:
    opening = oxlip.open(path, "rb")
    with threads.held():
        tasks = [await begun(opened(opening)), await begun(opened(opening))]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    await threads.until_idle()
    assert descriptors_of(path) == 0
    async with opening as f:
        assert await f.read() == b"content"


async def test_coroutine_that_is_closed_leaves_nothing_open(
    loop: asyncio.AbstractEventLoop, path: Path, threads: Threads
) -> None:
    with threads.held():
        coroutine = opened(oxlip.open(path))
        coroutine.send(None)
        coroutine.close()
    await threads.until_idle()
    gc.collect()
    assert descriptors_of(path) == 0


async def test_fifo_that_two_wait_for(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    """Which is opened in another way, and once."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    opening = oxlip.open(path, "rb")
    tasks = [await begun(opened(opening)), await begun(opened(opening))]
    async with oxlip.open(path, "wb") as writer:
        f, again = await asyncio.gather(*tasks)
        assert f is again
        await writer.write(b"hello")
        await writer.flush()
        assert await f.read(5) == b"hello"
    await f.close()
