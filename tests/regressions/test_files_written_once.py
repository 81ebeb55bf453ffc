"""What is written to a file is in it once: not twice after an error or a fork, and not in part."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support import children, loops
from support.files import size_limit

if not loops.STOCK_ONLY:
    import oxlip

PROGRAM = Path(__file__).with_name("files_at_the_end.py")
# More than the buffer of a file takes, which is 128 KiB on the newest Pythons.
MORE_THAN_A_BUFFER = 1_000_000

pytestmark = pytest.mark.skipif(loops.STOCK_ONLY, reason="asyncio has no files")


@pytest.mark.parametrize("what", ["close", "close at once", "fork"])
@pytest.mark.parametrize("buffering", [0, -1])
def test_append_under_way(kind: str, tmp_path: Path, what: str, buffering: int) -> None:
    path = tmp_path / "file"
    size = MORE_THAN_A_BUFFER
    children.run(PROGRAM, kind, what, str(path), str(buffering), str(size), timeout=30)
    assert path.stat().st_size == size


def test_append_under_way_at_the_end_of_the_program(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    children.run(PROGRAM, kind, "exit", str(path), "-1", str(100 << 20), timeout=30)
    assert path.stat().st_size == 100 << 20


async def test_write_that_is_tried_again(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = bytes(range(256)) * (MORE_THAN_A_BUFFER // 256)
    async with oxlip.open(path, "wb") as f:
        await f.write(b"head")
        with size_limit(4):
            for _ in range(3):
                with pytest.raises(OSError, match="too large"):
                    await f.write(data)
        await f.write(data)
    assert path.read_bytes() == b"head" + data


async def test_short_write_without_a_buffer(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    async with oxlip.open(tmp_path / "file", "wb", 0) as f:
        with size_limit(1000):
            assert await f.write(b"x" * 3000) == 1000
        assert await f.tell() == 1000


def interrupted() -> Any:
    yield b"one" * 5000
    yield b"two"
    raise ZeroDivisionError


@pytest.mark.parametrize("buffering", [0, -1])
async def test_lines_made_by_a_generator_that_fails(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, buffering: int
) -> None:
    path = tmp_path / "file"
    async with oxlip.open(path, "wb", buffering) as f:
        with pytest.raises(ZeroDivisionError):
            await f.writelines(interrupted())
    assert path.read_bytes() == b"one" * 5000 + b"two"


async def test_lines_are_written_as_they_are_made(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    seen = []

    def lines() -> Any:
        for _ in range(5):
            yield bytes(100_000)
            seen.append(path.stat().st_size)

    async with oxlip.open(path, "wb") as f:
        await f.writelines(lines())
    assert seen[-1] >= 400_000
