"""`create_connection` and `connect_accepted_socket`.

A socket that is made here is also closed here unless a transport has taken it over: after an
error, and after a cancellation at any of the awaits. Runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import itertools
import socket
import sys
from asyncio.log import logger
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from ._resolve import AddressInfo
from ._sock import SocketCalls, check_not_tls
from ._tls import TlsSettings, check_tls_arguments

if TYPE_CHECKING:
    import ssl as tls

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)


class Connect(SocketCalls):
    """Outgoing connections, and connected sockets that become transports."""

    async def create_connection(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        host: str | bytes | None = None,
        port: int | str | None = None,
        *,
        ssl: bool | tls.SSLContext | None = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket.socket | None = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, _ProtocolT]:
        """Connects to `host` and `port`, or takes the connected `sock`.

        The addresses of a name are tried in turn; with `happy_eyeballs_delay` (seconds) a slow
        attempt is overtaken by the next one (RFC 8305) and `interleave` mixes the families, 1
        unless given. If none answers, `OSError` tells of all attempts; with `all_errors` it is an
        `ExceptionGroup` of them (Python ≥ 3.11).
        """
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        if server_hostname is None and ssl:
            if not host:
                raise ValueError("You must set server_hostname when using ssl without a host")
            server_hostname = cast(str, host)
        check_tls_arguments(bool(ssl), ssl_handshake_timeout, ssl_shutdown_timeout)
        if all_errors and sys.version_info < (3, 11):
            raise TypeError("all_errors needs the ExceptionGroup of Python 3.11")
        if sock is not None:
            check_not_tls(sock)
        settings = functools.partial(
            TlsSettings.of,
            ssl,
            server_hostname=server_hostname,
            handshake_timeout=ssl_handshake_timeout,
            shutdown_timeout=ssl_shutdown_timeout,
        )

        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            resolve = functools.partial(
                self._ensure_resolved,
                family=family,
                type=socket.SOCK_STREAM,
                proto=proto,
                flags=flags,
            )
            remote = await resolve((host, port))
            local = await resolve(local_addr) if local_addr is not None else None
            if happy_eyeballs_delay is not None and interleave is None:
                interleave = 1
            if interleave:
                remote = interleave_families(remote, interleave)
            connected = await self._connect_any(
                remote, local, delay=happy_eyeballs_delay, all_errors=all_errors
            )
            transport, protocol = await self._hand_over(
                connected, protocol_factory, owned=True, tls=settings if ssl else None
            )
        else:
            if sock is None:
                raise ValueError("host and port was not specified and no sock specified")
            check_stream(sock)
            transport, protocol = await self._hand_over(
                sock, protocol_factory, owned=False, tls=settings if ssl else None
            )
        if self.get_debug():
            logger.debug(
                "%r connected to %s:%r: (%r, %r)",
                transport.get_extra_info("socket"),
                host,
                port,
                transport,
                protocol,
            )
        return transport, protocol

    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        sock: socket.socket,
        *,
        ssl: bool | tls.SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _ProtocolT]:
        """Serves a connection that was accepted elsewhere."""
        check_stream(sock)
        check_tls_arguments(bool(ssl), ssl_handshake_timeout, ssl_shutdown_timeout)
        check_not_tls(sock)
        settings = functools.partial(
            TlsSettings.of,
            ssl,
            server_side=True,
            handshake_timeout=ssl_handshake_timeout,
            shutdown_timeout=ssl_shutdown_timeout,
        )
        transport, protocol = await self._hand_over(
            sock, protocol_factory, owned=False, tls=settings if ssl else None
        )
        if self.get_debug():
            logger.debug(
                "%r handled: (%r, %r)", transport.get_extra_info("socket"), transport, protocol
            )
        return transport, protocol

    async def _hand_over(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], _ProtocolT],
        *,
        owned: bool,
        tls: Callable[[], TlsSettings] | None = None,
    ) -> tuple[asyncio.Transport, _ProtocolT]:
        """Makes a transport of `sock`, with TLS if `tls` is given, and waits until its protocol is
        connected."""
        transport: asyncio.Transport
        try:
            sock.setblocking(False)
            # Taken before the factory is called, which may change its own context.
            context = contextvars.copy_context() if sys.version_info >= (3, 15) else None
            protocol = protocol_factory()
            waiter = self.create_future()
            if tls is None:
                transport = self._connection(
                    sock, protocol, owned=owned, waiter=waiter, context=context
                )
            else:
                secure = tls().protocol(self, protocol, waiter)
                self._connection(sock, secure, owned=owned, context=context)
                transport = cast(asyncio.Transport, secure.transport)
        except BaseException:
            # Since Python 3.14 the program's own socket, too.
            if owned or sys.version_info >= (3, 14):
                sock.close()
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        finally:
            del waiter  # Its exception holds this frame: no cycle through it.
        return transport, protocol

    async def _connect_any(
        self,
        remote: list[AddressInfo],
        local: list[AddressInfo] | None,
        *,
        delay: float | None,
        all_errors: bool,
    ) -> socket.socket:
        """The first socket that connects to one of `remote`."""
        errors: list[list[OSError]] = []
        connected: socket.socket | None = None
        try:
            if delay is None:
                for info in remote:
                    try:
                        return await self._connect_one(errors, info, local)
                    except OSError:
                        continue
            else:
                attempts = (
                    functools.partial(self._connect_one, errors, info, local) for info in remote
                )
                connected = await self._race(attempts, delay)
                if connected is not None:
                    return connected
            _raise_all([error for attempt in errors for error in attempt], all_errors)
        finally:
            # Tracebacks hold this frame: no cycle through it.
            del errors

    async def _connect_one(
        self,
        errors: list[list[OSError]],
        info: AddressInfo,
        local: list[AddressInfo] | None,
    ) -> socket.socket:
        """One attempt. What fails on the way goes to a list of its own in `errors`, too."""
        mine: list[OSError] = []
        errors.append(mine)
        family, kind, proto, _, address = info
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family=family, type=kind, proto=proto)
            sock.setblocking(False)
            if local is not None:
                _bind_any(sock, local, mine)
            await self.sock_connect(sock, address)
            return sock
        except BaseException as exc:
            if isinstance(exc, OSError):
                mine.append(exc)
            if sock is not None:
                # An error of close() matters less than this one.
                with contextlib.suppress(OSError):
                    sock.close()
            raise
        finally:
            del errors, mine

    async def _race(
        self,
        attempts: Iterable[Callable[[], Coroutine[Any, Any, socket.socket]]],
        delay: float,
    ) -> socket.socket | None:
        """The socket of the first attempt that succeeds; `None` if all end in `OSError`.

        An attempt starts when the one before it has failed or is `delay` seconds old. On the way
        out, whichever it is, the others are cancelled and what they may still bring is closed.
        """
        tasks: list[asyncio.Task[socket.socket]] = []
        winner: asyncio.Task[socket.socket] | None = None
        upcoming = iter(attempts)
        more = True
        next_start = self.time()
        try:
            while True:
                if more and (not tasks or tasks[-1].done() or self.time() >= next_start):
                    attempt = next(upcoming, None)
                    if attempt is None:
                        more = False
                    else:
                        tasks.append(self.create_task(attempt()))
                        next_start = self.time() + delay
                winner = next((task for task in tasks if _succeeded(task)), None)
                if winner is not None:
                    return winner.result()
                running = [task for task in tasks if not task.done()]
                if running:
                    await asyncio.wait(
                        running,
                        timeout=max(0.0, next_start - self.time()) if more else None,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                elif not more:
                    return None
        finally:
            losers = [task for task in tasks if task is not winner]
            running = [task for task in losers if not task.done()]
            for task in losers:
                if task.done():
                    _close_result(task)
                else:
                    task.add_done_callback(_close_result)
                    task.cancel()
            if running:
                try:
                    await asyncio.wait(running)
                except asyncio.CancelledError:
                    if winner is not None:
                        winner.result().close()
                    raise
            del tasks, losers, running, winner


def interleave_families(infos: list[AddressInfo], first_family_count: int = 1) -> list[AddressInfo]:
    """The addresses with their families alternating, the first family leading by some."""
    families: dict[int, list[AddressInfo]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    first, *others = families.values()
    lead = max(first_family_count - 1, 0)
    turns = itertools.zip_longest(first[lead:], *others)
    return first[:lead] + [info for turn in turns for info in turn if info is not None]


def check_stream(sock: socket.socket) -> None:
    """`ValueError` unless `sock` is a stream socket, of whatever family."""
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")


def _bind_any(sock: socket.socket, candidates: list[AddressInfo], errors: list[OSError]) -> None:
    """Binds `sock` to the first of `candidates` that suits it; the last refusal is raised."""
    family = sock.family
    for candidate_family, _, _, _, address in candidates:
        if candidate_family != family:
            continue
        try:
            sock.bind(address)
            return
        except OSError as exc:
            errors.append(bind_error(address, exc))
    raise errors.pop() if errors else OSError(f"no matching local address with {family=} found")


def bind_error(address: object, exc: OSError) -> OSError:
    """The same error with the address in its message."""
    return OSError(
        exc.errno, f"error while attempting to bind on address {address!r}: {str(exc).lower()}"
    )


def _raise_all(errors: list[OSError], all_errors: bool) -> NoReturn:
    try:
        if all_errors and sys.version_info >= (3, 11):
            raise ExceptionGroup("create_connection failed", errors)  # noqa: F821
        texts = [str(error) for error in errors]
        if all(text == texts[0] for text in texts):
            raise errors[0]
        raise OSError(f"Multiple exceptions: {', '.join(texts)}")
    finally:
        del errors


def _succeeded(task: asyncio.Task[socket.socket]) -> bool:
    """Whether an attempt has brought a socket. Anything but an `OSError` is raised."""
    if not task.done():
        return False
    error = task.exception()  # Raises if somebody has cancelled the attempt itself.
    if error is not None and not isinstance(error, OSError):
        raise error
    return error is None


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
