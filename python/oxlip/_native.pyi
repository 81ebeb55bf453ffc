"""The native half of the loop. Only `oxlip`'s own modules use it directly."""

import asyncio
from asyncio.events import _TaskFactory
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextvars import Context
from socket import socket
from typing import Any, Protocol, TypeVar, final

from _typeshed import FileDescriptorLike, ReadableBuffer, WriteableBuffer
from typing_extensions import Self, TypeVarTuple, Unpack, disjoint_base

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

__all__ = [
    "EventLoop",
    "Handle",
    "Pending",
    "StreamTransport",
    "TimerHandle",
    "__version__",
    "drivers",
    "live_objects",
]

__version__: str

class _Server(Protocol):
    """Who counts the connections of a listening socket."""

    def _attach(self, transport: StreamTransport) -> None: ...
    def _detach(self, transport: StreamTransport) -> None: ...

@disjoint_base
class EventLoop:
    """Scheduling, descriptors and transports; `oxlip.EventLoop` is the whole loop.

    `driver` is one of the names that `oxlip doctor` lists; `None` means what `OXLIP_DRIVER` says,
    and without it the best that works here. `ValueError` for an unknown name, `OSError` if the
    driver cannot be had.
    """

    def __new__(cls, driver: str | None = None) -> Self: ...
    @property
    def driver(self) -> str: ...
    @property
    def _driver_reason(self) -> str: ...
    slow_callback_duration: float

    _stopping: bool

    def _tick(self, sleep: bool) -> None: ...
    def _set_running(self, running: bool) -> None: ...
    def _write_to_self(self) -> None: ...
    def _poll(self, timeout: float | None = None) -> None: ...
    def _ready_len(self) -> int: ...
    def _ready_items(self) -> list[Any]: ...
    def _ready_replace(self, handles: Sequence[Any]) -> None: ...
    def _ready_append(self, handle: Any) -> None: ...
    def _ready_popleft(self) -> Any: ...
    def _timers(self) -> list[TimerHandle]: ...
    def _claim(self) -> None: ...
    def _release(self) -> None: ...
    def stop(self) -> None: ...
    def is_running(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def close(self) -> None: ...
    def time(self) -> float: ...
    def get_debug(self) -> bool: ...
    def set_debug(self, enabled: bool) -> None: ...
    def call_soon(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> Handle: ...
    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> TimerHandle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Ts]], object],
        *args: Unpack[_Ts],
        context: Context | None = None,
    ) -> TimerHandle: ...
    def create_future(self) -> asyncio.Future[Any]: ...
    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool | None = None,
    ) -> asyncio.Task[_T]: ...
    def set_task_factory(self, factory: _TaskFactory | None) -> None: ...
    def get_task_factory(self) -> _TaskFactory | None: ...
    def add_reader(
        self, fd: FileDescriptorLike, callback: Callable[[Unpack[_Ts]], Any], *args: Unpack[_Ts]
    ) -> None: ...
    def remove_reader(self, fd: FileDescriptorLike) -> bool: ...
    def add_writer(
        self, fd: FileDescriptorLike, callback: Callable[[Unpack[_Ts]], Any], *args: Unpack[_Ts]
    ) -> None: ...
    def remove_writer(self, fd: FileDescriptorLike) -> bool: ...
    def _check_closed(self) -> None:
        """`RuntimeError` if the loop is closed."""

    def _run(self) -> None:
        """Ticks until `stop()`. `KeyboardInterrupt` and `SystemExit` of a callback end it."""

    def _connection(
        self,
        sock: socket,
        protocol: asyncio.BaseProtocol,
        *,
        extra: dict[str, Any] | None = None,
        server: _Server | None = None,
        owned: bool = False,
        waiter: asyncio.Future[None] | None = None,
    ) -> StreamTransport:
        """A transport over a connected, non-blocking socket, which it closes at its end.

        `owned`: the descriptor is taken out of `sock`, which is closed after that, whether or not
        an error is raised. Otherwise `sock` stays the transport's `get_extra_info("socket")`.
        `waiter` is answered once `connection_made()` has run and reading has begun.
        """

    def _listen(
        self,
        sock: socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: _Server,
        backlog: int,
    ) -> int:
        """Accepts connections of a listening, non-blocking socket until `_unlisten(key)`."""

    def _unlisten(self, key: int) -> None:
        """Ends `_listen`; `sock` itself stays open. Harmless on a closed loop."""

    def _sock_recv(self, sock: socket, n: int) -> bytes | None:
        """One attempt to receive: `None` if nothing is there."""

    def _sock_recv_into(self, sock: socket, buf: WriteableBuffer) -> int | None:
        """One attempt to receive: how many bytes, `None` if nothing is there."""

    def _sock_send(self, sock: socket, data: ReadableBuffer) -> int | None:
        """One attempt to send: how many bytes went, `None` if there is no room."""

    def _wait_readable(self, fd: FileDescriptorLike) -> asyncio.Future[None]:
        """Answered once the descriptor is readable. To be ended by `_unwait` in every case."""

    def _wait_writable(self, fd: FileDescriptorLike) -> asyncio.Future[None]:
        """As `_wait_readable`, for writing."""

    def _unwait(self, future: asyncio.Future[None]) -> None:
        """Ends the wait behind `future` and no other, even if the number was closed and reused."""

@final
class Pending:
    """What the loop has to do that is no callback, as it shows in `loop._ready`."""

    def cancel(self) -> None: ...
    def cancelled(self) -> bool: ...
    def _run(self) -> None: ...
    @property
    def _cancelled(self) -> bool: ...
    @property
    def _callback(self) -> None: ...
    @property
    def _args(self) -> None: ...

@final
class Handle(asyncio.Handle):
    """What `call_soon()` returns."""

    def get_context(self) -> Context: ...

@final
class TimerHandle(asyncio.TimerHandle):
    """What `call_later()` and `call_at()` return."""

    def get_context(self) -> Context: ...
    def __lt__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __le__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __gt__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __ge__(self, other: asyncio.TimerHandle, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class StreamTransport(asyncio.Transport):
    """One connected stream socket."""

    def writelines(self, list_of_data: Iterable[ReadableBuffer]) -> None: ...

def drivers() -> list[str]:
    """The names of the drivers that this build has, best first."""

def live_objects() -> dict[str, int]:
    """How many native objects of each class exist; empty unless built with debug assertions."""
