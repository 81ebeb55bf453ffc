"""How the operations on one file follow one another, and what each waits for.

An operation has its turn until it ends or is cancelled. A transfer (a read, a write, a call in a
thread) belongs to the file: it ends whoever waits for it, and the next operation waits for that.

On the thread of the loop that the file was opened on.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from functools import partial
from os import pread
from typing import Any

from ._file_raw import NOTHING, WRITTEN, Need, RawFile
from ._file_threads import threads_of

# After so much without a wait, others get their turn: an operation counts 1, a fetch `_FETCH`.
_FAIR = 256
_FETCH = 16

# The driver copies what it is given: for more than this a thread costs less.
_DRIVERS = 128 * 1024

# A driver's way of saying that somebody else should try.
_TRY_ELSEWHERE = frozenset(
    (errno.EAGAIN, errno.EINTR, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
)


class FileWork:
    """The operations on one file."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, raw: RawFile, stream: Any, least: int
    ) -> None:
        self.loop = loop
        self.raw = raw
        self.stream = stream
        # To be fetched at a time, for buffers.
        self._least = least
        self._reads = raw.readable()
        self.writes = raw.writable()
        # Something was written that a read must find.
        self.dirty = False
        # Of a file that cannot be fetched ahead: what was read and nobody has waited for.
        self.kept: Any = None
        # Where to go back to, because nobody has waited for what was read.
        self._undo: Any = None
        self._busy = False
        self._queue: deque[asyncio.Future[None]] = deque()
        self._transfer: asyncio.Future[Any] | None = None
        self._waiter: asyncio.Future[None] | None = None
        # Who waits for a transfer that is somebody else's.
        self._next: asyncio.Future[None] | None = None
        self._spent = 0
        self._threads = threads_of(loop)
        self._native = hasattr(loop, "_file_read")

    def is_busy(self) -> bool:
        return self._busy or self._transfer is not None

    async def perform(self, need: Need, call: Callable[..., Any], *args: Any) -> Any:
        """Calls a method of the stream here, after what it needs has been fetched."""
        if self._busy or self._transfer or self._spent > _FAIR or self._undo is not None:
            await self.take_turn()
        else:
            self._busy = True
        raw = self.raw
        try:
            self._spent += 1
            if not raw.closed:
                raw.begin()
                if need is not NOTHING and (self._reads or need is WRITTEN):
                    if self.dirty:
                        await self._flush()
                    while not raw.has(need):
                        await self._fetch(need)
            result = self._call(call, *args)
            if raw.staged:
                await self._write()
            return result
        finally:
            self.end_turn()

    async def in_thread(
        self,
        call: Callable[..., Any],
        *args: Any,
        undo: bool = False,
        may_hang: bool = False,
    ) -> Any:
        """Calls a method of the stream in a thread. If nobody waits for its result any more, `undo`
        goes back to where the file stood."""
        await self.take_turn()
        try:
            return await self.call_in_thread(call, *args, undo=undo, may_hang=may_hang)
        finally:
            self.end_turn()

    async def call_in_thread(
        self,
        call: Callable[..., Any],
        *args: Any,
        undo: bool = False,
        keep: bool = False,
        may_hang: bool = False,
    ) -> Any:
        """As `in_thread`, by who has the turn. `keep` keeps a result that nobody waits for."""
        before: Any = None
        result: Any = None

        def work() -> Any:
            nonlocal before
            if undo:
                try:
                    before = self.stream.tell()
                except OSError:
                    pass  # Nor could the program go back.
            return call(*args)

        def ended(returned: Any, waited_for: bool) -> None:
            nonlocal result
            result = returned
            if not waited_for:
                self._undo = before
                if keep and returned:
                    self.kept = returned if self.kept is None else self.kept + returned

        if not self.raw.closed:
            self.raw.begin()
        submit = self._threads.submit_alone if may_hang else self._threads.submit
        await self._wait(submit(self.loop, work), ended)
        return result

    def _call(self, call: Callable[..., Any], *args: Any) -> Any:
        raw = self.raw
        raw.on_loop = True
        try:
            return call(*args)
        finally:
            raw.on_loop = False

    async def _flush(self) -> None:
        self._call(self.stream.flush)
        if self.raw.staged:
            await self._write()
        self.dirty = False

    # Turns

    async def take_turn(self) -> None:
        """Until it is this operation's, and nothing is under way."""
        if self._busy:
            waiter = self.loop.create_future()
            self._queue.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter.done() and not waiter.cancelled():
                    self.end_turn()  # It had been given.
                else:
                    self._queue.remove(waiter)
                raise
        self._busy = True
        try:
            while self._transfer is not None:
                self._next = self.loop.create_future()
                await self._next
            if self._undo is not None:
                undo = partial(self.stream.seek, self._undo)
                await self._wait(self._threads.submit(self.loop, undo), self._undone)
            if self._spent > _FAIR:
                self._spent = 0
                await asyncio.sleep(0)
        except BaseException:
            self.end_turn()
            raise

    def _undone(self, _: Any, waited_for: bool) -> None:
        self._undo = None

    def end_turn(self) -> None:
        """The next one's."""
        if self._transfer is None:
            self.raw.finish()
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._busy = False

    # Transfers

    async def _wait(
        self, transfer: asyncio.Future[Any], ended: Callable[[Any, bool], None]
    ) -> None:
        """Until the transfer ends; then `ended` is called, also if nobody waits any more."""
        self._begin(transfer, ended)
        self._spent = 0
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _begin(self, transfer: asyncio.Future[Any], ended: Callable[[Any, bool], None]) -> None:
        self._transfer = transfer
        transfer.add_done_callback(partial(self._ended, ended))

    def _ended(self, ended: Callable[[Any, bool], None], transfer: asyncio.Future[Any]) -> None:
        self._transfer = None
        waiter = self._waiter
        waited_for = waiter is not None and not waiter.done()
        failure: BaseException | None = None
        try:
            ended(transfer.result(), waited_for)
        except (Exception, asyncio.CancelledError) as error:
            failure = error
        if waiter is not None and waited_for:
            if failure is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(failure)
        elif self._transfer is None:
            self.raw.finish()
            if self._next is not None and not self._next.done():
                self._next.set_result(None)

    async def _fetch(self, need: Need) -> None:
        raw = self.raw
        place, size = raw.lacks(need, self._least)
        if raw.fetch_now(place, size):
            self._spent += _FETCH
            return
        fd = raw.fileno()
        transfer = None
        if self._native and size <= _DRIVERS:
            transfer = self.loop._file_read(fd, place, size)  # type: ignore[attr-defined]
            self._native = transfer is not None
        try:
            await self._wait(
                transfer or self._threads.submit(self.loop, partial(pread, fd, size, place)),
                self._fetched,
            )
        except OSError as error:
            if error.errno == errno.ECANCELED:
                return  # The process has forked, and nothing is lost.
            if transfer is None or error.errno not in _TRY_ELSEWHERE:
                raise
            self._native = False

    def _fetched(self, data: bytes | None, waited_for: bool) -> None:
        if data is None:
            self._native = False  # And asked for again.
        else:
            self.raw.fetched(data)

    async def _write(self) -> None:
        """Writes what is staged."""
        while self.raw.staged:
            native = self._native
            try:
                await self._wait(*self._begin_write())
            except OSError as error:
                if not native or error.errno not in _TRY_ELSEWHERE:
                    raise
                self._native = False

    def _begin_write(self) -> tuple[asyncio.Future[Any], Callable[[Any, bool], None]]:
        raw = self.raw
        if self._native and len(raw.staged[0][1]) <= _DRIVERS:
            place, data = raw.staged[0]
            written = self.loop._file_write(  # type: ignore[attr-defined]
                raw.fileno(), place, bytes(data)
            )
            if written is not None:
                return written, self._written
            self._native = False
        return self._threads.submit(self.loop, raw.write_staged), _all_written

    def _written(self, count: int | None, waited_for: bool) -> None:
        if count:
            self.raw.wrote(count)
        else:
            self._native = False
        if not waited_for and self.raw.staged:
            self._begin(*self._begin_write())


def _all_written(_: None, waited_for: bool) -> None:
    pass
