"""`create_server`, and the `Server` that it and `create_unix_server` return.

Accepting is native: for each connection the native loop makes the protocol and the transport,
and counts it (`_native.Server`). The listening sockets belong to the server, which closes them
once. Runs on the loop's thread; what other threads close is passed on to it.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import functools
import itertools
import os
import socket
import sys
import weakref
from asyncio.log import logger
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from . import _native
from ._connect import bind_error, check_stream
from ._resolve import AddressInfo, Resolve
from ._sock import check_not_tls
from ._tls import TlsSettings, check_tls_arguments

if TYPE_CHECKING:
    import ssl as tls

_ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Server(_native.Server, asyncio.Server):
    """Listening sockets and the connections that came through them.

    A subclass of `asyncio.Server` in name, for annotations and isinstance checks: every method is
    here. `wait_closed()` waits for the connections where that of the running Python does (3.12
    and later). `close_clients()` and `abort_clients()` are there on every Python.
    """

    def __init__(
        self,
        loop: Serve,
        sockets: list[socket.socket],
        protocol_factory: _ProtocolFactory,
        backlog: int,
        cleanup: Callable[[], None] | None = None,
        *,
        owned: bool,
    ) -> None:
        self._loop = loop
        self._sockets: list[socket.socket] | None = sockets
        self._protocol_factory = protocol_factory
        self._backlog = backlog
        # Whether the loop made the sockets: then nobody else accepts from them.
        self._owned = owned
        # Called once, after the listening sockets are closed.
        self._cleanup = cleanup
        self._serving = False
        self._serving_forever: asyncio.Future[None] | None = None
        # `None` once the server is closed and its last connection is gone.
        self._waiters: list[asyncio.Future[None]] | None = []
        # Transports that are not the loop's own; before 3.13, how many there are.
        self._others: Any = weakref.WeakSet() if sys.version_info >= (3, 13) else 0
        # Since 3.15 each connection gets a copy of it; before, serving began in it.
        self._context = contextvars.copy_context() if sys.version_info >= (3, 15) else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        await self.wait_closed()

    def get_loop(self) -> Serve:
        """The loop that serves."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        return self._serving

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:  # type: ignore[override]
        """The listening sockets; empty once the server is closed."""
        return tuple(TransportSocket(sock) for sock in self._sockets or ())

    async def start_serving(self) -> None:
        """Accepts connections, if it does not yet."""
        self._start_serving()
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Accepts connections until the caller is cancelled, then closes the server."""
        if self._serving_forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        self._start_serving()
        self._serving_forever = self._loop.create_future()
        try:
            await self._serving_forever
        except asyncio.CancelledError:
            try:
                self.close()
                if sys.version_info >= (3, 14):
                    self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._serving_forever = None

    def close(self) -> None:
        """Stops accepting and closes the listening sockets; connections go on."""
        sockets = self._sockets
        if sockets is None:
            return
        self._sockets = None
        self._serving = False
        if self._loop._is_elsewhere():
            # Its thread accepts, and wakes who waits.
            self._loop.call_soon_threadsafe(self._end_serving, sockets)
        else:
            self._end_serving(sockets)

    def _end_serving(self, sockets: list[socket.socket]) -> None:
        for sock in sockets:
            self._loop._stop_serving(sock)
        if self._cleanup is not None:
            self._cleanup()
        if self._serving_forever is not None and not self._serving_forever.done():
            self._serving_forever.cancel()
            self._serving_forever = None
        if self._ends():
            self._wakeup()

    def close_clients(self) -> None:
        """Closes every connection once its buffered data are sent."""
        if self._loop._is_elsewhere():
            self._loop.call_soon(self.close_clients)  # Which debug mode refuses, as with asyncio's.
            return
        for transport in self._transports():
            transport.close()

    def abort_clients(self) -> None:
        """Closes every connection at once; buffered data are lost."""
        if self._loop._is_elsewhere():
            self._loop.call_soon(self.abort_clients)
            return
        for transport in self._transports():
            transport.abort()

    async def wait_closed(self) -> None:
        """Waits until the server is closed and, from Python 3.12 on, its connections too."""
        if self._waiters is None or (sys.version_info < (3, 12) and self._sockets is None):
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _start_serving(self) -> None:
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        if self._serving:
            return
        self._serving = True
        for sock in self._sockets:
            sock.listen(self._backlog)
            start: Callable[..., Any] = self._loop._start_serving
            if self._context is not None:
                start = functools.partial(self._context.run, start)
            start(self._protocol_factory, sock, self, self._backlog)

    # asyncio's transports, and those written like them, use these to say whose they are.
    if sys.version_info >= (3, 13):

        def _attach(self, transport: Any) -> None:
            assert self._sockets is not None
            self._others.add(transport)

        def _detach(self, transport: Any) -> None:
            self._others.discard(transport)
            self._wakeup_at_the_end()

    else:

        def _attach(self) -> None:
            assert self._sockets is not None
            self._others += 1

        def _detach(self) -> None:
            assert self._others > 0
            self._others -= 1
            self._wakeup_at_the_end()

    def _wakeup_at_the_end(self) -> None:
        if self._sockets is None and self._ends():
            self._wakeup()

    def _transports(self) -> list[Any]:
        others = self._others if sys.version_info >= (3, 13) else ()
        return [*self._attached(self._loop), *others]

    @property
    def _clients(self) -> weakref.WeakSet[Any]:
        return weakref.WeakSet(self._transports())

    def _wakeup(self) -> None:
        """Called when the server is closed and none of the loop's own connections is left."""
        if self._others:
            return
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)


class Serve(Resolve):
    """Listening for connections."""

    STATE: tuple[str, ...] = (*Resolve.STATE, "_listening")

    def __init__(self) -> None:
        super().__init__()
        # How the native loop identifies a listening socket.
        self._listening: dict[socket.socket, int] = {}

    # The names are those of asyncio's loop.

    def _start_serving(
        self, protocol_factory: _ProtocolFactory, sock: socket.socket, server: Server, backlog: int
    ) -> None:
        self._listening[sock] = self._listen(sock, protocol_factory, server, backlog, server._owned)

    def _stop_serving(self, sock: socket.socket) -> None:
        """Stops accepting from `sock`, and closes it."""
        key = self._listening.pop(sock, None)
        if key is not None:
            self._unlisten(key)
        sock.close()

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: _ProtocolFactory,
        host: str | Iterable[str | None] | None = None,
        port: int | str | None = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: tls.SSLContext | None = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server:
        """Listens on every address of `host` (one name or several; `None` or `""`: all), or on
        the bound `sock`.

        An address that this machine does not have is passed over while another one can be bound;
        `OSError` with the address in its message if one is taken, or if none is left.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        check_tls_arguments(ssl is not None, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            check_not_tls(sock)
        if ssl is not None:
            settings = TlsSettings.of(
                ssl,
                server_side=True,
                handshake_timeout=ssl_handshake_timeout,
                shutdown_timeout=ssl_shutdown_timeout,
            )
            protocol_factory = settings.factory(self, protocol_factory)

        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            infos = await self._resolve_hosts(host, port, family, flags)
            options = _listening_options(reuse_address, reuse_port, keep_alive)
            sockets = self._bind_all(infos, options)
        else:
            if sock is None:
                raise ValueError("Neither host/port nor sock were specified")
            check_stream(sock)
            sockets = [sock]
        for each in sockets:
            each.setblocking(False)
        server = Server(self, sockets, protocol_factory, backlog, owned=sock is None)
        if start_serving:
            await begin_serving(server)
        if self.get_debug():
            logger.info("%r is serving", server)
        return server

    async def _resolve_hosts(
        self,
        host: str | Iterable[str | None] | None,
        port: int | str | None,
        family: int,
        flags: int,
    ) -> list[AddressInfo]:
        """Each address once, in the order of the hosts."""
        hosts: Iterable[Any]
        if host == "":
            hosts = [None]
        elif isinstance(host, str) or not isinstance(host, Iterable):
            hosts = [host]
        else:
            hosts = host
        found = await asyncio.gather(
            *(
                self._ensure_resolved(
                    (name, port),
                    family=family,
                    type=socket.SOCK_STREAM,
                    flags=flags,
                    none=f"getaddrinfo({name!r}) returned empty list",
                )
                for name in hosts
            )
        )
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))

    def _bind_all(
        self, infos: list[AddressInfo], options: list[tuple[int, int]]
    ) -> list[socket.socket]:
        sockets: list[socket.socket] = []
        try:
            for family, kind, proto, _, address in infos:
                try:
                    sock = socket.socket(family, kind, proto)
                except OSError:
                    # A family or protocol that this system does not have.
                    if self.get_debug():
                        logger.warning(
                            "create_server() failed to create socket.socket(%r, %r, %r)",
                            family,
                            kind,
                            proto,
                            exc_info=True,
                        )
                    continue
                sockets.append(sock)
                _set_options(sock, options)
                try:
                    sock.bind(address)
                except OSError as exc:
                    error = bind_error(address, exc)
                    if exc.errno != errno.EADDRNOTAVAIL:
                        raise error from None
                    # Most likely a family that is switched off.
                    sockets.pop().close()
                    if self.get_debug():
                        logger.warning("%s", error.strerror)
            if not sockets:
                raise OSError(
                    f"could not bind on any address out of {[info[4] for info in infos]!r}"
                )
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return sockets


async def begin_serving(server: Server) -> None:
    """Starts serving, or leaves nothing open but a caller's socket that cannot listen."""
    try:
        await server.start_serving()
    except BaseException as exc:
        if server._owned or not isinstance(exc, Exception):
            server.close()
        raise


def _listening_options(
    reuse_address: bool | None, reuse_port: bool | None, keep_alive: bool | None
) -> list[tuple[int, int]]:
    """The options of SOL_SOCKET to set. `ValueError` for `reuse_port` where there is none."""
    if reuse_address is None:
        reuse_address = os.name == "posix" and sys.platform != "cygwin"
    options = []
    if reuse_address:
        options.append((socket.SO_REUSEADDR, 1))
    if reuse_port:
        if not hasattr(socket, "SO_REUSEPORT"):
            raise ValueError("reuse_port not supported by socket module")
        options.append((socket.SO_REUSEPORT, 1))
    if keep_alive:
        options.append((socket.SO_KEEPALIVE, 1))
    return options


def _set_options(sock: socket.socket, options: list[tuple[int, int]]) -> None:
    for option, value in options:
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, value)
        except OSError as exc:
            if option != getattr(socket, "SO_REUSEPORT", None):
                raise
            raise ValueError(
                "reuse_port not supported by socket module, "
                "SO_REUSEPORT defined but not implemented."
            ) from exc
    if sock.family == socket.AF_INET6:
        # An IPv4 address with the same port has a socket of its own.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
