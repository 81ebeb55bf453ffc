"""asyncio's streams with a native reader and writer: same functions, classes and meaning.

`StreamReader` and `StreamWriter` derive from asyncio's classes. The methods that a busy
connection calls ask a native half first. They work on any loop. `open_connection()`,
`start_server()` and the two for Unix sockets make them, and after `take_over()` so do asyncio's
functions of these names.
"""

from __future__ import annotations

import asyncio
import asyncio.streams
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from . import _native
from ._prompt import prompt
from ._stock import beyond

_LIMIT = asyncio.streams._DEFAULT_LIMIT  # type: ignore[attr-defined]
# asyncio's own, whoever replaces them later.
_Reader = asyncio.StreamReader
_Writer = asyncio.StreamWriter
_Protocol = asyncio.StreamReaderProtocol

_Callback = Callable[[_Reader, _Writer], Awaitable[None] | None]


class StreamReader(_native.StreamReader, _Reader):
    """As `asyncio.StreamReader`."""

    # What the native half answers is told there: bytes, what to wait on, or `NotImplemented`. The
    # waiting is written out in each: a coroutine in common would be one more frame at every wait,
    # which is what a busy stream does most.

    async def read(self, n: int = -1) -> bytes:
        data = self._some(n, None)
        if type(data) is bytes:
            return data
        if data is not NotImplemented:
            try:
                await data
            except:
                self._waiter = None
                raise
            data = self._some(n, data)
        if data is NotImplemented:
            return await beyond(StreamReader, self).read(n)  # type: ignore[no-any-return]
        return data  # type: ignore[no-any-return]

    async def readexactly(self, n: int) -> bytes:
        data = self._exactly(n, None)
        while type(data) is not bytes:
            if data is NotImplemented:
                return await beyond(StreamReader, self).readexactly(n)  # type: ignore[no-any-return]
            try:
                await data
            except:
                self._waiter = None
                raise
            data = self._exactly(n, data)
        return data

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        data = self._until(separator, None)
        while type(data) is not bytes:
            if data is NotImplemented:
                return await beyond(StreamReader, self).readuntil(separator)  # type: ignore[no-any-return]
            try:
                await data
            except:
                self._waiter = None
                raise
            data = self._until(separator, data)
        return data

    async def readline(self) -> bytes:
        try:
            data = self._line(None)
            while type(data) is not bytes:
                if data is NotImplemented:
                    return await beyond(StreamReader, self).readline()  # type: ignore[no-any-return]
                try:
                    await data
                except:
                    self._waiter = None
                    raise
                data = self._line(data)
            return data
        except asyncio.LimitOverrunError as error:
            # The line goes, or as much of it as there is.
            if self._buffer.startswith(b"\n", error.consumed):
                del self._buffer[: error.consumed + 1]
            else:
                self._buffer.clear()
            self._maybe_resume_transport()  # type: ignore[attr-defined]
            raise ValueError(error.args[0])  # noqa: B904 - asyncio's has it as its context


class StreamWriter(_native.StreamWriter, _Writer):
    """As `asyncio.StreamWriter`."""

    @prompt
    async def drain(self) -> None:
        if not self._is_drained():
            await super().drain()


class StreamReaderProtocol(_Protocol):
    """asyncio's, with a `StreamWriter` of ours for the callback of a server.

    What becomes of the callback's task is Python 3.13's on every version.
    """

    if TYPE_CHECKING:
        _client_connected_cb: _Callback | None
        _loop: asyncio.AbstractEventLoop
        _reject_connection: bool
        _strong_reader: _Reader | None
        _task: asyncio.Task[None] | None

        @property
        def _stream_reader(self) -> _Reader: ...

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Without a callback asyncio's makes no writer; with one it would be of its own class.
        connected, self._client_connected_cb = self._client_connected_cb, None
        try:
            super().connection_made(transport)
        finally:
            self._client_connected_cb = connected
        if connected is None or self._reject_connection:
            return
        reader = self._stream_reader
        writer = StreamWriter(transport, self, reader, self._loop)
        if sys.version_info < (3, 13):
            self._stream_writer = writer  # Its end would close the transport from 3.11 on.
        try:
            result = connected(reader, writer)
        except Exception as error:
            self._unanswered(error, transport)
            result = None
        if asyncio.iscoroutine(result):
            self._task = self._loop.create_task(result)
            self._task.add_done_callback(lambda task: self._answered(task, transport))
        self._strong_reader = None

    def _answered(self, task: asyncio.Task[None], transport: asyncio.BaseTransport) -> None:
        """The callback's coroutine has ended. If it has failed, the connection is closed."""
        if task.cancelled():
            transport.close()
        elif (error := task.exception()) is not None:
            self._unanswered(error, transport)

    def _unanswered(self, error: BaseException, transport: asyncio.BaseTransport) -> None:
        self._loop.call_exception_handler(
            {
                "message": "Unhandled exception in client_connected_cb",
                "exception": error,
                "transport": transport,
            }
        )
        transport.close()


_native.adopt_methods(StreamReader, _native.StreamReader)
_native.adopt_methods(StreamWriter, _native.StreamWriter)


def _is_asyncios(function: Any) -> bool:
    """Whether it is asyncio's own, and not a replacement."""
    code = getattr(getattr(function, "fget", function), "__code__", None)
    return code is not None and code.co_filename == asyncio.streams.__file__


def _has_asyncios(cls: type[Any], *names: str) -> bool:
    return all(_is_asyncios(getattr(cls, name)) for name in names)


if _has_asyncios(_Protocol, "data_received", "_stream_reader", "_drain_helper"):
    _native.own_streams(
        StreamReader,
        StreamWriter,
        StreamReaderProtocol,
        _Protocol,
        _Reader if _has_asyncios(_Reader, "feed_data", "_wakeup_waiter") else None,
    )


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


# What `take_over()` puts behind asyncio's names. Not the classes: who derives from asyncio's, mocks
# them or asks for them finds what has always been there.
REPLACEMENTS: dict[str, Any] = {
    "open_connection": open_connection,
    "open_unix_connection": open_unix_connection,
    "start_server": start_server,
    "start_unix_server": start_unix_server,
}


def take_over() -> None:
    """From here on, asyncio's functions give these streams, in every loop of the process."""
    for name, replacement in REPLACEMENTS.items():
        for module in (asyncio, asyncio.streams):
            setattr(module, name, replacement)
