"""What the arguments of `open` mean: from a raw file of ours to the layers of `io` over it.

Runs in a thread, because opening may block.
"""

from __future__ import annotations

import atexit
import io
import itertools
import operator
import os
import stat
import sys
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from ._file_raw import RawFile

NoneType = type(None)

# At the interpreter's end the descriptor may be closed before the buffer above it is flushed.
_to_flush: weakref.WeakSet[Any] = weakref.WeakSet()


@atexit.register
def _flush_all() -> None:
    for stream in list(_to_flush):
        try:
            if not stream.closed:
                stream.flush()
        except (OSError, ValueError):
            pass  # As when it is collected.


_MODES = frozenset(
    "".join(letters)
    for way in "rwax"
    for others in ("", "+", "b", "t", "+b", "+t")
    for letters in itertools.permutations(way + others)
)


class Opening(NamedTuple):
    """The arguments of `open`."""

    file: Any
    mode: str
    buffering: int
    encoding: str | None
    errors: str | None
    newline: str | None
    closefd: bool
    opener: Callable[[str, int], int] | None

    def is_binary(self) -> bool:
        return "b" in self.mode

    def may_hang(self) -> bool:
        """Whether opening it may wait for ever, as a FIFO does for its other end."""
        if hasattr(self.file, "__index__"):
            return False
        try:
            kind = stat.S_IFMT(os.stat(self.file).st_mode)
        except (OSError, ValueError, TypeError):
            return False  # To open it will say so.
        return kind not in (stat.S_IFREG, stat.S_IFDIR)

    def check(self) -> None:
        """Raises what `open` raises for such arguments before it touches a file."""
        text = (self.encoding, self.errors, self.newline)
        fine = (
            isinstance(self.mode, str) and isinstance(self.buffering, int) and self.mode in _MODES
        )
        if fine and self.is_binary():
            fine = text == (None, None, None) and self.buffering != 1
        elif fine:
            fine = self.buffering != 0 and all(isinstance(it, (str, NoneType)) for it in text)
        if not fine:
            # What is there already would be an error of its own.
            mode = self.mode
            if isinstance(mode, str) and mode in _MODES:
                mode = mode.replace("x", "w")
            arguments: Any = (mode, self.buffering, *text)
            # `open`'s own error. (A warning about line buffering is none.)
            with open(os.devnull, *arguments):
                pass

    def make_unless_it_may_hang(self) -> tuple[RawFile, Any] | None:
        """As `make`, or `None` if opening may hang."""
        return None if self.may_hang() else self.make()

    def make(self) -> tuple[RawFile, Any]:
        """The raw file, and what `open` would return."""
        mode = self.mode.replace("b", "").replace("t", "")
        file = self.file if hasattr(self.file, "__index__") else os.fspath(self.file)
        raw = RawFile(file, mode, self.closefd, self.opener)
        try:
            stream = self._layers(raw)
            if stream is not raw and raw.writable():
                _to_flush.add(stream)
            return raw, stream
        except BaseException:
            raw.close()
            raise

    def _layers(self, raw: RawFile) -> Any:
        size = operator.index(self.buffering)
        lines = size == 1 or (size < 0 and raw.isatty())
        if size < 0 or size == 1:
            size = _buffer_size(raw)
        if size == 0:
            return raw
        raw.unit = size
        buffer: Any
        if "+" in self.mode:
            buffer = io.BufferedRandom(raw, size)
            raw.behind = size
        elif "r" in self.mode:
            buffer = io.BufferedReader(raw, size)
        else:
            buffer = io.BufferedWriter(raw, size)
        if self.is_binary():
            return buffer
        text = io.TextIOWrapper(buffer, self.encoding, self.errors, self.newline, lines)
        text.mode = self.mode  # type: ignore[misc]
        return text


def _buffer_size(raw: RawFile) -> int:
    size: int = raw._blksize  # type: ignore[attr-defined]
    if sys.version_info >= (3, 14):
        return max(min(size, 8 * 1024 * 1024), io.DEFAULT_BUFFER_SIZE)
    return size if size > 1 else io.DEFAULT_BUFFER_SIZE
