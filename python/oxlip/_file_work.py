"""In which order the operations on one file run, and what each waits for.

An operation has its turn until it ends or is cancelled. A transfer (a read, a write, a call in
a thread) belongs to the file: it runs to its end whoever waits for it, and the next operation
waits for that.

`io`'s method runs on the loop's thread if it cannot block there: because what it may read has
been fetched, or because what it writes fits into the buffers. Otherwise the whole method runs
in a thread, and so has exactly `io`'s meaning.

On the thread of the loop that the file was opened on.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from functools import partial
from io import DEFAULT_BUFFER_SIZE
from os import pread
from typing import Any

from ._file_kept import Kept
from ._file_raw import Need, RawFile, count_of
from ._file_threads import threads_of

# After this much without a wait, other tasks get a turn: an operation counts 1, a fetch `_FETCH`.
_FAIR = 256
_FETCH = 16

# The driver copies what it is given: above this size a thread costs less.
_DRIVERS = 128 * 1024

# With these errors a driver says that a thread should try instead.
_TRY_ELSEWHERE = frozenset(
    (errno.EAGAIN, errno.EINTR, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
)


class FileWork:
    """The operations on one file, one after the other."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        raw: RawFile,
        stream: Any,
        *,
        room: int,
        fetches: bool,
        kept: Kept,
        goes_back: bool,
    ) -> None:
        self.loop = loop
        self.raw = raw
        self.stream = stream
        # What `io` may have to write before a method that writes may have to wait for the file.
        self._room = room
        # The most that may wait in the buffers to be written.
        self._pending = 0
        self._fetches = fetches
        self._kept = kept
        # Whether it seeks back over bytes that were read and that nobody has waited for.
        self._goes_back = goes_back
        self._reads = raw.readable()
        self._writes = raw.writable()
        # How much is fetched at a time, for buffers.
        self._least = DEFAULT_BUFFER_SIZE if raw.unit else 1
        self._busy = False
        self._queue: deque[asyncio.Future[None]] = deque()
        self._transfer: asyncio.Future[Any] | None = None
        self._waiter: asyncio.Future[None] | None = None
        # What gets the result of a transfer that nobody waits for any more.
        self._left: Callable[[Any], None] | None = None
        # Those who wait for another operation's transfer.
        self._next: asyncio.Future[None] | None = None
        # Closed while a read may hang.
        self.is_given_up = False
        # It is to be closed, and nobody waits for that any more.
        self._is_left_to_close = False
        self._spent = 0
        self._threads = threads_of(loop)
        self._native = hasattr(loop, "_file_read")

    def is_busy(self) -> bool:
        return self._busy or self._transfer is not None

    # Operations

    async def read(
        self,
        name: str,
        need: Need,
        call: Callable[..., Any],
        *args: Any,
        on_loop: Callable[[], Any] | None = None,
    ) -> Any:
        """A method that reads, after what it needs has been fetched. `on_loop` is the same, but for
        the loop's thread only."""
        if not self._has_turn():
            await self._take_turn()
        try:
            self._spent += 1
            raw = self.raw
            if raw.closed:
                return self._call(on_loop) if on_loop else self._call(call, *args)
            raw.begin()
            if self._kept:
                return await self._read_kept(name, call, *args)
            if self._pending and self._reads:
                await self._in_thread(self._flushed)
            left = _looked if name == "peek" else self._take_back
            if not self._fetches or raw.is_shared:
                return await self._in_thread(call, *args, left=left)
            if self._reads:
                while not raw.has(need):
                    if raw.is_large(need):
                        return await self._in_thread(call, *args, left=left)
                    await self._fetch(need)
            return self._call(on_loop) if on_loop else self._call(call, *args)
        finally:
            self._end_turn()

    async def _read_kept(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        """Reads what a cancelled read has left, and then the rest."""
        if args and not (args[0] is None or hasattr(args[0], "__index__")):
            return self._call(call, *args)  # It says so.
        size = count_of(args[0]) if args else -1
        if name == "readlines":
            return await self._read_kept_lines(size)
        part, is_complete = self._kept.take(name, size)
        if is_complete:
            return part
        try:
            rest = await self._in_thread(
                call, *([size - len(part)] if size >= 0 else []), left=self._take_back
            )
        except BaseException:
            self._put_back(part)
            raise
        return part + rest if rest else part

    async def _read_kept_lines(self, size: int) -> Any:
        lines: list[Any] = []
        try:
            while size <= 0 or sum(map(len, lines)) < size:
                readline = self.stream.readline
                if self._kept:
                    line = await self._read_kept("readline", readline)
                else:
                    line = await self._in_thread(readline, left=self._take_back)
                if not line:
                    break
                lines.append(line)
        except BaseException:
            self._put_back(lines)
            raise
        return lines

    def _take_back(self, result: Any) -> None:
        """Takes back the result of a read that nobody waits for any more."""
        if not self._goes_back:
            self._kept.add(result)
        elif result and not self.raw.closed:
            self._call(self.stream.seek, -sum(map(len, _pieces(result))), 1)

    def _put_back(self, part: Any) -> None:
        """Puts it in front of what is kept, now or later."""
        behind = self._kept.take("read1", -1)[0] if self._kept else None
        self._kept.add(part)
        self._kept.add(behind)

    async def write(self, call: Callable[..., Any], data: Any, size: int | None) -> Any:
        """Calls a method that writes at most `size` bytes; `None` if that is not known."""
        if not self._has_turn():
            await self._take_turn()
        try:
            self._spent += 1
            raw = self.raw
            if raw.closed or not self._writes:
                return self._call(call, data)
            raw.begin()
            if not raw.regular:
                return await self._in_thread(call, _own(data))
            self._kept.drop()
            if size is not None and self._pending + size < self._room:
                if self._reads and not self._pending:
                    # Back over what was read ahead, which needs no wait.
                    self._call(self.stream.flush)
                self._pending += size
                return self._call(call, data)
            data = _own(data)
            if self.stream is raw:
                return await self._write_directly(call, data)
            # The rest stays in the buffer.
            self._pending = self._room
            result = await self._in_thread(self._flushed, call, data)
            self._pending = self._room if size is None else min(size, self._room)
            return result
        finally:
            self._end_turn()

    async def _write_directly(self, call: Callable[..., Any], data: Any) -> Any:
        raw = self.raw
        is_plain = isinstance(data, bytes) and 0 < len(data) <= _DRIVERS
        if self._native and is_plain and not raw.is_shared:
            place = None if raw.appends else raw.position
            count = await self._by_driver(
                self.loop._file_write(raw.fileno(), place, data),  # type: ignore[attr-defined]
                partial(self._wrote_for_nobody, call, data),
            )
            if count is not None:
                raw.wrote(count)
                return count
        return await self._in_thread(call, data)

    def _wrote_for_nobody(self, call: Callable[..., Any], data: bytes, count: int | None) -> None:
        if count is not None:
            self.raw.wrote(count)
        elif not self.raw.closed:
            # It has begun, as far as the program can tell.
            self._transfer = self._threads.submit(self.loop, partial(call, data))
            self._transfer.add_done_callback(self._ended)

    async def flush(self) -> None:
        await self._take_turn()
        try:
            raw = self.raw
            if raw.closed or (raw.regular and not self._pending):
                self._call(self.stream.flush)
            else:
                raw.begin()
                await self._in_thread(self._flushed)
        finally:
            self._end_turn()

    def _flushed(self, *call: Any) -> Any:
        """In a thread: flushes, then calls the method."""
        self.stream.flush()
        if not call:
            self._pending = 0
            return None
        return call[0](*call[1:])

    async def perform(
        self, call: Callable[..., Any], *args: Any, is_quick: bool, flushes: bool = True
    ) -> Any:
        """Calls any other method. A quick one can block only on what it flushes."""
        await self._take_turn()
        try:
            self._spent += 1
            raw = self.raw
            if raw.closed:
                return self._call(call, *args)
            raw.begin()
            if is_quick and raw.regular and not (flushes and self._pending):
                return self._call(call, *args)
            result = await self._in_thread(call, *args)
            if flushes:
                self._pending = 0
            return result
        finally:
            self._end_turn()

    async def seek(self, call: Callable[..., Any], *args: Any, is_quick: bool) -> Any:
        """Calls `seek`, and forgets what a cancelled read has left."""
        result = await self.perform(call, *args, is_quick=is_quick)
        self._kept.drop()
        return result

    async def close(self) -> None:
        """Closes the file after what was begun before, except a read that may hang."""
        if self.is_given_up:
            return
        reading = self._transfer
        if reading and not self._busy and self._left and not self.raw.regular:
            self.is_given_up = True
            reading.add_done_callback(self._close_at_last)
            return
        self._kept.drop()
        if not self.raw.closed or self.is_busy():
            try:
                await self.perform(self.stream.close, is_quick=False)
            except (asyncio.CancelledError, GeneratorExit):
                self._is_left_to_close = True
                self._close_if_left()
                raise

    def _close_if_left(self) -> None:
        if self._is_left_to_close and not (self.is_busy() or self.loop.is_closed()):
            self._is_left_to_close = False
            if not self.raw.closed:
                self._transfer = self._threads.submit(
                    self.loop, self.stream.close, may_hang=not self.raw.regular
                )
                self._transfer.add_done_callback(self._ended)

    def _close_at_last(self, reading: asyncio.Future[Any]) -> None:
        if not self.loop.is_closed():
            self._threads.submit(self.loop, self.stream.close)

    def _call(self, call: Callable[..., Any], *args: Any) -> Any:
        raw = self.raw
        raw.on_loop = True
        try:
            return call(*args)
        finally:
            raw.on_loop = False

    # Turns

    def _has_turn(self) -> bool:
        """Takes the turn if there is nothing to wait for."""
        if self._busy or self._transfer is not None or self._spent > _FAIR:
            return False
        self._busy = True
        return True

    async def _take_turn(self) -> None:
        """Waits until it is this operation's turn, and no transfer is under way."""
        if self._busy:
            waiter = self.loop.create_future()
            self._queue.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter.done() and not waiter.cancelled():
                    self._end_turn()  # It had been given.
                else:
                    waiter.cancel()  # And will be passed over.
                raise
        self._busy = True
        try:
            while self._transfer is not None:
                self._next = self.loop.create_future()
                await self._next
            if self._spent > _FAIR:
                self._spent = 0
                await asyncio.sleep(0)
        except BaseException:
            self._end_turn()
            raise

    def _end_turn(self) -> None:
        """Passes the turn to the next operation."""
        if self._transfer is None:
            self.raw.finish()
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._busy = False
        self._close_if_left()

    # Transfers

    async def _in_thread(
        self, call: Callable[..., Any], *args: Any, left: Callable[[Any], None] | None = None
    ) -> Any:
        """Calls it in a thread. `left` gets the result if nobody waits for it any more."""
        return await self._wait(
            self._threads.submit(self.loop, partial(call, *args), may_hang=not self.raw.regular),
            left,
        )

    async def _wait(self, transfer: asyncio.Future[Any], left: Callable[[Any], None] | None) -> Any:
        """Waits until the transfer ends."""
        self._transfer = transfer
        self._left = None
        self._spent = 0
        waiter = self._waiter = self.loop.create_future()
        transfer.add_done_callback(self._ended)
        try:
            try:
                await waiter
            except BaseException:
                # Only here is it known that nobody waits any more.
                if self._transfer is None:
                    _leave(transfer, left)
                else:
                    self._left = left
                raise
            return transfer.result()
        finally:
            self._waiter = None
            # The error's traceback refers to this frame.
            del transfer, waiter

    def _ended(self, transfer: asyncio.Future[Any]) -> None:
        self._transfer = None
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            return
        left, self._left = self._left, None
        try:
            _leave(transfer, left)
        finally:
            if self._transfer is None:
                self.raw.finish()
                if self._next is not None and not self._next.done():
                    self._next.set_result(None)
                self._close_if_left()

    async def _fetch(self, need: Need) -> None:
        raw = self.raw
        place, size = raw.lacks(need, self._least)
        if raw.fetch_now(place, size):
            self._spent += _FETCH
            return
        try:
            data = await self._fetch_slowly(raw.fileno(), place, size)
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
            return  # The process has forked, and nothing is lost.
        self._fetched(data)

    async def _fetch_slowly(self, fd: int, place: int, size: int) -> bytes | None:
        if self._native and size <= _DRIVERS:
            return await self._by_driver(  # type: ignore[no-any-return]
                self.loop._file_read(fd, place, size),  # type: ignore[attr-defined]
                self._fetched,
            )
        fetching = partial(pread, fd, size, place)
        return await self._wait(  # type: ignore[no-any-return]
            self._threads.submit(self.loop, fetching), self._fetched
        )

    def _fetched(self, data: bytes | None) -> None:
        if data is not None:
            self.raw.fetched(data)

    async def _by_driver(
        self, transfer: asyncio.Future[Any] | None, left: Callable[[Any], None]
    ) -> Any:
        """The driver's answer; `None` if a thread has to try."""
        result = None
        try:
            if transfer is not None:
                result = await self._wait(transfer, left)
        except OSError as error:
            if error.errno not in _TRY_ELSEWHERE:
                raise
        finally:
            del transfer
        if result is None:
            self._native = False
        return result


def _leave(transfer: asyncio.Future[Any], left: Callable[[Any], None] | None) -> None:
    failure = None if transfer.cancelled() else transfer.exception()
    if left is None or transfer.cancelled():
        return
    if failure is None:
        left(transfer.result())
    elif isinstance(failure, OSError) and failure.errno in _TRY_ELSEWHERE:
        left(None)


def _looked(result: Any) -> None:
    """The result of `peek`, which takes nothing away."""


def _pieces(result: Any) -> list[Any]:
    return result if isinstance(result, list) else [result]


def _own(data: Any) -> Any:
    """What a thread may keep, while the program changes what it has given."""
    if isinstance(data, list):
        return [_own(it) for it in data]
    if isinstance(data, (bytes, str)):
        return data
    try:
        with memoryview(data) as view:
            return bytes(view) if view.c_contiguous else data
    except TypeError:
        return data
