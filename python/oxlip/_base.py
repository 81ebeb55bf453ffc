"""What the parts of the loop may assume of `self`.

`oxlip.EventLoop` is put together from parts, one subject a file, over the native loop. A part sees
the native methods and those of `asyncio.AbstractEventLoop`; if it needs another part, it derives
from it. At run time `LoopBase` is nothing: the native loop is a base of `EventLoop` alone, so that
its methods are reached without a detour through the parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import sys

    from . import _native

    class LoopBase(_native.EventLoop, asyncio.AbstractEventLoop):
        # asyncio's abstract class answers for these. To a type checker they are abstract there,
        # and nobody could make a loop.
        create_datagram_endpoint = asyncio.AbstractEventLoop.create_datagram_endpoint
        connect_read_pipe = asyncio.AbstractEventLoop.connect_read_pipe
        connect_write_pipe = asyncio.AbstractEventLoop.connect_write_pipe
        subprocess_shell = asyncio.AbstractEventLoop.subprocess_shell
        subprocess_exec = asyncio.AbstractEventLoop.subprocess_exec
        sendfile = asyncio.AbstractEventLoop.sendfile
        start_tls = asyncio.AbstractEventLoop.start_tls
        sock_sendfile = asyncio.AbstractEventLoop.sock_sendfile
        if sys.version_info >= (3, 11):
            sock_recvfrom = asyncio.AbstractEventLoop.sock_recvfrom
            sock_recvfrom_into = asyncio.AbstractEventLoop.sock_recvfrom_into
            sock_sendto = asyncio.AbstractEventLoop.sock_sendto

else:

    class LoopBase:
        __slots__ = ()

        def __init__(self):
            """The end of the line: asyncio's base class keeps its state elsewhere."""
