"""The socket object behind `transport.get_extra_info("socket")` of a connection of ours."""

from __future__ import annotations

import socket


class BorrowedSocket(socket.socket):
    """A view of a descriptor that the transport owns.

    Closing or forgetting it gives the number up and nothing more: a number that was closed twice
    would by then be somebody else's.
    """

    __slots__ = ()

    def dup(self) -> socket.socket:  # type: ignore[override]
        """A duplicate is the program's own, so it is a socket as any other, and closes."""
        sock = socket.socket(self.family, self.type, self.proto, socket.dup(self.fileno()))
        sock.settimeout(self.gettimeout())
        return sock

    def _real_close(self) -> None:
        self.detach()

    def __del__(self) -> None:
        self.detach()
