"""The file below `io`'s layers: what they read has been fetched before, what they write is kept.

`io`'s buffers and text are synchronous. An operation of theirs can run on the loop's thread
without blocking if all the bytes that it may ask for are here already (`has`), and if what it
writes only has to be put somewhere (`staged`). Fetching and writing are then what is waited for. In
a thread, the same object is an ordinary blocking file.

A regular file keeps its own position, as far as nobody else knows the descriptor: the system's is
not moved by what was fetched ahead, and a transfer that nobody waits for has moved nothing.
"""

from __future__ import annotations

import errno
import fcntl
import io
import operator
import os
import stat
from collections.abc import Callable
from typing import Any, NamedTuple

from ._native import read_file_now

# A piece of this size that is to be written gets no more added.
_LARGE = 256 * 1024


class Need(NamedTuple):
    """What an operation may ask for: any of these is enough, and so is all up to the end."""

    size: int | None = None
    line_end: bytes | None = None
    # The line end counts from here on.
    behind: int = 0
    # A carriage return ends a line too, if what follows it is known.
    universal: bool = False


NOTHING = Need(0)
# That what was written before is in the file: the position of what is appended is known only then.
WRITTEN = Need(0)
SOMETHING = Need(1)
EVERYTHING = Need()


class RawFile(io.FileIO):
    """As `io.FileIO`, and more for who waits for it. See the module's head."""

    def __init__(
        self,
        file: Any,
        mode: str,
        closefd: bool = True,
        opener: Callable[[str, int], int] | None = None,
    ) -> None:
        super().__init__(file, mode, closefd, opener)
        fd = super().fileno()
        self.regular = stat.S_ISREG(os.fstat(fd).st_mode)
        # Somebody else may know the descriptor.
        self.shared = self.regular and (isinstance(file, int) or opener is not None)
        self.appends = bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)
        # Called on the loop's thread: nothing may block.
        self.on_loop = False
        self.position = super().tell() if self.regular else 0
        # Fetched from `position` on, from index `_start` on.
        self._fetched = b""
        self._start = 0
        self._at_end = False
        # What a buffer above asks for at a time. It gets that much, except at the end.
        self.unit = 0
        # So much of what was read stays here: a buffer that is also written to goes back first.
        self.behind = 0
        self._tries_now = True
        # What is to be written, each with its place in the file; None is its end.
        self.staged: list[tuple[int | None, bytearray]] = []

    # For who waits

    def begin(self) -> None:
        """An operation begins: whether the file has grown is to be asked again."""
        self._at_end = False
        if self.shared:
            position = super().tell()
            if position != self.position:
                self.position = position
                self.forget()

    def finish(self) -> None:
        """An operation ends: others find the descriptor where it should be."""
        if self.shared and not self.closed:
            super().seek(self.position)

    def share(self) -> None:
        """From here on, somebody else may know the descriptor."""
        if self.regular and not self.shared:
            self.shared = True
            self.finish()

    def forget(self) -> None:
        """What was fetched is fetched again."""
        self._fetched = b""
        self._start = 0
        self._at_end = False

    def has(self, need: Need) -> bool:
        """Whether what is needed is here."""
        if self._at_end:
            return True
        size, line_end, behind, universal = need
        here = len(self._fetched) - self._start
        if size is not None and (size == 0 or here >= size + self.unit):
            return True
        if line_end is None or here < self.unit:
            return False
        behind += self._start
        return self._fetched.find(line_end, behind) >= 0 or (
            universal and self._fetched.find(b"\r", behind, len(self._fetched) - 1) >= 0
        )

    def lacks(self, need: Need, least: int) -> tuple[int, int]:
        """Where to fetch from, and how much."""
        here = len(self._fetched) - self._start
        place = self.position + here
        if need is EVERYTHING:
            rest = os.fstat(super().fileno()).st_size - place
            return place, min(rest, 1 << 30) if rest > 0 else least
        # The longer a line, the more at a time.
        return place, min(max((need.size or 0) + self.unit - here, least, here), 1 << 30)

    def fetch_now(self, place: int, size: int) -> bool:
        """Fetches what the system has in memory. False: it may have to be waited for."""
        if not self._tries_now:
            return False
        try:
            data = read_file_now(super().fileno(), size, place)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise
            self._tries_now = False  # Not with this file system.
            return False
        if data is None:
            return False
        self.fetched(data)
        return True

    def fetched(self, data: bytes) -> None:
        """What comes behind what was here; nothing at the end of the file."""
        if not data:
            self._at_end = True
        else:
            done = max(self._start - self.behind, 0)
            self._fetched = self._fetched[done:] + data
            self._start -= done

    def wrote(self, count: int) -> None:
        """So much of the first staged piece is written."""
        place, data = self.staged[0]
        if count >= len(data):
            del self.staged[0]
        else:
            del data[:count]
            self.staged[0] = (None if place is None else place + count, data)
        if place is None:
            self.position = super().tell() + sum(len(data) for _, data in self.staged)

    def write_staged(self) -> None:
        """Writes it all, blocking."""
        fd = super().fileno()
        while self.staged:
            place, data = self.staged[0]
            self.wrote(os.write(fd, data) if place is None else os.pwrite(fd, data, place))

    def unstage(self) -> int:
        """What could not be written never will be. How much that is."""
        left = sum(len(data) for _, data in self.staged)
        self.staged.clear()
        self.position -= left
        return left

    # For `io`'s layers

    def readinto(self, buffer: Any, /) -> int:
        if not self._is_ours(super().readable):
            return super().readinto(buffer)
        with memoryview(buffer) as view, view.cast("B") as room:
            here = len(self._fetched) - self._start
            if here == 0 and not (self.on_loop and self._at_end) and len(room):
                count = os.preadv(super().fileno(), [room], self.position)
            else:
                count = min(here, len(room))
                room[:count] = memoryview(self._fetched)[self._start : self._start + count]
                self._start += count
        self.position += count
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        if not (size is None or hasattr(size, "__index__")) or not self._is_ours(super().readable):
            return super().read(size)
        if size is None or (size := operator.index(size)) < 0:
            return self.readall()
        buffer = bytearray(size)
        del buffer[self.readinto(buffer) :]
        return bytes(buffer)

    def readall(self) -> bytes:
        if not self._is_ours(super().readable):
            return super().readall()
        data = self._fetched[self._start :]
        complete = self.on_loop and self._at_end
        self.forget()
        self.position += len(data)
        if complete:
            return data
        parts = [data]
        fd = super().fileno()
        while more := os.pread(fd, max(_LARGE, len(parts[-1])), self.position):
            parts.append(more)
            self.position += len(more)
        return b"".join(parts)

    def write(self, data: Any, /) -> int:
        if not self._is_ours(super().writable):
            return super().write(data)
        try:
            view = memoryview(data)
        except TypeError:
            return super().write(data)  # It says so.
        self.forget()
        with view, view.cast("B") as flat:
            count = len(flat)
            place = None if self.appends else self.position
            last_place, last = self.staged[-1] if self.staged else (None, None)
            if (
                last is not None
                and len(last) + count <= _LARGE
                and (place is None or (last_place is not None and last_place + len(last) == place))
            ):
                last += flat
            elif count:
                self.staged.append((place, bytearray(flat)))
        self.position += count
        if not self.on_loop:
            self.write_staged()
        return count

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if not self._is_ours():
            return super().seek(offset, whence)
        if whence == 2 and self.staged and not self.on_loop:
            self.write_staged()
        back = whence == 1 and -offset
        if whence == 1:
            offset, whence = self.position + offset, 0
        position = super().seek(offset, whence)
        if back and 0 < back <= self._start:
            self._start -= back
            self.position = position
        elif position != self.position:
            self.forget()
            self.position = position
        return position

    def tell(self) -> int:
        return self.position if self._is_ours() else super().tell()

    def truncate(self, size: int | None = None, /) -> int:
        if not self._is_ours(super().writable):
            return super().truncate(size)
        self.write_staged()
        self.forget()
        return super().truncate(self.position if size is None else size)

    def close(self) -> None:
        try:
            if not self.closed and self.staged:
                self.write_staged()
            self.finish()
        finally:
            super().close()

    def _is_ours(self, may: Callable[[], bool] | None = None) -> bool:
        """Whether it can be done here: otherwise `io.FileIO` does it, or says why not."""
        return not self.closed and self.regular and (may is None or may())
