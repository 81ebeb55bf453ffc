"""The file below `io`'s layers: what they read has been fetched before.

`io`'s buffers and text are synchronous. One of their operations that reads can run on the
loop's thread without blocking if all the bytes that it may ask for are here already (`has`).
Fetching them is what is awaited. In a thread, the same object is an ordinary blocking file.

A regular file keeps its own position: fetching ahead does not move the system's, and a transfer
that nobody waits for has moved nothing. Once somebody else may know the descriptor, and move or
write there as well, the file becomes an ordinary `io.FileIO` (`is_shared`).
"""

from __future__ import annotations

import errno
import fcntl
import functools
import io
import operator
import os
import stat
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from ._native import read_file_now

# An operation that needs more runs in a thread as a whole: copying it would block the loop, too.
LARGE = 1024 * 1024
# The limit where the number of bytes is given: on the loop's thread they would be copied twice,
# and the memory for both taken from the system and given back each time.
LARGE_PIECE = 128 * 1024
# File systems of the kernel, whose files may wait for ever and whose sizes say nothing.
_KERNELS = (
    "/proc",
    "/sys",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/debug/tracing",
)


class Need(NamedTuple):
    """What an operation may ask for: any one of these is enough, as is everything up to the end."""

    size: int | None = None
    line_end: bytes | None = None
    # The line end counts from here on.
    behind: int = 0
    # A carriage return ends a line too, if what follows it is known.
    universal: bool = False


SOMETHING = Need(1)
EVERYTHING = Need()


def count_of(size: Any) -> int:
    """A size as `io` takes it. For anything else nothing is fetched: `io` will refuse it."""
    if size is None:
        return -1
    try:
        return operator.index(size)
    except TypeError:
        return 0


class RawFile(io.FileIO):
    """`io.FileIO` with what those who wait for it need. See the module's head."""

    def __init__(
        self,
        file: Any,
        mode: str,
        closefd: bool = True,
        opener: Callable[[str, int], int] | None = None,
    ) -> None:
        super().__init__(file, mode, closefd, opener)
        fd = super().fileno()
        self.regular = _is_regular(os.fstat(fd))
        # Somebody else may know the descriptor.
        self.is_shared = hasattr(file, "__index__") or opener is not None
        # An operation is under way, and shares it when it ends.
        self._is_used = False
        self._shares = False
        self.appends = bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)
        # Called on the loop's thread: nothing may block.
        self.on_loop = False
        self.position = super().tell() if self.regular else 0
        # Fetched from `position` on, from index `_start` on.
        self._fetched = b""
        self._start = 0
        self._at_end = False
        # What a buffer above asks for at a time, and gets, except at the end.
        self.unit = 0
        # This much of what was read is kept: a buffer that is also written to seeks back first.
        self.behind = 0
        self._tries_now = True
        # What is large of a given size. A text needs more bytes than it reads characters.
        self.large_piece = LARGE

    # For who waits

    def begin(self) -> None:
        """An operation begins: the file may have grown since the last one."""
        self._at_end = False
        self._is_used = True

    def finish(self) -> None:
        """An operation ends."""
        self._is_used = False
        if self.unit == 0:
            # Nobody above has asked for what is left: it may change until it is.
            self.forget()
        if self._shares and not self.closed:
            self.share()

    def share(self) -> None:
        """Somebody else may know the descriptor from here on, or once this operation ends."""
        self._shares = self._is_used
        if not self.is_shared and not self._is_used:
            if self.regular:
                super().seek(self.position)
                self.forget()
            self.is_shared = True

    def forget(self) -> None:
        """Drops what was fetched: it is fetched again when needed."""
        self._fetched = b""
        self._start = 0
        self._at_end = False

    def is_large(self, need: Need) -> bool:
        """Whether it is too much to be fetched, or has become so."""
        if need.size is None and need.line_end is not None:
            return max(need.behind, len(self._fetched) - self._start) > LARGE
        most = LARGE if need.size is None else self.large_piece
        if need.size is not None and need.size <= most:
            return False
        return os.fstat(super().fileno()).st_size - self.position > most

    def has(self, need: Need) -> bool:
        """Whether what is needed has been fetched."""
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
        """What is missing: where to fetch from, and how much."""
        here = len(self._fetched) - self._start
        place = self.position + here
        # The longer a line, the more at a time.
        size = max((need.size or 0) + self.unit - here, here)
        if need is EVERYTHING or size > 65536:
            rest = max(os.fstat(super().fileno()).st_size - place, 0)
            size = rest if need is EVERYTHING else min(size, rest)
        return place, max(size, least)

    def fetch_now(self, place: int, size: int) -> bool:
        """Fetches what the system has in memory. `False`: there may be more to wait for."""
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
        """Adds what was fetched behind the rest; empty at the end of the file."""
        if not data:
            self._at_end = True
        else:
            done = max(self._start - self.behind, 0)
            self._fetched = self._fetched[done:] + data
            self._start -= done

    def wrote(self, count: int) -> None:
        """Notes that so much was written, at the position or at the end."""
        self.forget()
        # Only a write moves the descriptor to the end.
        self.position = super().tell() if self.appends and count else self.position + count

    # For `io`'s layers

    def readinto(self, buffer: Any, /) -> int:
        if not self._is_ours(super().readable):
            return super().readinto(buffer)
        try:
            view = memoryview(buffer)
        except TypeError:
            return super().readinto(buffer)  # It says so.
        if view.readonly:
            return super().readinto(buffer)
        with view, view.cast("B") as room:
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
        if size > sys.maxsize:
            return super().read(size)  # It says so.
        here = len(self._fetched) - self._start
        if here == 0 and not (self.on_loop and self._at_end) and size:
            data = os.pread(super().fileno(), size, self.position)
        else:
            data = self._fetched[self._start : self._start + size]
            self._start += len(data)
        self.position += len(data)
        return data

    def readall(self) -> bytes:
        if not self._is_ours(super().readable):
            return super().readall()
        data = self._fetched[self._start :]
        complete = self.on_loop and self._at_end
        self.forget()
        self.position += len(data)
        if complete:
            return data
        parts = [data] if data else []
        fd = super().fileno()
        # And one more, so that the end is seen by a read that is short.
        rest = os.fstat(fd).st_size - self.position + 1
        while more := os.pread(fd, max(LARGE, rest), self.position):
            parts.append(more)
            self.position += len(more)
            rest = 0
        return b"".join(parts)

    def write(self, data: Any, /) -> int:
        """Writes as much as the system takes at once, like `io.FileIO`'s."""
        if not self._is_ours(super().writable):
            return super().write(data)
        if self.appends:
            count = super().write(data)
        else:
            try:
                view = memoryview(data)
            except TypeError:
                return super().write(data)  # It says so.
            with view:
                count = os.pwrite(super().fileno(), view, self.position)
        self.wrote(count)
        return count

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if not self._is_ours():
            return super().seek(offset, whence)
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
        self.forget()
        return super().truncate(self.position if size is None else size)

    def close(self) -> None:
        try:
            self.finish()
        finally:
            super().close()

    def _is_ours(self, may: Callable[[], bool] | None = None) -> bool:
        """Whether it can be done here; if not, `io.FileIO` does it, or raises."""
        return not self.closed and self.regular and not self.is_shared and (may is None or may())


def _is_regular(status: os.stat_result) -> bool:
    """Whether it is a file on a disk, or behaves like one."""
    return stat.S_ISREG(status.st_mode) and status.st_dev not in _devices_of_the_kernel()


@functools.cache
def _devices_of_the_kernel() -> frozenset[int]:
    devices = set()
    for folder in _KERNELS:
        try:
            devices.add(os.stat(folder).st_dev)
        except OSError:
            pass  # Not here, or not for everybody.
    # A folder that is not a mount point belongs to the file system of its parent.
    return frozenset(devices - {os.stat("/").st_dev})
