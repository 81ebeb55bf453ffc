"""`oxlip.open`, and what it returns: a file that is opened once somebody waits for it.

Opening may block, so it is done in a thread (`_file_threads.py`). What the arguments mean is in
`_file_layers.py`, what the file can do in `_files.py`.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from ._file_layers import Opening
from ._file_raw import RawFile
from ._file_threads import threads_of
from ._files import AsyncFile, BufferedFile, TextFile, UnbufferedFile

if TYPE_CHECKING:
    from _typeshed import FileDescriptorOrPath, OpenBinaryMode, OpenTextMode

    _Opener = Callable[[str, int], int]

_File = TypeVar("_File", bound=AsyncFile[Any])


class FileOpening(Generic[_File]):
    """What `oxlip.open()` returns: `f = await it`, or `async with it as f`."""

    __module__ = "oxlip"

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._opened: _File | None = None
        # What so many wait for: the raw file and its layers, or nothing if that may wait for ever.
        self._made: asyncio.Future[Any] | None = None
        self._may_hang = False
        self._waiting = 0

    def __await__(self) -> Generator[Any, Any, _File]:
        return self._open().__await__()

    async def __aenter__(self) -> _File:
        opened: Any = await self._open()
        return await opened.__aenter__()  # type: ignore[no-any-return]

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.close()

    async def _open(self) -> _File:
        """One file, however many wait for it."""
        if self._opened is None:
            self._waiting += 1
            try:
                raw, stream = await self._make()
                if self._opened is None:
                    self._opened = _over(asyncio.get_running_loop(), self._opening, raw, stream)
            except BaseException:
                if self._waiting == 1 and self._opened is None:
                    self._leave()
                raise
            finally:
                self._waiting -= 1
        return self._opened

    async def _make(self) -> tuple[RawFile, Any]:
        if self._made is None:
            self._opening.check()
            self._begin(self._opening.make_unless_it_may_hang, may_hang=False)
        made: tuple[RawFile, Any] | None = await self._begun()
        if made is None:
            if not self._may_hang:
                self._begin(self._opening.make, may_hang=True)
            made = await self._begun()
            assert made is not None
        return made

    def _begin(self, make: Callable[[], Any], *, may_hang: bool) -> None:
        loop = asyncio.get_running_loop()
        self._made = threads_of(loop).submit(loop, make, may_hang=may_hang)
        self._may_hang = may_hang

    def _begun(self) -> asyncio.Future[Any]:
        assert self._made is not None
        return asyncio.shield(self._made)

    def _leave(self) -> None:
        """It has failed, or nobody waits any more: then nothing is left open."""
        made, self._made = self._made, None
        self._may_hang = False
        if made is not None and not made.get_loop().is_closed():
            made.add_done_callback(_close_unwanted)


def _over(loop: asyncio.AbstractEventLoop, opening: Opening, raw: RawFile, stream: Any) -> Any:
    if opening.is_binary():
        return (UnbufferedFile if stream is raw else BufferedFile)(loop, raw, stream)
    return TextFile(loop, raw, stream, opening.newline)


def _close_unwanted(made: asyncio.Future[Any]) -> None:
    if not made.cancelled() and made.exception() is None and made.result():
        _, stream = made.result()
        loop = made.get_loop()
        if not loop.is_closed():
            threads_of(loop).submit(loop, stream.close)


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
    mode: OpenBinaryMode,
    buffering: int,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: _Opener | None = None,
) -> FileOpening[AsyncFile[bytes]]: ...
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
