"""asyncio's streams with a native reader and writer: same functions, classes and meaning.

`StreamReader` and `StreamWriter` are asyncio's classes with the methods that a busy connection
calls replaced by native ones. They work on any loop. Only `open_connection()`, `start_server()` and
the two for Unix sockets make them, until `take_over()` puts them behind asyncio's names as well.
"""

from __future__ import annotations

import asyncio
import asyncio.streams
from abc import ABCMeta
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from . import _native

_LIMIT = asyncio.streams._DEFAULT_LIMIT  # type: ignore[attr-defined]
# What is behind the names, whoever replaces them later.
_Reader = asyncio.StreamReader
_Writer = asyncio.StreamWriter
_Protocol = asyncio.StreamReaderProtocol

_Callback = Callable[[_Reader, _Writer], Awaitable[None] | None]


class _Instead(ABCMeta):
    """A class that stands where one of asyncio's was: objects of that one count as its own.

    A library may have derived or used asyncio's class before the name was given to another, and may
    mix an abstract class in.
    """

    def __instancecheck__(cls, instance: object) -> bool:
        return cls.__subclasscheck__(type(instance))

    def __subclasscheck__(cls, subclass: type) -> bool:
        stock = vars(cls).get("_stands_for")
        if stock is not None and stock in subclass.__mro__:
            return True
        return super().__subclasscheck__(subclass)


class StreamReader(_native.StreamReader, _Reader, metaclass=_Instead):  # type: ignore[misc]
    """As `asyncio.StreamReader`; what the reading methods give is awaited like a coroutine."""

    _stands_for = _Reader


class StreamWriter(_native.StreamWriter, _Writer, metaclass=_Instead):
    """As `asyncio.StreamWriter`."""

    _stands_for = _Writer


_native.own_streams(StreamReader, _Reader, _Writer, _Protocol)


class StreamReaderProtocol(_Protocol):
    """asyncio's, with a `StreamWriter` of ours for the callback of a server."""

    if TYPE_CHECKING:
        _client_connected_cb: _Callback | None
        _loop: asyncio.AbstractEventLoop
        _reject_connection: bool
        _strong_reader: _Reader | None
        _task: asyncio.Task[None] | None

        @property
        def _stream_reader(self) -> _Reader: ...

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's would make a writer of its own class. Everything else is its business.
        connected = self._client_connected_cb
        self._client_connected_cb = None
        try:
            super().connection_made(transport)
        finally:
            self._client_connected_cb = connected
        if connected is None or self._reject_connection:
            return
        reader = self._stream_reader
        writer = StreamWriter(transport, self, reader, self._loop)
        result = connected(reader, writer)
        if asyncio.iscoroutine(result):
            self._task = self._loop.create_task(result)
            self._task.add_done_callback(lambda task: self._answered(task, transport))
        self._strong_reader = None

    def _answered(self, task: asyncio.Task[None], transport: asyncio.BaseTransport) -> None:
        """The callback's coroutine is over; if that was not its own wish, so is the connection."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._loop.call_exception_handler(
                {
                    "message": "Unhandled exception in client_connected_cb",
                    "exception": error,
                    "transport": transport,
                }
            )
        if error is not None or task.cancelled():
            transport.close()


async def open_connection(
    host: str | None = None,
    port: int | str | None = None,
    *,
    limit: int = _LIMIT,
    **options: Any,
) -> tuple[_Reader, _Writer]:
    """As `asyncio.open_connection()`: `loop.create_connection()` with a reader and a writer.

    `limit` is that of the reader, in bytes.
    """
    loop: Any = asyncio.get_running_loop()
    reader, protocol = _pair(limit, loop)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **options)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: _Callback,
    host: str | None = None,
    port: int | str | None = None,
    *,
    limit: int = _LIMIT,
    **options: Any,
) -> asyncio.AbstractServer:
    """As `asyncio.start_server()`: `loop.create_server()`, which calls back with two streams.

    A coroutine function's coroutine becomes a task. `limit` is that of the readers, in bytes.
    """
    loop: Any = asyncio.get_running_loop()
    server: asyncio.AbstractServer = await loop.create_server(
        lambda: _pair(limit, loop, client_connected_cb)[1], host, port, **options
    )
    return server


async def open_unix_connection(
    path: str | bytes | None = None, *, limit: int = _LIMIT, **options: Any
) -> tuple[_Reader, _Writer]:
    """As `asyncio.open_unix_connection()`: see `open_connection()`."""
    loop: Any = asyncio.get_running_loop()
    reader, protocol = _pair(limit, loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, path, **options)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_unix_server(
    client_connected_cb: _Callback,
    path: str | bytes | None = None,
    *,
    limit: int = _LIMIT,
    **options: Any,
) -> asyncio.AbstractServer:
    """As `asyncio.start_unix_server()`: see `start_server()`."""
    loop: Any = asyncio.get_running_loop()
    server: asyncio.AbstractServer = await loop.create_unix_server(
        lambda: _pair(limit, loop, client_connected_cb)[1], path, **options
    )
    return server


def _pair(
    limit: int, loop: Any, connected: _Callback | None = None
) -> tuple[StreamReader, StreamReaderProtocol]:
    reader = StreamReader(limit=limit, loop=loop)
    return reader, StreamReaderProtocol(reader, connected, loop=loop)


# What `take_over()` puts behind asyncio's names. asyncio's protocol finds the writer there.
REPLACEMENTS: dict[str, Any] = {
    "StreamReader": StreamReader,
    "StreamWriter": StreamWriter,
    "open_connection": open_connection,
    "open_unix_connection": open_unix_connection,
    "start_server": start_server,
    "start_unix_server": start_unix_server,
}


def take_over() -> None:
    """From here on, asyncio's names give these streams, in every loop of the process."""
    for name, replacement in REPLACEMENTS.items():
        for module in (asyncio, asyncio.streams):
            setattr(module, name, replacement)
