"""The files that `oxlip.open` gives: those of `io`, with operations that are awaited.

Each is an ordinary file of `io`'s over a raw file of ours (`_file_raw.py`). Before an operation
reads from a regular file, all the bytes that it may need are fetched: from the page cache,
which needs no wait, else by the loop's driver where it does files (io_uring), else in one of a
few threads (`_file_threads.py`). Then `io`'s method runs on the loop's thread. A write runs
there too if it fits into the buffers. Everything else runs in a thread as a whole.

A file works on any loop, and belongs to the one it was opened on.
"""

from __future__ import annotations

import asyncio
import codecs
import io
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._file_kept import Kept
from ._file_raw import EVERYTHING, LARGE_PIECE, SOMETHING, Need, RawFile, count_of
from ._file_work import FileWork

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import ReadableBuffer, WriteableBuffer

_Self = TypeVar("_Self", bound="AsyncFile[Any]")
_Data = TypeVar("_Data", str, bytes)

# In these a byte of ASCII is that character and no part of another, and no character takes more
# than four bytes. A decoder with one of the error handlers gives something for any four bytes.
_PLAIN = ("utf-8", "ascii", "iso8859-", "cp125", "cp437", "cp850", "koi8-")
_GIVING = frozenset(("strict", "replace", "backslashreplace", "surrogateescape"))
# With these no character becomes more than eight bytes, or four of a plain encoding.
_SHORT = frozenset(("strict", "ignore", "replace", "surrogateescape", "surrogatepass"))


class AsyncFile(Generic[_Data]):
    """A file that `oxlip.open` gives, with the methods of `open`'s files, to be awaited."""

    __module__ = "oxlip"
    # Whether `tell()` writes what is in the buffers.
    _TELL_FLUSHES = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        raw: RawFile,
        stream: Any,
        *,
        room: int = 0,
        fetches: bool = True,
        line_end: bytes | str | None = b"\n",
    ) -> None:
        self._loop = loop
        self._raw = raw
        self._stream = stream
        self._work = FileWork(
            loop,
            raw,
            stream,
            room=room,
            fetches=raw.regular and fetches,
            kept=Kept(line_end, is_buffered=stream is not raw),
            goes_back=raw.regular and isinstance(line_end, bytes),
        )

    def __repr__(self) -> str:
        return f"<oxlip.{type(self).__name__} of {self._stream!r}>"

    # Reading

    async def read(self, size: int | None = -1, /) -> _Data:
        return await self._read("read", self._bytes(size), size)  # type: ignore[no-any-return]

    async def readline(self, size: int = -1, /) -> _Data:
        return await self._read("readline", self._line(size), size)  # type: ignore[no-any-return]

    async def readlines(self, hint: int = -1, /) -> list[_Data]:
        count = count_of(hint)
        need = EVERYTHING if count <= 0 else self._line(behind=count)
        return await self._read("readlines", need, hint)  # type: ignore[no-any-return]

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> _Data:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def _read(self, name: str, need: Need, *args: Any) -> Any:
        self._check()
        return await self._work.read(name, need, getattr(self._stream, name), *args)

    def _bytes(self, size: Any) -> Need:
        """What `read(size)` may need."""
        count = count_of(size)
        return EVERYTHING if count < 0 else Need(count)

    def _line(self, size: Any = -1, behind: int = 0) -> Need:
        """What `readline(size)` may need for a line whose end is not before `behind`."""
        count = count_of(size)
        return Need(None if count < 0 else count, b"\n", behind)

    # Writing

    async def write(self, data: _Data, /) -> int:
        self._check()
        return await self._work.write(  # type: ignore[no-any-return]
            self._stream.write, data, self._written(data)
        )

    async def writelines(self, lines: Iterable[_Data], /) -> None:
        self._check()
        size: int | None = None
        if isinstance(lines, (list, tuple)):
            lines = list(lines)
            sizes = [self._written(line) for line in lines]
            if None not in sizes:
                size = sum(sizes)  # type: ignore[arg-type]
        await self._work.write(self._stream.writelines, lines, size)

    def _written(self, data: Any) -> int | None:
        """The most bytes that writing it takes; `None` if that is not known."""
        return None

    async def flush(self) -> None:
        self._check()
        await self._work.flush()

    async def truncate(self, size: int | None = None, /) -> int:
        self._check()
        return await self._work.perform(  # type: ignore[no-any-return]
            self._stream.truncate, size, is_quick=False
        )

    # The position

    async def seek(self, offset: int, whence: int = 0, /) -> int:
        self._check()
        return await self._work.seek(  # type: ignore[no-any-return]
            self._stream.seek, offset, whence, is_quick=self._is_quick(offset, whence)
        )

    async def tell(self) -> int:
        self._check()
        return await self._work.perform(  # type: ignore[no-any-return]
            self._stream.tell, is_quick=True, flushes=self._TELL_FLUSHES
        )

    def _is_quick(self, offset: object, whence: object) -> bool:
        """Whether seeking there needs nothing from the file."""
        return whence in (0, 1)

    # The end

    async def close(self) -> None:
        """Writes what is left and closes the file, after what was begun before."""
        self._check_loop()
        await self._work.close()

    async def __aenter__(self: _Self) -> _Self:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    # What is known without a wait

    @property
    def closed(self) -> bool:
        return self._work.is_given_up or self._stream.closed

    @property
    def name(self) -> Any:
        return self._stream.name

    @property
    def mode(self) -> str:
        return self._stream.mode  # type: ignore[no-any-return]

    def fileno(self) -> int:
        number = self._stream.fileno()
        self._raw.share()
        return number  # type: ignore[no-any-return]

    async def readable(self) -> bool:
        return self._stream.readable()  # type: ignore[no-any-return]

    async def writable(self) -> bool:
        return self._stream.writable()  # type: ignore[no-any-return]

    async def seekable(self) -> bool:
        return self._stream.seekable()  # type: ignore[no-any-return]

    async def isatty(self) -> bool:
        return self._stream.isatty()  # type: ignore[no-any-return]

    def _check(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            self._check_loop()
        if self._work.is_given_up:
            raise ValueError("I/O operation on closed file.")

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(f"{self!r} belongs to a different event loop")


class _BinaryFile(AsyncFile[bytes]):
    def __init__(
        self, loop: asyncio.AbstractEventLoop, raw: RawFile, stream: Any, room: int = 0
    ) -> None:
        super().__init__(loop, raw, stream, room=room)
        raw.large_piece = LARGE_PIECE

    async def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        return await self._read_into("read", buffer)

    async def _read_into(self, name: str, buffer: Any) -> int | None:
        into = getattr(self._stream, "readinto" if name == "read" else "readinto1")
        self._check()
        try:
            view = memoryview(buffer)
        except TypeError:
            return into(buffer)  # type: ignore[no-any-return]  # It says so.
        with view:
            if view.readonly or not view.c_contiguous:
                return into(buffer)  # type: ignore[no-any-return]
            read = getattr(self._stream, name)
            size = view.nbytes
            # No thread gets the program's buffer, which the next operation might write to as well.
            result = await self._work.read(
                name, Need(size), read, size, on_loop=partial(into, buffer)
            )
            if isinstance(result, bytes):
                with view.cast("B") as flat:
                    flat[: len(result)] = result
                return len(result)
            return result  # type: ignore[no-any-return]

    async def write(self, data: ReadableBuffer, /) -> int:
        return await super().write(data)  # type: ignore[arg-type]

    async def writelines(self, lines: Iterable[ReadableBuffer], /) -> None:
        await super().writelines(lines)  # type: ignore[arg-type]

    def _written(self, data: Any) -> int | None:
        if isinstance(data, bytes):
            return len(data)
        try:
            with memoryview(data) as view:
                return view.nbytes
        except TypeError:
            return 0  # `io` says so.


class BufferedFile(_BinaryFile):
    """A binary file with a buffer: `io.BufferedReader`, `BufferedWriter` or `BufferedRandom`."""

    __module__ = "oxlip"

    def __init__(self, loop: asyncio.AbstractEventLoop, raw: RawFile, stream: Any) -> None:
        super().__init__(loop, raw, stream, room=raw.unit)

    async def read1(self, size: int = -1, /) -> bytes:
        return await self._read("read1", Need(max(count_of(size), 1)), size)  # type: ignore[no-any-return]

    async def readinto1(self, buffer: WriteableBuffer, /) -> int | None:
        return await self._read_into("read1", buffer)

    async def peek(self, size: int = 0, /) -> bytes:
        return await self._read("peek", SOMETHING, size)  # type: ignore[no-any-return]

    def detach(self) -> io.RawIOBase:
        self._raw.share()
        return self._stream.detach()  # type: ignore[no-any-return]

    @property
    def raw(self) -> io.RawIOBase:
        self._raw.share()
        return self._stream.raw  # type: ignore[no-any-return]


class UnbufferedFile(_BinaryFile):
    """A binary file without a buffer: `io.FileIO`."""

    __module__ = "oxlip"

    async def readall(self) -> bytes:
        if self._raw.regular:
            return await self._read("readall", EVERYTHING)  # type: ignore[no-any-return]
        return await self.read()

    @property
    def closefd(self) -> bool:
        return self._raw.closefd


class TextFile(AsyncFile[str]):
    """A text file: `io.TextIOWrapper`."""

    __module__ = "oxlip"
    _TELL_FLUSHES = True

    def __init__(
        self, loop: asyncio.AbstractEventLoop, raw: RawFile, stream: Any, newline: str | None
    ) -> None:
        encoding = codecs.lookup(stream.encoding).name
        self._is_plain = encoding.startswith(_PLAIN)
        self._mark = 3 if encoding == "utf-8-sig" else 0
        self._line_end = (newline or "\n").encode()
        self._universal = not newline
        super().__init__(
            loop,
            raw,
            stream,
            # A text file has a buffer of its own, above the binary one.
            room=max(raw.unit, stream._CHUNK_SIZE),
            fetches=self._is_plain and stream.errors in _GIVING,
            line_end=None if newline == "" else newline or "\n",
        )

    def _written(self, data: Any) -> int | None:
        if not isinstance(data, str):
            return 0  # `io` says so.
        if self._stream.line_buffering and ("\n" in data or "\r" in data):
            return None  # It is flushed.
        size = len(data)
        if not (self._is_plain and data.isascii()):
            if self._stream.errors not in _SHORT:
                return None
            size = 4 * size if self._is_plain else 8 * size + 16
        return (size if self._line_end != b"\r\n" else 2 * size) + self._mark

    def _bytes(self, size: Any) -> Need:
        count = count_of(size)
        # And a mark of the byte order at the beginning, and half an end of a line.
        return EVERYTHING if count < 0 else Need(4 * count + 8)

    def _line(self, size: Any = -1, behind: int = 0) -> Need:
        count = count_of(size)
        return Need(
            None if count < 0 else 4 * count + 8, self._line_end, 4 * behind, self._universal
        )

    def _is_quick(self, offset: object, whence: object) -> bool:
        # Positions that say what the decoder needs make it read that again; so may the present one.
        return whence == 0 and not (isinstance(offset, int) and offset >> 64 > 0)

    def detach(self) -> io.BufferedIOBase:
        self._raw.share()
        return self._stream.detach()  # type: ignore[no-any-return]

    @property
    def buffer(self) -> io.BufferedIOBase:
        self._raw.share()
        return self._stream.buffer  # type: ignore[no-any-return]

    @property
    def encoding(self) -> str:
        return self._stream.encoding  # type: ignore[no-any-return]

    @property
    def errors(self) -> str | None:
        return self._stream.errors  # type: ignore[no-any-return]

    @property
    def newlines(self) -> str | tuple[str, ...] | None:
        return self._stream.newlines  # type: ignore[no-any-return]

    @property
    def line_buffering(self) -> bool:
        return self._stream.line_buffering  # type: ignore[no-any-return]
