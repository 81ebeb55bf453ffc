"""TLS: `start_tls`, and what `ssl=` means to everything that takes it.

`TlsSettings` is the seam: whoever connects or accepts asks it for the protocol to put on the
raw transport, and gives the program that protocol's `transport`. Runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
from asyncio import constants
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._base import LoopBase
from ._native import TlsProtocol

try:
    import ssl
except ImportError:
    ssl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from ._native import EventLoop, SSLTransport

# How long asyncio waits for the peer's farewell. Python 3.10 has no such constant.
SHUTDOWN_TIMEOUT: float = getattr(constants, "SSL_SHUTDOWN_TIMEOUT", 30.0)


@dataclass(frozen=True)
class TlsSettings:
    """How connections are to be encrypted. Its maker has checked the combination of arguments."""

    context: ssl.SSLContext
    server_side: bool
    server_hostname: str | None
    handshake_timeout: float
    shutdown_timeout: float

    @classmethod
    def of(
        cls,
        context: ssl.SSLContext | bool | None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        handshake_timeout: float | None = None,
        shutdown_timeout: float | None = None,
    ) -> TlsSettings:
        """The settings for what a program gave as `ssl=`; `True` is a default client's.

        `ValueError` for a time-out that is not positive, and for `True` on the server's side.
        """
        if handshake_timeout is None:
            handshake_timeout = constants.SSL_HANDSHAKE_TIMEOUT
        elif handshake_timeout <= 0:
            raise ValueError(
                f"ssl_handshake_timeout should be a positive number, got {handshake_timeout}"
            )
        if shutdown_timeout is None:
            shutdown_timeout = SHUTDOWN_TIMEOUT
        elif shutdown_timeout <= 0:
            raise ValueError(
                f"ssl_shutdown_timeout should be a positive number, got {shutdown_timeout}"
            )
        if context is None or isinstance(context, bool):
            if server_side:
                raise ValueError("Server side SSL needs a valid SSLContext")
            context = ssl.create_default_context()
            if not server_hostname:
                context.check_hostname = False
        return cls(
            context,
            server_side,
            None if server_side else server_hostname or None,
            handshake_timeout,
            shutdown_timeout,
        )

    def protocol(
        self,
        loop: EventLoop,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None,
        *,
        connection_made: bool = False,
        accepted: bool = False,
    ) -> TlsProtocol:
        """What goes between a raw transport and `protocol`. `waiter` is told of the handshake.

        `connection_made`: `protocol` is connected already, and is not told again. `accepted`:
        nobody waits, so that debug mode reports a failure.
        """
        return TlsProtocol(
            loop,
            protocol,
            self.context,
            waiter,
            server_side=self.server_side,
            server_hostname=self.server_hostname,
            handshake_timeout=self.handshake_timeout,
            shutdown_timeout=self.shutdown_timeout,
            connection_made=connection_made,
            accepted=accepted,
        )

    def factory(
        self, loop: EventLoop, protocol_factory: Callable[[], asyncio.BaseProtocol]
    ) -> Callable[[], TlsProtocol]:
        """A factory for the protocols of accepted raw transports."""
        return lambda: self.protocol(loop, protocol_factory(), None, accepted=True)


class StartTls(LoopBase):
    """Connections that become TLS connections."""

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> SSLTransport:
        """Shakes hands on `transport` and returns the transport that `protocol` is to use instead.

        `transport` may itself be a TLS connection. After an error it is closed.
        """
        if ssl is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        settings = TlsSettings.of(
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            handshake_timeout=ssl_handshake_timeout,
            shutdown_timeout=ssl_shutdown_timeout,
        )
        waiter = self.create_future()
        below: Any = transport
        tls = settings.protocol(self, protocol, waiter, connection_made=True)
        secured = tls.transport
        assert secured is not None  # It is not lost before it has begun.
        # Nothing may arrive before connection_made() has run.
        below.pause_reading()
        below.set_protocol(tls)
        if server_side and isinstance(protocol, asyncio.StreamReaderProtocol):
            _hand_over_read(protocol, tls)
        steps = [self.call_soon(tls.connection_made, below), self.call_soon(below.resume_reading)]
        try:
            await waiter
        except BaseException:
            below.close()
            for step in steps:
                step.cancel()
            raise
        finally:
            del waiter, tls  # An exception holds this frame: no cycle through it.
        return secured


def _hand_over_read(protocol: asyncio.StreamReaderProtocol, tls: TlsProtocol) -> None:
    """What a stream has received and its program not read is the first that belongs to TLS: a
    client begins to shake hands as soon as it likes."""
    reader = getattr(protocol, "_stream_reader", None)
    if reader is not None and reader._buffer:
        tls.data_received(bytes(reader._buffer))
        reader._buffer.clear()


def check_tls_arguments(
    with_tls: bool, handshake_timeout: float | None, shutdown_timeout: float | None
) -> None:
    """`ValueError` for TLS settings without TLS."""
    if handshake_timeout is not None and not with_tls:
        raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
    if shutdown_timeout is not None and not with_tls:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")
