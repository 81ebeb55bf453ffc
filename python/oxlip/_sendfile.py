"""`sendfile` and `sock_sendfile`: a file is sent without a detour through this process.

What sendfile(2) cannot do (a file in memory, a transport that encrypts) is read in the default
executor and written piece by piece, unless the caller forbids it.

A transport lends its socket meanwhile (`transport/reserve.rs`): what was written before goes
first, writes are refused, reading is paused. The file is sent on a duplicate of the descriptor,
so that a transport that ends meanwhile does not close it under the sender. Runs on the loop's
thread.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from asyncio import constants
from typing import IO, TYPE_CHECKING, Any

from ._sock import SocketCalls, check_not_tls

if TYPE_CHECKING:
    from ._native import StreamTransport

# One system call sends at most this much: a Py_ssize_t must hold it.
_MOST_AT_ONCE = sys.maxsize // 2 + 1
# How much is read at a time for a transport, which buffers it once more.
_BLOCK_OF_A_TRANSPORT = 16 * 1024


class Sendfile(SocketCalls):
    """Sending files, whole or in part."""

    async def sock_sendfile(
        self,
        sock: socket.socket,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> int:
        """Sends `count` bytes of `file` (`None`: up to its end) from `offset` on; how many went.

        Afterwards the file's position is behind the last byte that was sent, also after an error,
        and at `offset` if there was none.
        Without `fallback`, `SendfileNotAvailableError` tells that sendfile(2) does not work here.
        """
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        check_not_tls(sock)
        _check_arguments(sock, file, offset, count)
        try:
            return await self._sock_sendfile_native(sock, file, offset, count)
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._send_by_reading(sock, file, offset, count)

    # By its frame, those who watch for calls that block (blockbuster) know that asyncio may call
    # `os.sendfile` here. It asks for the two ways below.
    sendfile = asyncio.BaseEventLoop.sendfile

    async def _sendfile_native(
        self, transport: Any, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        lent: StreamTransport = transport
        shown: socket.socket = lent.get_extra_info("socket")
        with socket.socket(
            shown.family, shown.type, shown.proto, fileno=socket.dup(shown.fileno())
        ) as sock:
            sock.setblocking(False)
            sender = _Sender(sock, self.create_future())
            reading = lent.is_reading()
            lent._reserve(sender)
            try:
                lent.pause_reading()
                await sender.turn
                return await self.sock_sendfile(sock, file, offset, count, fallback=False)
            finally:
                lent._unreserve()
                if reading:
                    lent.resume_reading()

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        if not hasattr(os, "sendfile"):
            raise asyncio.SendfileNotAvailableError("os.sendfile() is not available")
        try:
            source = file.fileno()
            size = os.fstat(source).st_size
        except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError
            raise asyncio.SendfileNotAvailableError("not a regular file") from None
        left = count or size
        total = 0
        works = False
        try:
            while left > 0:
                most = min(left, _MOST_AT_ONCE)
                if size > offset:
                    # No more than the file has: if asked for more, the kernel's TLS keeps the end
                    # back, to join it with what follows (before Linux 6.5).
                    most = min(most, size - offset)
                try:
                    sent = os.sendfile(sock.fileno(), source, offset, most)
                except (BlockingIOError, InterruptedError):
                    works = True
                except OSError as exc:
                    if total == 0:
                        # Most likely a file that cannot be mapped; if not, a plain send will raise.
                        text = "os.sendfile call failed"
                        raise asyncio.SendfileNotAvailableError(text) from exc
                    if exc.errno == errno.ENOTCONN and type(exc) is not ConnectionError:
                        raise ConnectionError("socket is not connected", errno.ENOTCONN) from exc
                    raise
                else:
                    works = True
                    if sent == 0:
                        break
                    total += sent
                    offset += sent
                    if count:
                        left -= sent
                        if left == 0:
                            break
                # One piece a tick, however fast the peer takes them: others have their turn.
                ready, watch = self._wait_writable(sock)
                try:
                    await ready
                finally:
                    self._unwait(ready, watch)
        finally:
            if works:
                os.lseek(source, offset, os.SEEK_SET)
        return total

    async def _send_by_reading(
        self, sock: socket.socket, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        blocks = _Blocks(self, file, offset, count, constants.SENDFILE_FALLBACK_READBUFFER_SIZE)
        try:
            while block := await blocks.next():
                await self.sock_sendall(sock, block)
                blocks.sent += len(block)
        finally:
            blocks.leave_position()
        return blocks.sent

    async def _sendfile_fallback(
        self, transport: Any, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        blocks = _Blocks(self, file, offset, count, _BLOCK_OF_A_TRANSPORT)
        protocol = _StandIn(self, transport)
        try:
            while block := await blocks.next():
                await protocol.drain()
                transport.write(bytes(block))  # A copy: it may keep what it cannot send yet.
                blocks.sent += len(block)
        finally:
            blocks.leave_position()
            protocol.leave()
        return blocks.sent


class _Sender:
    """The holder of a reserved transport, which calls it."""

    def __init__(self, sock: socket.socket, turn: asyncio.Future[None]) -> None:
        self.sock = sock
        self.turn = turn

    def begin(self) -> None:
        """Called when the transport has sent what it had."""
        if not self.turn.done():
            self.turn.set_result(None)

    def lost(self, error: BaseException | None) -> None:
        """Called when the transport is closed: sending fails from now on, waits for room end."""
        if not self.turn.done():
            self.turn.set_exception(error or ConnectionError("Connection is closed by peer"))
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The peer was faster.


class _Blocks:
    """The pieces of a file, read in the default executor. `sent` is the caller's to count."""

    def __init__(
        self, loop: Sendfile, file: IO[bytes], offset: int, count: int | None, size: int
    ) -> None:
        self._loop = loop
        self._file = file
        self._offset = offset
        self._count = count
        self._buffer = memoryview(bytearray(min(count, size) if count else size))
        self.sent = 0
        # To the beginning as well: the file may stand elsewhere now. A pipe has no position.
        self._has_positions = offset > 0 or _has_positions(file)
        if self._has_positions:
            file.seek(offset)

    async def next(self) -> memoryview:
        """The next piece, valid until the next call; empty at the end."""
        block = self._buffer
        if self._count:
            block = block[: self._count - self.sent]
        if not block:
            return block
        readinto = self._file.readinto  # type: ignore[attr-defined]
        read = await self._loop.run_in_executor(None, readinto, block)
        return block[: read or 0]

    def leave_position(self) -> None:
        """Puts the file's position behind what was sent."""
        if self._has_positions:
            self._file.seek(self._offset + self.sent)


def _has_positions(file: IO[bytes]) -> bool:
    seekable = getattr(file, "seekable", None)
    return hasattr(file, "seek") if seekable is None else bool(seekable())


class _StandIn(asyncio.Protocol):
    """A transport's protocol while a file is written to it."""

    def __init__(self, loop: Sendfile, transport: Any) -> None:
        self._loop = loop
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._reading = transport.is_reading()
        self._told_to_pause: bool = transport._protocol_paused
        self._paused = self._told_to_pause
        self._room: asyncio.Future[None] | None = None
        transport.pause_reading()
        transport.set_protocol(self)

    async def drain(self) -> None:
        """Waits until the transport wants more."""
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")
        if self._paused:
            self._room = self._loop.create_future()
            try:
                await self._room
            finally:
                self._room = None

    def leave(self) -> None:
        """Gives the transport back to its protocol, which learns what it has missed."""
        self._transport.set_protocol(self._protocol)
        if self._reading:
            self._transport.resume_reading()
        if self._told_to_pause and not self._paused:
            self._protocol.resume_writing()
        elif self._paused and not self._told_to_pause:
            self._protocol.pause_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_exception(exc or ConnectionError("Connection is closed by peer"))
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


def _check_arguments(sock: socket.socket, file: IO[bytes], offset: Any, count: Any) -> None:
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None:
        text = f"count must be a positive integer (got {count!r})"
        if not isinstance(count, int):
            raise TypeError(text)
        if count <= 0:
            raise ValueError(text)
    text = f"offset must be a non-negative integer (got {offset!r})"
    if not isinstance(offset, int):
        raise TypeError(text)
    if offset < 0:
        raise ValueError(text)
