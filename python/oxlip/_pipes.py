"""`connect_read_pipe` and `connect_write_pipe`.

Their transports use the file object of a pipe, a FIFO, a socket or a character device, and
close it at their end.

Runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeVar

from ._lifecycle import Lifecycle

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)
_TransportT = TypeVar("_TransportT", bound=asyncio.BaseTransport)


class Pipes(Lifecycle):
    """One-way streams."""

    async def connect_read_pipe(
        self, protocol_factory: Callable[[], _ProtocolT], pipe: Any
    ) -> tuple[asyncio.ReadTransport, _ProtocolT]:
        """Reads from `pipe`, which becomes non-blocking."""
        protocol = protocol_factory()
        transport = await self._connect_pipe("Read", self._read_pipe, pipe, protocol)
        return transport, protocol

    async def connect_write_pipe(
        self, protocol_factory: Callable[[], _ProtocolT], pipe: Any
    ) -> tuple[asyncio.WriteTransport, _ProtocolT]:
        """Writes to `pipe`, which becomes non-blocking."""
        protocol = protocol_factory()
        transport = await self._connect_pipe("Write", self._write_pipe, pipe, protocol)
        return transport, protocol

    async def _connect_pipe(
        self,
        direction: str,
        make: Callable[[Any, asyncio.BaseProtocol, asyncio.Future[None]], _TransportT],
        pipe: Any,
        protocol: asyncio.BaseProtocol,
    ) -> _TransportT:
        waiter = self.create_future()
        transport = make(pipe, protocol, waiter)
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        if self.get_debug():
            logger.debug(
                "%s pipe %r connected: (%r, %r)", direction, pipe.fileno(), transport, protocol
            )
        return transport
