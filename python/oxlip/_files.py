"""`oxlip.open`: files whose operations are awaited, with the meaning of `open` and of `io`.

Each file is an ordinary one of `io`'s, over a raw file of ours (`_file_raw.py`). For an operation
on a regular file all bytes that it may need are fetched first: from the system's memory without a
wait, by the loop's driver where it does files (io_uring), or in one of few threads
(`_file_threads.py`). Then `io`'s method runs on the loop's thread, and what it writes is written by
driver or thread. Where it cannot be told what an operation needs (a rare encoding, a file that is
none), all of it runs in a thread.

Works on any loop; a file belongs to the one it was opened on.
"""

from __future__ import annotations

import asyncio
import codecs
import io
import operator
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from ._file_open import Opening
from ._file_raw import EVERYTHING, NOTHING, SOMETHING, WRITTEN, Need, RawFile
from ._file_threads import threads_of
from ._file_work import FileWork

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import (
        FileDescriptorOrPath,
        OpenBinaryMode,
        OpenTextMode,
        ReadableBuffer,
        WriteableBuffer,
    )

    _Opener = Callable[[str, int], int]

_Self = TypeVar("_Self", bound="AsyncFile[Any]")
_File = TypeVar("_File", bound="AsyncFile[Any]")
_Data = TypeVar("_Data", str, bytes)

# In these a byte of ASCII is that character and no part of another, and no character takes more
# than four bytes. A decoder with one of the error handlers gives something for any four bytes.
_PLAIN = ("utf-8", "ascii", "iso8859-", "cp125", "cp437", "cp850", "koi8-")
_GIVING = frozenset(("strict", "replace", "backslashreplace", "surrogateescape"))


class AsyncFile(Generic[_Data]):
    """What `oxlip.open` gives: the methods of the file that `open` gives, to be awaited."""

    __module__ = "oxlip"
    # A buffer counts what it has not written.
    _FOR_TELL = NOTHING

    def __init__(self, loop: asyncio.AbstractEventLoop, raw: RawFile, stream: Any) -> None:
        self._loop = loop
        self._raw = raw
        self._stream = stream
        self._work = FileWork(loop, raw, stream, self._least())
        # Operations that read can be told what they need.
        self._fetches = raw.regular

    def _least(self) -> int:
        return io.DEFAULT_BUFFER_SIZE

    def __repr__(self) -> str:
        return f"<oxlip.{type(self).__name__} of {self._stream!r}>"

    # Reading

    async def read(self, size: int | None = -1, /) -> _Data:
        return await self._read("read", self._bytes(size), size)  # type: ignore[no-any-return]

    async def readline(self, size: int = -1, /) -> _Data:
        return await self._read("readline", self._line(size), size)  # type: ignore[no-any-return]

    async def readlines(self, hint: int = -1, /) -> list[_Data]:
        if not self._raw.regular:
            lines = []
            total = 0
            while (hint is None or hint <= 0 or total < hint) and (line := await self.readline()):
                lines.append(line)
                total += len(line)
            return lines
        count = _index(hint)
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
        self._check_loop()
        call = getattr(self._stream, name)
        if self._fetches:
            return await self._work.perform(need, call, *args)
        if self._raw.regular:
            return await self._work.in_thread(call, *args, undo=True)
        await self._work.take_turn()
        try:
            return await self._read_in_thread(name, call, *args)
        finally:
            self._work.end_turn()

    async def _read_in_thread(self, name: str, call: Any, size: int | None = -1) -> Any:
        """Of what cannot be fetched ahead. First comes what a cancelled reader has left."""
        work = self._work
        kept = work.kept
        if not kept:
            return await work.call_in_thread(call, size, keep=name != "peek", may_hang=True)
        wanted = len(kept) if size is None or size < 0 else size
        end = wanted
        if name == "readline":
            end = kept.find("\n" if isinstance(kept, str) else b"\n") + 1 or len(kept)
            end = min(end, wanted)
        part = kept[:end]
        if name == "peek":
            return kept
        complete = (
            name in ("read1", "readall" if isinstance(self, UnbufferedFile) else "")
            or (name == "readline" and part[-1:] in ("\n", b"\n"))
            or (size is not None and 0 <= size <= len(part))
            or (isinstance(self, UnbufferedFile) and name == "read" and size not in (None, -1))
        )
        if complete:
            work.kept = kept[end:]
            return part
        left = size if size is None or size < 0 else size - len(part)
        rest = await work.call_in_thread(call, left, keep=True, may_hang=True)
        work.kept = None
        return part + rest

    def _bytes(self, size: Any) -> Need:
        """What `read(size)` may need."""
        count = _index(size)
        return EVERYTHING if count < 0 else Need(count)

    def _line(self, size: Any = -1, behind: int = 0) -> Need:
        """What the end of a line that is not before `behind` may need."""
        count = _index(size)
        return Need(None if count < 0 else count, b"\n", behind)

    # Writing

    async def _write(self, call: Callable[..., Any], data: Any) -> Any:
        self._check_loop()
        work = self._work
        if not self._raw.regular:
            return await work.in_thread(call, data, may_hang=True)
        work.dirty = work.writes
        return await work.perform(NOTHING, call, data)

    async def flush(self) -> None:
        self._check_loop()
        if self._raw.regular:
            await self._work.perform(NOTHING, self._stream.flush)
        else:
            await self._work.in_thread(self._stream.flush, may_hang=True)

    async def truncate(self, size: int | None = None, /) -> int:
        self._check_loop()
        return await self._work.in_thread(self._stream.truncate, size)  # type: ignore[no-any-return]

    # The position

    async def seek(self, offset: int, whence: int = 0, /) -> int:
        self._check_loop()
        seek = self._stream.seek
        if self._raw.regular and self._fetches and whence in (0, 1) and self._is_place(offset):
            result = await self._work.perform(WRITTEN, seek, offset, whence)
        else:
            result = await self._work.in_thread(seek, offset, whence)
        self._work.kept = None
        return result  # type: ignore[no-any-return]

    async def tell(self) -> int:
        self._check_loop()
        if self._fetches:
            return await self._work.perform(self._FOR_TELL, self._stream.tell)  # type: ignore[no-any-return]
        return await self._work.in_thread(self._stream.tell)  # type: ignore[no-any-return]

    def _is_place(self, offset: object) -> bool:
        """Not a text's position behind a part of what its decoder needs: then it reads that."""
        return not (isinstance(offset, int) and offset >> 64 > 0)

    # The end

    async def close(self) -> None:
        """Writes what is left and closes the file, after what was begun before."""
        self._check_loop()
        if not self._raw.closed or self._work.is_busy():
            await self._work.in_thread(self._stream.close, may_hang=not self._raw.regular)

    async def __aenter__(self: _Self) -> _Self:
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
        return self._stream.closed  # type: ignore[no-any-return]

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

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(f"{self!r} belongs to a different event loop")


class _BinaryFile(AsyncFile[bytes]):
    async def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        if self._raw.regular:
            with memoryview(buffer) as view:
                need = Need(view.nbytes)
            return await self._read("readinto", need, buffer)  # type: ignore[no-any-return]
        return await self._copy("read", buffer)

    async def _copy(self, name: str, buffer: Any) -> int | None:
        """As `readinto`, without lending the program's buffer to a thread."""
        with memoryview(buffer) as view, view.cast("B") as flat:
            if flat.readonly:
                raise TypeError(f"{name}into() needs a writable buffer, not {buffer!r}")
            data = await self._read(name, NOTHING, len(flat))
            if data is None:
                return None
            flat[: len(data)] = data
            return len(data)

    async def write(self, data: ReadableBuffer, /) -> int:
        if not self._raw.regular and not isinstance(data, (bytes, str)):
            data = bytes(data)  # The thread's.
        return await self._write(self._stream.write, data)  # type: ignore[no-any-return]

    async def writelines(self, lines: Iterable[ReadableBuffer], /) -> None:
        await self._write(self._stream.writelines, lines)


class BufferedFile(_BinaryFile):
    """A binary file with a buffer: `io.BufferedReader`, `BufferedWriter` or `BufferedRandom`."""

    __module__ = "oxlip"

    async def read1(self, size: int = -1, /) -> bytes:
        return await self._read("read1", Need(max(_index(size), 1)), size)  # type: ignore[no-any-return]

    async def readinto1(self, buffer: WriteableBuffer, /) -> int | None:
        if self._raw.regular:
            with memoryview(buffer) as view:
                need = Need(view.nbytes)
            return await self._read("readinto1", need, buffer)  # type: ignore[no-any-return]
        return await self._copy("read1", buffer)

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

    def _least(self) -> int:
        return 1

    async def readall(self) -> bytes:
        if self._raw.regular:
            return await self._read("readall", EVERYTHING)  # type: ignore[no-any-return]
        return await self.read()

    async def _write(self, call: Callable[..., Any], data: Any) -> Any:
        try:
            return await super()._write(call, data)
        except OSError:
            # There is no buffer that it could stay in.
            self._raw.unstage()
            raise

    @property
    def closefd(self) -> bool:
        return self._raw.closefd


class TextFile(AsyncFile[str]):
    """A text: `io.TextIOWrapper`."""

    __module__ = "oxlip"
    _FOR_TELL = WRITTEN

    def __init__(
        self, loop: asyncio.AbstractEventLoop, raw: RawFile, stream: Any, newline: str | None
    ) -> None:
        super().__init__(loop, raw, stream)
        plain = codecs.lookup(stream.encoding).name.startswith(_PLAIN)
        self._fetches = raw.regular and plain and stream.errors in _GIVING
        self._line_end = (newline or "\n").encode()
        self._universal = not newline

    def _bytes(self, size: Any) -> Need:
        count = _index(size)
        # And a mark of the byte order at the beginning, and half an end of a line.
        return EVERYTHING if count < 0 else Need(4 * count + 8)

    def _line(self, size: Any = -1, behind: int = 0) -> Need:
        count = _index(size)
        return Need(
            None if count < 0 else 4 * count + 8, self._line_end, 4 * behind, self._universal
        )

    async def write(self, text: str, /) -> int:
        return await self._write(self._stream.write, text)  # type: ignore[no-any-return]

    async def writelines(self, lines: Iterable[str], /) -> None:
        await self._write(self._stream.writelines, lines)

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


class FileOpening(Generic[_File]):
    """What `oxlip.open()` returns: `f = await it`, or `async with it as f`."""

    __module__ = "oxlip"

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._opened: _File | None = None

    def __await__(self) -> Generator[Any, Any, _File]:
        return self._open().__await__()

    async def __aenter__(self) -> _File:
        return await self._open()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.close()

    async def _open(self) -> _File:
        if self._opened is None:
            self._opened = await _open(self._opening)
        return self._opened


async def _open(opening: Opening) -> Any:
    opening.check()
    loop = asyncio.get_running_loop()
    threads = threads_of(loop)
    raw, stream = await _opened(loop, threads.submit(loop, opening.make_unless_fifo)) or (
        await _opened(loop, threads.submit_alone(loop, opening.make))
    )
    if opening.is_binary():
        return (UnbufferedFile if stream is raw else BufferedFile)(loop, raw, stream)
    return TextFile(loop, raw, stream, opening.newline)


async def _opened(loop: asyncio.AbstractEventLoop, opening: asyncio.Future[Any]) -> Any:
    """What has been opened; who is cancelled leaves nothing open."""
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(opening: asyncio.Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None and opening.result():
        _, stream = opening.result()
        loop = opening.get_loop()
        if not loop.is_closed():
            threads_of(loop).submit(loop, stream.close)


def _index(size: Any) -> int:
    """A size as `io` takes it; what is none is nothing to prepare for: it will say so."""
    if size is None:
        return -1
    try:
        return operator.index(size)
    except TypeError:
        return 0


@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenTextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: _Opener | None = None,
) -> FileOpening[TextFile]: ...
@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenBinaryMode,
    buffering: Literal[0],
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: _Opener | None = None,
) -> FileOpening[UnbufferedFile]: ...
@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenBinaryMode,
    buffering: Literal[-1, 1] = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: _Opener | None = None,
) -> FileOpening[BufferedFile]: ...
@overload
def open(
    file: FileDescriptorOrPath,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: _Opener | None = None,
) -> FileOpening[Any]: ...
def open(
    file: FileDescriptorOrPath,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: _Opener | None = None,
) -> FileOpening[Any]:
    """Opens a file as `open` does, without blocking the loop.

    To be awaited, or used in `async with`. The file has the methods of what `open` gives, to be
    awaited too, and `async for` gives its lines.
    """
    if isinstance(mode, str) and "b" not in mode:
        encoding = io.text_encoding(encoding, 2)  # type: ignore[attr-defined]
    return FileOpening(Opening(file, mode, buffering, encoding, errors, newline, closefd, opener))
