"""`create_unix_connection` and `create_unix_server`: stream sockets with a path.

A path is a `str`, `bytes` or `os.PathLike`; one that begins with a null byte is a name in
Linux's abstract namespace and not a file. A server's file is made by bind(2), and outlives the
socket unless somebody removes it. So a new server removes a stale file, and a server that
closes removes its own. Runs on the loop's thread.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import stat
import sys
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ._connect import Connect
from ._server import Serve, Server, begin_serving
from ._sock import check_not_tls
from ._tls import TlsSettings, check_tls_arguments

if TYPE_CHECKING:
    import asyncio
    import ssl as tls

    _ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)

# asyncio's servers remove their file since Python 3.13; programs for an older one do it themselves.
_CLEANUP = sys.version_info >= (3, 13)

_Path: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"


class UnixSockets(Connect, Serve):
    """Connections and servers whose address is a path."""

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        path: _Path | None = None,
        *,
        ssl: bool | tls.SSLContext | None = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _ProtocolT]:
        """Connects to the server at `path`, or takes the connected `sock`."""
        if ssl and server_hostname is None:
            raise ValueError("you have to pass server_hostname when using ssl")
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        check_tls_arguments(bool(ssl), ssl_handshake_timeout, ssl_shutdown_timeout)
        _check_place(path, sock, "no path and sock were specified")
        settings: Callable[[], TlsSettings] | None = None
        if ssl:
            settings = functools.partial(
                TlsSettings.of,
                ssl,
                server_hostname=server_hostname,
                handshake_timeout=ssl_handshake_timeout,
                shutdown_timeout=ssl_shutdown_timeout,
            )

        if sock is not None:
            return await self._hand_over(sock, protocol_factory, owned=False, tls=settings)
        address = os.fspath(path)  # type: ignore[arg-type]
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.setblocking(False)
            await self.sock_connect(connecting, address)
        except BaseException:
            connecting.close()
            raise
        return await self._hand_over(connecting, protocol_factory, owned=True, tls=settings)

    async def create_unix_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: _Path | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: tls.SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = _CLEANUP,
    ) -> Server:
        """Listens at `path`, or on the bound `sock`.

        A socket that is already at `path` is removed, whether or not somebody listens on it; any
        other file is an `OSError`. With `cleanup_socket` (the default from Python 3.13 on) closing
        the server removes the file, unless another one has taken its place.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        check_tls_arguments(ssl is not None, ssl_handshake_timeout, ssl_shutdown_timeout)
        _check_place(path, sock, "path was not specified, and no sock specified")
        if ssl is not None:
            settings = TlsSettings.of(
                ssl,
                server_side=True,
                handshake_timeout=ssl_handshake_timeout,
                shutdown_timeout=ssl_shutdown_timeout,
            )
            protocol_factory = settings.factory(self, protocol_factory)

        listening = sock if sock is not None else _bind(os.fspath(path))  # type: ignore[arg-type]
        try:
            cleanup = _cleanup_of(listening) if cleanup_socket else None
            listening.setblocking(False)
        except BaseException:
            if sock is None:
                listening.close()
            raise
        server = Server(self, [listening], protocol_factory, backlog, cleanup, owned=sock is None)
        if start_serving:
            await begin_serving(server)
        return server


def _check_place(path: object, sock: socket.socket | None, neither: str) -> None:
    """`ValueError` unless there is either a path or a socket of the right kind."""
    if path is not None and sock is not None:
        raise ValueError("path and sock can not be specified at the same time")
    if path is not None:
        return
    if sock is None:
        raise ValueError(neither)
    check_not_tls(sock)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")


def _bind(path: str | bytes) -> socket.socket:
    """A new socket bound to `path`, at which a stale socket may be left."""
    remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
    except BaseException as exc:
        sock.close()
        if isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE:
            text = f"Address {path!r} is already in use"
            raise OSError(errno.EADDRINUSE, text) from None
        raise
    return sock


def remove_stale(path: str | bytes) -> None:
    """Removes a socket that a dead process has left at `path`, or a living one has: as asyncio."""
    if _is_abstract(path):
        return
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        # A directory may let us create files and not look at them: bind(2) will tell.
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, exc)


def _cleanup_of(sock: socket.socket) -> Callable[[], None] | None:
    """Removes the file that `sock` is bound to now, and no other that takes its place."""
    path: Any = sock.getsockname()
    if not path or _is_abstract(path):
        return None
    try:
        inode = os.stat(path).st_ino
    except FileNotFoundError:
        return None

    def remove() -> None:
        try:
            if os.stat(path).st_ino == inode:
                os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as exc:
            logger.error("Unable to clean up listening UNIX socket %r: %r", path, exc)

    return remove


def _is_abstract(path: str | bytes) -> bool:
    return path[0] in (0, "\0")
