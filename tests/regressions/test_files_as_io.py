"""Where `oxlip.open` did not do as `open` does, or let the loop wait."""

from __future__ import annotations

import asyncio
import builtins
import io
import os
from pathlib import Path
from typing import Any

import pytest
from support import loops

if not loops.STOCK_ONLY:
    import oxlip
    from oxlip import _file_raw

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(loops.STOCK_ONLY, reason="asyncio has no files"),
]


class Index:
    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


async def test_exclusive_creation_that_is_checked_first(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    with pytest.warns(RuntimeWarning, match="line buffering"):
        async with oxlip.open(tmp_path / "new", "xb", 1) as f:
            await f.write(b"x")
    with pytest.raises(ValueError, match="unbuffered text"):
        await oxlip.open(tmp_path / "another", "x", 0)
    assert not (tmp_path / "another").exists()


async def test_nothing_that_is_appended(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    """It had the file stand where the descriptor was, and be read again."""
    path = tmp_path / "file"
    path.write_bytes(b"text")
    async with oxlip.open(path, "ab+", buffering=0) as f:
        await f.seek(1)
        assert await f.read() == b"ext"
        assert await f.write(b"") == 0
        assert await f.tell() == 4
        assert await f.read() == b""
        await f.seek(1)
        assert await f.write(b"!") == 1
        assert await f.tell() == 5


async def test_arguments_with_an_index(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    f: Any
    async with oxlip.open(path, "rb", Index(0)) as f:  # type: ignore[call-overload]
        assert isinstance(f, oxlip.UnbufferedFile)
        async with oxlip.open(Index(f.fileno()), "rb", 0, closefd=False) as g:  # type: ignore[call-overload]
            assert await g.read(3) == b"con"
        assert await f.read() == b"tent"


async def test_detached_layers_move_the_descriptor(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    f = await oxlip.open(path, "rb")
    with f.detach() as raw:
        assert raw.read(7) == b"0123456"
        assert os.lseek(raw.fileno(), 0, os.SEEK_CUR) == 7
    async with oxlip.open(path, "rb") as f:
        assert f.raw.read(4) == b"0123"
        assert await f.read(2) == b"45"
        assert f.raw.tell() == 10


async def test_small_file_read_with_a_large_size(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 100_000)
    sizes = []

    def read(fd: int, size: int, place: int) -> Any:
        sizes.append(size)
        return os.pread(fd, size, place)

    monkeypatch.setattr(_file_raw, "read_file_now", read)
    async with oxlip.open(path, "rb") as f:
        assert len(await f.read(1 << 29)) == 1_000_000
    async with oxlip.open(path, "rb", 0) as f:
        assert len(await f.read()) == 1_000_000
    assert sizes
    assert max(sizes) <= 1024 * 1024


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-8"])
async def test_text_whose_position_cannot_be_told(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, encoding: str
) -> None:
    """`tell()` before each read raised what is no OSError."""
    path = tmp_path / "file"
    path.write_text("a😀\r" * 5000, encoding=encoding, newline="\r")
    with builtins.open(path, encoding=encoding, newline="\r") as expected:
        async with oxlip.open(path, encoding=encoding, newline="\r") as f:
            for name, *arguments in (("read", 3), ("seek", 0), ("readlines", 1), ("flush",)):
                wanted = getattr(expected, name)(*arguments)
                assert await getattr(f, name)(*arguments) == wanted
            assert await f.read(3) == expected.read(3)


async def test_files_of_the_kernel_are_not_on_a_disk(loop: asyncio.AbstractEventLoop) -> None:
    """Some of them wait for ever, and would keep the threads from other files."""
    async with oxlip.open("/proc/self/status") as f:
        assert not f._raw.regular
        assert (await f.readline()).startswith("Name")


def test_any_file_can_be_typed_as_one_that_writes() -> None:
    for name in ("read", "write", "writelines"):
        assert callable(getattr(oxlip.AsyncFile, name))


async def test_buffers_with_gaps(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    """Small ones and large ones alike."""
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    async with oxlip.open(path, "r+b") as f:
        with builtins.open(path, "r+b") as expected:
            for size in (10, 200_000, 4_000_000):
                gaps: Any = memoryview(bytearray(size))[::2]
                for method in ("write", "readinto", "readinto1"):
                    with pytest.raises((TypeError, BufferError)) as wanted:
                        getattr(expected, method)(gaps)
                    with pytest.raises(wanted.type) as got:
                        await getattr(f, method)(gaps)
                    assert str(got.value) == str(wanted.value)
        assert await f.read() == bytes(100)


@pytest.mark.parametrize("buffering", [0, -1])
async def test_large_pieces_are_not_copied_on_the_loops_thread(
    loop: asyncio.AbstractEventLoop,
    tmp_path: Path,
    buffering: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "file"
    content = b"0123456789abcdef" * 30_000
    path.write_bytes(content)
    fetched: list[int] = []
    fetch_now = _file_raw.RawFile.fetch_now

    def counted(raw: Any, place: int, size: int) -> bool:
        fetched.append(size)
        return fetch_now(raw, place, size)

    monkeypatch.setattr(_file_raw.RawFile, "fetch_now", counted)
    f: Any
    async with oxlip.open(path, "rb", buffering) as f:
        assert await f.read(5) == content[:5]
        assert await f.read(300_000) == content[5:300_005]
        buffer = bytearray(150_000)
        assert await f.readinto(buffer) == 150_000
        assert buffer == content[300_005:450_005]
        assert await f.read(300_000) == content[450_005:]
        # Or what it takes to fill a buffer, which is as large since Python 3.15.
        assert max(fetched) <= max(_file_raw.LARGE_PIECE, 5 + io.DEFAULT_BUFFER_SIZE)
        with pytest.raises(OverflowError, match="index-sized"):
            await f.read(1 << 70)


@pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer reports the attempt"
)
async def test_more_than_there_is_memory_for(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """It ended the process."""
    if not hasattr(loop, "_file_read"):
        pytest.skip("the driver does not read files")
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with path.open("rb") as f:
        for size in (1 << 62, 1 << 63):
            with pytest.raises(MemoryError):
                loop._file_read(f.fileno(), 0, size)
        transfer = loop._file_read(f.fileno(), 0, 100)
        assert transfer is None or await transfer == b"content"
