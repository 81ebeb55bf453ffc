"""The `sock_*` coroutines: `sock_recv`, `sock_sendall`, `sock_accept`, `sock_recvfrom` and so on.

Each tries at once, and waits only if it must. Across a wait only the socket object is held,
never its number: once another thread or task has closed it, the next attempt fails with EBADF,
whoever the kernel has given the number to.

Runs on the loop's thread. The sockets are the caller's and must be non-blocking.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._resolve import Resolve

try:
    import ssl
except ImportError:
    ssl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import asyncio

    from _typeshed import ReadableBuffer, WriteableBuffer

_T = TypeVar("_T")


class SocketCalls(Resolve):
    """Calls on sockets that are not in the hands of a transport."""

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receives up to `n` bytes; `b""` at the end of the stream."""
        while type(data := self._sock_recv(sock, n)) is tuple:
            ready, watch = data
            try:
                await ready
            finally:
                self._unwait(ready, watch)
        return data  # type: ignore[return-value]

    async def sock_recv_into(self, sock: socket.socket, buf: WriteableBuffer) -> int:
        """Receives into `buf`; how many bytes, 0 at the end of the stream."""
        while type(count := self._sock_recv_into(sock, buf)) is tuple:
            ready, watch = count
            try:
                await ready
            finally:
                self._unwait(ready, watch)
        return count  # type: ignore[return-value]

    async def sock_sendall(self, sock: socket.socket, data: ReadableBuffer) -> None:
        """Sends all of `data`. After an error it is unknown how much went."""
        while (left := self._sock_send(sock, data)) is not None:
            data, ready, watch = left
            try:
                await ready
            finally:
                self._unwait(ready, watch)

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """The next connection, as a non-blocking socket, and the peer's address."""
        self._check_socket(sock)
        while True:
            try:
                connection, address = sock.accept()
            except (BlockingIOError, InterruptedError):
                pass
            else:
                connection.setblocking(False)
                return connection, address
            ready, watch = self._wait_readable(sock)
            try:
                await ready
            finally:
                self._unwait(ready, watch)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connects `sock`; a host name in `address` is looked up first."""
        self._check_socket(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            found = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto
            )
            address = found[0][4]
        try:
            sock.connect(address)
            return
        except InterruptedError:
            pass  # It goes on in the background, see connect(2).
        except BlockingIOError as exc:
            if exc.errno == errno.EAGAIN:
                raise  # Nothing has begun: a Unix socket whose listener's queue is full.
        ready, watch = self._wait_writable(sock)
        try:
            await ready
        finally:
            self._unwait(ready, watch)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, f"Connect call failed {address}")

    if sys.version_info >= (3, 11):

        async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
            """Receives one datagram, cut to `bufsize` bytes, and its sender's address."""
            self._check_socket(sock)
            return await self._attempt(self._wait_readable, sock, lambda: sock.recvfrom(bufsize))

        async def sock_recvfrom_into(
            self, sock: socket.socket, buf: WriteableBuffer, nbytes: int = 0
        ) -> tuple[int, Any]:
            """As `sock_recvfrom`, into `buf`, of which it uses `nbytes` (0: all)."""
            self._check_socket(sock)
            if not nbytes:
                nbytes = len(buf)  # type: ignore[arg-type]
            return await self._attempt(
                self._wait_readable, sock, lambda: sock.recvfrom_into(buf, nbytes)
            )

        async def sock_sendto(self, sock: socket.socket, data: ReadableBuffer, address: Any) -> int:
            """Sends one datagram; how many bytes went."""
            self._check_socket(sock)
            return await self._attempt(
                self._wait_writable, sock, lambda: sock.sendto(data, address)
            )

        async def _attempt(
            self,
            wait: Callable[[socket.socket], tuple[asyncio.Future[None], int]],
            sock: socket.socket,
            call: Callable[[], _T],
        ) -> _T:
            """Calls until it does not block."""
            while True:
                try:
                    return call()
                except (BlockingIOError, InterruptedError):
                    pass
                ready, watch = wait(sock)
                try:
                    await ready
                finally:
                    self._unwait(ready, watch)

    def _check_socket(self, sock: socket.socket) -> None:
        check_not_tls(sock)
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")


def check_not_tls(sock: socket.socket) -> None:
    """`TypeError` for a socket of the `ssl` module, which does its own blocking I/O."""
    if ssl is not None and isinstance(sock, ssl.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")
