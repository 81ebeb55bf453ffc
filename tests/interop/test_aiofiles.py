"""`oxlip.open` in the place of `aiofiles.open`: the same program, on asyncio and on ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiofiles
import oxlip
import pytest

pytestmark = pytest.mark.ours


async def program(open: Callable[..., Any], path: Path) -> list[Any]:
    """Everything that aiofiles' files have."""
    seen: list[Any] = []
    async with open(path, "w", encoding="utf-8") as f:
        seen.append((await f.write("first\n"), await f.writelines(["second\n", "€\n"])))
        seen.append((await f.tell(), await f.flush(), await f.writable(), await f.readable()))
        seen.append((await f.seekable(), await f.isatty(), f.line_buffering, f.name, f.mode))
    seen.append(f.closed)
    f = await open(path, encoding="utf-8")
    seen.append((await f.readline(), await f.read(3), await f.readlines(), f.newlines))
    seen.append((await f.seek(0), [line async for line in f], f.encoding, f.errors))
    await f.close()
    async with open(path, "rb+") as f:
        seen.append((await f.read1(3), await f.peek(), await f.readinto(bytearray(2))))
        seen.append((await f.truncate(8), await f.read(), await f.write(b"end")))
    async with open(path, "rb", buffering=0) as f:
        seen.append((await f.readall(), await f.read(1), f.mode, f.fileno() > 0))
    for arguments in ((path / "none",), (path, "q"), (path, "rb", 0, "utf-8")):
        with pytest.raises(Exception) as caught:
            await open(*arguments)
        seen.append((caught.type, str(caught.value)))
    with pytest.raises(ValueError) as caught:
        await f.read()
    return [*seen, str(caught.value), path.read_bytes()]


def test_same_program(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    expected = asyncio.run(program(aiofiles.open, path))
    assert loop.run_until_complete(program(oxlip.open, path)) == expected
