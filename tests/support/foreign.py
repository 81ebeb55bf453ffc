"""Transports of nobody's loop, such as libraries bring with them."""

from __future__ import annotations

import asyncio
from typing import Any


class ForeignTransport(asyncio.Transport):
    """What they have in common. How bytes go and come is up to the derived class."""

    _start_tls_compatible = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.protocol: Any = None
        self.closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self.protocol
        return protocol

    def deliver(self, data: Any) -> None:
        """Passes on what has come, which need not be bytes."""
        if isinstance(self.protocol, asyncio.BufferedProtocol):
            self.protocol.get_buffer(-1)[: len(data)] = data
            self.protocol.buffer_updated(len(data))
        else:
            self.protocol.data_received(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self._force_close(None)

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, exc: BaseException | None) -> None:
        if not self.closing:
            self.closing = True
            self.loop.call_soon(self.lost, exc)

    def lost(self, exc: BaseException | None) -> None:
        self.protocol.connection_lost(exc)
