"""`create_datagram_endpoint`, and protocols that take datagrams in batches.

A socket that is made here is also closed here unless a transport has taken it over: after an
error, and after a cancellation at any of the awaits. Runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import warnings
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from ._sock import SocketCalls
from ._unix import remove_stale

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)

# `AF_UNIX` is not everywhere; no family has this number.
_AF_UNIX = getattr(socket, "AF_UNIX", -1)

_UNSET: Any = object()

# asyncio asserts what an address is before 3.11.
_WRONG_ADDRESS = TypeError if sys.version_info >= (3, 11) else AssertionError


class BatchDatagramProtocol(asyncio.DatagramProtocol):
    """A protocol that gets what has arrived together in one call.

    oxlip calls `datagrams_received()` of any protocol whose class has it, with all that was taken
    from the system at once: at least one datagram, in the order of arrival; at most 32, unless the
    system has joined some. On other loops, which know only `datagram_received()`, this class makes
    a batch of each.
    """

    __slots__ = ()

    def datagrams_received(self, datagrams: list[tuple[bytes, Any]]) -> None:
        """Called with the datagrams that have arrived, each with its sender's address."""

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.datagrams_received([(data, addr)])


class _Options(NamedTuple):
    """What `create_datagram_endpoint()` makes a socket from."""

    local_addr: Any
    remote_addr: Any
    family: int
    proto: int
    flags: int
    reuse_port: bool | None
    allow_broadcast: bool | None


class Datagrams(SocketCalls):
    """Datagram sockets that become transports."""

    if sys.version_info >= (3, 11):

        async def create_datagram_endpoint(
            self,
            protocol_factory: Callable[[], _ProtocolT],
            local_addr: tuple[str, int] | str | None = None,
            remote_addr: tuple[str, int] | str | None = None,
            *,
            family: int = 0,
            proto: int = 0,
            flags: int = 0,
            reuse_port: bool | None = None,
            allow_broadcast: bool | None = None,
            sock: socket.socket | None = None,
        ) -> tuple[asyncio.DatagramTransport, _ProtocolT]:
            """A datagram socket, bound to `local_addr`, connected to `remote_addr`, or given.

            With `allow_broadcast` it is not connected, but sends to `remote_addr` only. The
            addresses of names are tried in turn; if none can be used the first error is raised.
            """
            options = _Options(
                local_addr=local_addr,
                remote_addr=remote_addr,
                family=family,
                proto=proto,
                flags=flags,
                reuse_port=reuse_port,
                allow_broadcast=allow_broadcast,
            )
            return await self._open_datagrams(protocol_factory, sock, options)

    else:

        async def create_datagram_endpoint(
            self,
            protocol_factory: Callable[[], _ProtocolT],
            local_addr: tuple[str, int] | str | None = None,
            remote_addr: tuple[str, int] | str | None = None,
            *,
            family: int = 0,
            proto: int = 0,
            flags: int = 0,
            reuse_address: bool | None = _UNSET,
            reuse_port: bool | None = None,
            allow_broadcast: bool | None = None,
            sock: socket.socket | None = None,
        ) -> tuple[asyncio.DatagramTransport, _ProtocolT]:
            """A datagram socket, bound to `local_addr`, connected to `remote_addr`, or given.

            With `allow_broadcast` it is not connected, but sends to `remote_addr` only. The
            addresses of names are tried in turn; if none can be used the first error is raised.
            """
            if reuse_address is not _UNSET and sock is None:
                if reuse_address:
                    raise ValueError(
                        "Passing `reuse_address=True` is no longer supported, as the usage of "
                        "SO_REUSEPORT in UDP poses a significant security concern."
                    )
                warnings.warn(
                    "The *reuse_address* parameter has been deprecated as of 3.5.10 and is "
                    "scheduled for removal in 3.11.",
                    DeprecationWarning,
                    stacklevel=2,
                )
            options = _Options(
                local_addr=local_addr,
                remote_addr=remote_addr,
                family=family,
                proto=proto,
                flags=flags,
                reuse_port=reuse_port,
                allow_broadcast=allow_broadcast,
            )
            return await self._open_datagrams(protocol_factory, sock, options)

    async def _open_datagrams(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        given: socket.socket | None,
        options: _Options,
    ) -> tuple[asyncio.DatagramTransport, _ProtocolT]:
        remote: Any = None
        if given is not None:
            _check_datagram(given)
            problems = ", ".join(
                f"{name}={value}" for name, value in options._asdict().items() if value
            )
            if problems:
                raise ValueError(
                    "socket modifier keyword arguments can not be used when sock is specified. "
                    f"({problems})"
                )
            given.setblocking(False)
            sock = given
        else:
            sock, remote = await self._first_datagram_socket(options)
        try:
            protocol = protocol_factory()
            waiter = self.create_future()
            transport = self._datagram(
                sock, protocol, address=remote, owned=given is None, waiter=waiter
            )
        except BaseException:
            if given is None:
                sock.close()
            raise
        if self.get_debug():
            local_addr, remote_addr = options.local_addr, options.remote_addr
            if local_addr:
                logger.info(
                    "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
                    local_addr,
                    remote_addr,
                    transport,
                    protocol,
                )
            else:
                logger.debug(
                    "Datagram endpoint remote_addr=%r created: (%r, %r)",
                    remote_addr,
                    transport,
                    protocol,
                )
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    async def _first_datagram_socket(self, options: _Options) -> tuple[socket.socket, Any]:
        """The socket for the first pair of addresses that can be used, and the remote one."""
        errors: list[OSError] = []
        try:
            for key, addresses in await self._address_pairs(options):
                try:
                    return await self._datagram_socket(key, addresses, options)
                except OSError as exc:
                    errors.append(exc)
            raise errors[0]
        finally:
            # Tracebacks hold this frame: no cycle through it.
            del errors

    async def _datagram_socket(
        self, key: tuple[int, int], addresses: tuple[Any, Any], options: _Options
    ) -> tuple[socket.socket, Any]:
        family, proto = key
        local, remote = addresses
        sock = socket.socket(family=family, type=socket.SOCK_DGRAM, proto=proto)
        try:
            if options.reuse_port:
                _reuse_port(sock)
            if options.allow_broadcast:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setblocking(False)
            if options.local_addr:
                sock.bind(local)
            if not options.remote_addr:
                return sock, None
            if not options.allow_broadcast:
                await self.sock_connect(sock, remote)
            return sock, remote
        except BaseException:
            sock.close()
            raise

    async def _address_pairs(
        self, options: _Options
    ) -> list[tuple[tuple[int, int], tuple[Any, Any]]]:
        """Each family and protocol, with a local and a remote address for them."""
        local, remote = options.local_addr, options.remote_addr
        family, proto = options.family, options.proto
        if not (local or remote):
            if family == 0:
                raise ValueError("unexpected address family")
            return [((family, proto), (None, None))]
        if family == _AF_UNIX:
            for address in (local, remote):
                if address is not None and not isinstance(address, str):
                    raise TypeError("string is expected")
            if local:
                remove_stale(local)
            return [((family, proto), (local, remote))]
        found: dict[tuple[int, int], list[Any]] = {}
        for place, address in enumerate((local, remote)):
            if address is None:
                continue
            if not (isinstance(address, tuple) and len(address) == 2):
                raise _WRONG_ADDRESS("2-tuple is expected")
            for info in await self._ensure_resolved(
                address,
                family=family,
                type=socket.SOCK_DGRAM,
                proto=proto,
                flags=options.flags,
            ):
                # As with asyncio, the last address of a family wins.
                found.setdefault((info[0], info[2]), [None, None])[place] = info[4]
        pairs = [
            (key, (pair[0], pair[1]))
            for key, pair in found.items()
            if not ((local and pair[0] is None) or (remote and pair[1] is None))
        ]
        if not pairs:
            raise ValueError("can not get address information")
        return pairs


def _check_datagram(sock: socket.socket) -> None:
    if sys.version_info >= (3, 13):
        if sock.type == socket.SOCK_STREAM:
            raise ValueError(f"A datagram socket was expected, got {sock!r}")
    elif sock.type != socket.SOCK_DGRAM:
        raise ValueError(f"A UDP Socket was expected, got {sock!r}")


def _reuse_port(sock: socket.socket) -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port not supported by socket module")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as exc:
        raise ValueError(
            "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented."
        ) from exc
