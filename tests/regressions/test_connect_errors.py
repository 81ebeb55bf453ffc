"""Why a connection could not be made is what the program is told."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import pytest

Loop = asyncio.AbstractEventLoop


class Stubborn(socket.socket):
    """Complains when it is closed, and is."""

    def close(self) -> None:
        super().close()
        raise OSError("so be it")


@pytest.mark.parametrize("all_errors", [False, True])
@pytest.mark.ours  # asyncio before 3.14 raises the error of close()
async def test_error_of_closing_does_not_hide_why_it_is_closed(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, all_errors: bool
) -> None:
    """create_connection() then raised IndexError, since it had no OSError to raise."""

    async def refuse(sock: socket.socket, address: object) -> None:
        raise LookupError("not there")

    monkeypatch.setattr(socket, "socket", Stubborn)
    any_loop: Any = loop
    any_loop.sock_connect = refuse
    options = {"all_errors": True} if all_errors and sys.version_info >= (3, 12) else {}
    with pytest.raises(LookupError, match="not there"):
        await any_loop.create_connection(asyncio.Protocol, "127.0.0.1", 1, **options)
