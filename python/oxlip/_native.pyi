"""The native half of the loop. Only `oxlip`'s own modules use it directly."""

import asyncio
from asyncio.constants import _SendfileMode
from asyncio.events import _TaskFactory
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextvars import Context
from inspect import Signature
from socket import socket
from ssl import SSLContext
from typing import Any, Protocol, TypeVar, final
from weakref import WeakSet, ref

from _typeshed import FileDescriptorLike, ReadableBuffer, WriteableBuffer
from typing_extensions import Self, TypeVarTuple, Unpack, disjoint_base

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_Ts = TypeVarTuple("_Ts")

__all__ = [
    "Condition",
    "DatagramTransport",
    "Event",
    "EventLoop",
    "Future",
    "Gathering",
    "Handle",
    "Lock",
    "Maker",
    "Pending",
    "PromptFunction",
    "Queue",
    "ReadPipeTransport",
    "SSLTransport",
    "Semaphore",
    "Server",
    "StreamReader",
    "StreamTransport",
    "StreamWriter",
    "Task",
    "TaskGroup",
    "TaskSet",
    "Timeout",
    "TimerHandle",
    "TlsProtocol",
    "Waiting",
    "WritePipeTransport",
    "__version__",
    "adopt_methods",
    "drivers",
    "gather",
    "has_tasks",
    "list_tasks",
    "list_tasks_to_collect",
    "live_objects",
    "look_up_names",
    "own_scheduling",
    "own_streams",
    "read_file_now",
    "switch_tasks",
    "timeout",
    "tls_codec",
]

__version__: str

class _Sender(Protocol):
    """Who sends on a transport's socket, past its buffer."""

    def begin(self) -> None: ...
    def lost(self, error: BaseException | None) -> None: ...

@disjoint_base
class EventLoop:
    """Scheduling, descriptors and transports; `oxlip.EventLoop` is the whole loop.

    `driver` is one of the names that `oxlip doctor` lists; `None` means what `OXLIP_DRIVER` says,
    and without it the best that works here. Where the system forbids io_uring, epoll takes its
    place. `ValueError` for an unknown name, `OSError` if descriptors or memory have run out.
    """

    def __new__(cls, driver: str | None = None) -> Self: ...
    @property
    def driver(self) -> str:
        """The driver in use: not the one asked for if epoll has taken the place of io_uring."""

    @property
    def _driver_reason(self) -> str: ...
    slow_callback_duration: float

    _stopping: bool

    def _tick(self, sleep: bool) -> None: ...
    def _set_running(self, running: bool) -> None: ...
    def _write_to_self(self) -> None: ...
    def _is_elsewhere(self) -> bool: ...
    def _poll(self, timeout: float | None = None) -> None: ...
    def _ready_len(self) -> int: ...
    def _ready_items(self) -> list[Any]: ...
    def _ready_replace(self, handles: Sequence[Any]) -> None: ...
    def _ready_append(self, handle: Any) -> None: ...
    def _ready_popleft(self) -> Any: ...
    def _timer_handles(self) -> list[TimerHandle]: ...
    def _claim(self) -> None: ...
    def _look_at_replaced(self) -> None: ...
    def _reconsider(self) -> None: ...
    def __setattr__(self, name: str, value: Any, /) -> None: ...
    def __delattr__(self, name: str, /) -> None: ...
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

    def _before_fork(self) -> None:
        """The process is going to fork."""

    def _after_fork(self) -> bool:
        """This is a forked child: whether the loop can be used in it."""

    def _run(self) -> None:
        """Ticks until `stop()`, or until tick or wait are replaced.

        `KeyboardInterrupt` and `SystemExit` of a callback end it.
        """

    def _connection(
        self,
        sock: socket,
        protocol: asyncio.BaseProtocol,
        *,
        owned: bool = False,
        waiter: asyncio.Future[None] | None = None,
        context: Context | None = None,
    ) -> StreamTransport:
        """A transport over a connected, non-blocking socket, which it closes at its end.

        `owned`: the descriptor is taken out of `sock`, which is closed after that, whether or not
        an error is raised. Otherwise `sock` stays the transport's `get_extra_info("socket")`.
        `waiter` is answered once `connection_made()` has run and reading has begun.
        `context`: where all callbacks run; without it, where asyncio before 3.15 runs them.
        """

    def _read_pipe(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None,
    ) -> ReadPipeTransport:
        """A transport over the file object of a pipe, socket or character device, which is made
        non-blocking, and closed when the transport ends. `waiter` as for `_connection`.
        """

    def _write_pipe(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None,
    ) -> WritePipeTransport:
        """As `_read_pipe`, for writing."""

    def _datagram(
        self,
        sock: socket,
        protocol: asyncio.BaseProtocol,
        *,
        address: Any = None,
        owned: bool = False,
        waiter: asyncio.Future[None] | None = None,
    ) -> DatagramTransport:
        """A transport over a non-blocking datagram socket; `owned` and `waiter` as above.

        `address`: the only one that it may send to.
        """

    def _listen(
        self,
        sock: socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: Server,
        backlog: int,
        owned: bool,
    ) -> int:
        """Accepts connections of a listening, non-blocking socket until `_unlisten(key)`.

        `owned`: nobody else accepts from it, so connections may be accepted before their turn.
        """

    def _unlisten(self, key: int) -> None:
        """Ends `_listen`; `sock` itself stays open. Harmless on a closed loop."""

    def _file_read(
        self, fd: int, offset: int | None, size: int
    ) -> asyncio.Future[bytes | None] | None: ...
    def _file_write(
        self, fd: int, offset: int | None, data: bytes
    ) -> asyncio.Future[int | None] | None: ...
    def _sock_recv(self, sock: socket, n: int) -> bytes | tuple[asyncio.Future[None], int]:
        """One attempt to receive; as `_wait_readable` if nothing is there."""

    def _sock_recv_into(
        self, sock: socket, buf: WriteableBuffer
    ) -> int | tuple[asyncio.Future[None], int]:
        """One attempt to receive: how many bytes; as `_wait_readable` if nothing is there."""

    def _sock_send(
        self, sock: socket, data: ReadableBuffer
    ) -> tuple[memoryview, asyncio.Future[None], int] | None:
        """One attempt to send: `None` if all went, else what is left, and as `_wait_writable`."""

    def _call_by_inbox(self, callback: Callable[..., object], *args: Any) -> None:
        """As a call from another thread, whichever this one is."""

    def _only_wakes(self, fd: int) -> None:
        """The reader of this descriptor only ends sleeps."""

    def _wait_readable(self, fd: FileDescriptorLike) -> tuple[asyncio.Future[None], int]:
        """Answered once the descriptor is readable; to be given to `_unwait` in every case."""

    def _wait_writable(self, fd: FileDescriptorLike) -> tuple[asyncio.Future[None], int]:
        """As `_wait_readable`, for writing."""

    def _unwait(self, future: asyncio.Future[None], watch: int) -> None:
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
class DatagramTransport(asyncio.Transport, asyncio.DatagramTransport):
    """One datagram socket."""

    @property
    def _sock(self) -> socket | None: ...

@disjoint_base
class Event:
    """The native half of `oxlip.Event`, over attributes of asyncio's names."""

    _value: bool
    _waiters: Any
    _loop: asyncio.AbstractEventLoop | None

    def __new__(cls, *args: object, **kwargs: object) -> Self: ...
    def is_set(self) -> Any: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    def _arrival(self) -> asyncio.Future[Any] | None:
        """A future that is the last of the waiters; `None` if the object is of a derived class."""

    def _leave(self, waiter: asyncio.Future[Any]) -> None: ...

@disjoint_base
class Lock:
    """The native half of `oxlip.Lock`, over attributes of asyncio's names."""

    _locked: bool
    _waiters: Any
    _loop: asyncio.AbstractEventLoop | None

    def __new__(cls, *args: object, **kwargs: object) -> Self: ...
    def _take(self) -> bool:
        """Takes it if it is free and nobody has waited longer."""

    def _arrival(self) -> asyncio.Future[Any]:
        """A future that is the last of the waiters."""

    def locked(self) -> bool: ...
    def release(self) -> None: ...

@disjoint_base
class Condition:
    """The native half of `oxlip.Condition`, over attributes of asyncio's names."""

    _lock: Any
    _waiters: Any
    _loop: asyncio.AbstractEventLoop | None
    acquire: Any
    locked: Any
    release: Any

    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...
    def notify(self, n: Any = 1) -> None: ...
    def notify_all(self) -> None: ...
    def _arrival(self) -> asyncio.Future[Any] | None:
        """Gives the lock back to wait for this future; `None`: asyncio's code does it."""

    def _return(self, waiter: asyncio.Future[Any]) -> bool:
        """The waiter is none any more, and the lock taken if `_take()` can."""

    def _take(self) -> bool:
        """Takes the lock, if it is one of ours and free."""

@disjoint_base
class Semaphore:
    """The native half of `oxlip.Semaphore` and `oxlip.BoundedSemaphore`."""

    _value: Any
    _bound_value: Any
    _waiters: Any
    _loop: asyncio.AbstractEventLoop | None

    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...
    def _take(self) -> bool:
        """Comes in if there is room and nobody waits."""

    def release(self) -> None: ...

@disjoint_base
class Queue:
    """The native half of `oxlip.Queue`, over attributes of asyncio's names."""

    _queue: Any
    _getters: Any
    _putters: Any
    _finished: Any
    _loop: asyncio.AbstractEventLoop | None
    _maxsize: Any
    _unfinished_tasks: int
    _is_shutdown: bool

    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...
    def put_nowait(self, item: Any) -> None: ...
    def get_nowait(self) -> Any: ...
    def task_done(self) -> None: ...
    def _put_soon(self, item: Any) -> bool: ...
    def _get_soon(self) -> Any:
        """An item, or `oxlip._queues.NO_ITEM`."""

    def _putter(self) -> asyncio.Future[None] | None:
        """What to wait on for room; `None` if that is asyncio's affair."""

    def _getter(self) -> asyncio.Future[None] | None:
        """What to wait on for an item."""

@disjoint_base
class Timeout:
    """The native half of `oxlip.Timeout`, over attributes of asyncio's names."""

    _state: Any
    _when: Any
    _timeout_handler: Any
    _task: Any
    _cancelling: Any

    def __new__(cls, when: float | None) -> Self: ...
    def _enter(self) -> bool: ...
    def _leave(self) -> bool: ...

@final
class PromptFunction:
    """A coroutine function that is native while nothing has to be waited for."""

    def __new__(cls, function: Callable[..., Any], /) -> Self: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __reduce__(self) -> Any: ...

@final
class Maker:
    """The `__new__` of a class of asyncio's, which makes an object of ours."""

    def __new__(
        cls,
        stock: type[Any],
        ours: type[Any],
        is_asyncios: Callable[[], bool],
        others: Callable[..., Any],
        takes_arguments: bool,
        signature: Signature,
    ) -> Self: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    @property
    def __signature__(self) -> Signature: ...

@final
class TaskSet:
    """Functions to take the place of two that a `WeakSet` of tasks has in Python."""

    def __new__(cls, tasks: WeakSet[Any]) -> Self: ...
    def add(self, item: asyncio.Task[Any]) -> None: ...
    @property
    def remove(self) -> Callable[[ref[Any]], None]: ...

@final
class Gathering:
    """What the children of a call of `gather()` tell that they have ended."""

    __qualname__: str
    def __call__(self, future: asyncio.Future[Any]) -> None: ...

@final
class Waiting:
    """A call of `wait()`."""

    __qualname__: str
    @staticmethod
    def of(futures: Any, return_when: Any, /) -> Waiting | None: ...
    def begin(
        self, event_loop: asyncio.AbstractEventLoop, timeout: float | None, /
    ) -> asyncio.Future[None]: ...
    def end(self) -> None: ...
    def split(self) -> tuple[set[asyncio.Future[Any]], set[asyncio.Future[Any]]]: ...
    def __call__(self, future: asyncio.Future[Any]) -> None: ...

@disjoint_base
class TaskGroup:
    """The native half of a class that stands on `asyncio.TaskGroup`."""

    _entered: Any
    _exiting: Any
    _aborting: Any
    _loop: Any
    _tasks: Any
    _on_completed_fut: Any
    _parent_task: Any
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def create_task(
        self,
        coro: Coroutine[Any, Any, _T],
        **options: Any,
    ) -> asyncio.Task[_T]: ...

@disjoint_base
class Server:
    """The native half of the server that `create_server()` gives: it counts its connections."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def _attached(self, event_loop: EventLoop) -> list[StreamTransport]: ...
    def _ends(self) -> bool: ...

@disjoint_base
class StreamReader:
    """The native half of `oxlip.StreamReader`, over attributes of asyncio's names.

    The reading methods give bytes, or what to wait on and to call again with. What they do not
    answer is `NotImplemented`.
    """

    _buffer: bytearray
    _eof: bool
    _paused: bool
    _waiter: asyncio.Future[None] | None
    _exception: Exception | None
    _transport: asyncio.BaseTransport | None
    _loop: asyncio.AbstractEventLoop
    _limit: int

    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...
    def feed_data(self, data: Any) -> None: ...
    def _some(self, n: int, waited: asyncio.Future[None] | None) -> Any: ...
    def _exactly(self, n: int, waited: asyncio.Future[None] | None) -> Any: ...
    def _until(self, separator: bytes, waited: asyncio.Future[None] | None) -> Any: ...
    def _line(self, waited: asyncio.Future[None] | None) -> Any: ...

@disjoint_base
class StreamWriter:
    """The native half of `oxlip.StreamWriter`, over attributes of asyncio's names."""

    _transport: asyncio.WriteTransport
    _protocol: asyncio.BaseProtocol
    _reader: asyncio.StreamReader | None
    _loop: asyncio.AbstractEventLoop
    _complete_fut: asyncio.Future[None]

    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...
    def write(self, data: ReadableBuffer) -> None: ...
    def _is_drained(self) -> bool: ...

@final
class StreamTransport(asyncio.Transport):
    """One connected stream socket."""

    @property
    def _sock(self) -> socket | None: ...
    def writelines(self, list_of_data: Iterable[ReadableBuffer]) -> None: ...
    @property
    def _sendfile_compatible(self) -> _SendfileMode: ...
    @property
    def _protocol_paused(self) -> bool: ...
    def _reserve(self, sender: _Sender) -> None:
        """Refuses writes until `_unreserve()`; `sender` may begin when all of them are sent."""

    def _unreserve(self) -> None: ...

@final
class ReadPipeTransport(asyncio.ReadTransport):
    """The reading end of a pipe."""

@final
class WritePipeTransport(asyncio.Transport):
    """The writing end of a pipe. It has the methods of `asyncio.WriteTransport` only."""

@final
class SSLTransport(asyncio.Transport):
    """One TLS connection."""

    def writelines(self, list_of_data: Iterable[ReadableBuffer]) -> None: ...
    def get_read_buffer_size(self) -> int: ...
    def get_read_buffer_limits(self) -> tuple[int, int]: ...
    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    @property
    def _sendfile_compatible(self) -> Any: ...
    def _reserve(self, sender: _Sender) -> None:
        """As `StreamTransport._reserve()`, where the kernel encrypts."""

    def _unreserve(self) -> None: ...

@final
class TlsProtocol(asyncio.Protocol):
    """What goes between a raw transport and the protocol of a TLS connection."""

    def __new__(
        cls,
        event_loop: EventLoop,
        protocol: asyncio.BaseProtocol,
        sslcontext: SSLContext,
        waiter: asyncio.Future[None] | None,
        *,
        server_side: bool,
        server_hostname: str | None,
        handshake_timeout: float,
        shutdown_timeout: float,
        connection_made: bool = False,
        accepted: bool = False,
    ) -> Self: ...
    @property
    def transport(self) -> SSLTransport | None:
        """What `protocol` is to use; `None` once the connection is lost."""

def drivers() -> list[str]:
    """The names of the drivers that this build has, best first."""

def tls_codec() -> dict[str, str]:
    """Which codec TLS connections get here (`codec`), and why (`reason`)."""

def read_file_now(fd: int, size: int, offset: int) -> bytes | None: ...
def live_objects() -> dict[str, int]:
    """How many native objects of each class exist; empty unless built with debug assertions."""

def own_streams(
    reader: type[StreamReader],
    writer: type[StreamWriter],
    protocol: type[asyncio.StreamReaderProtocol],
    stock_protocol: type[asyncio.StreamReaderProtocol],
    stock_reader: type[asyncio.StreamReader] | None,
    /,
) -> None:
    """Tells which classes stand on these two, and the protocols of streams, ours and asyncio's.

    asyncio's reader is given if its `feed_data()` is its own.
    """

def has_tasks() -> bool:
    """Whether this Python's tasks are known well enough for loops to make ours."""

def look_up_names() -> None:
    """Looks up now what is used of other modules: impossible at the interpreter's end."""

def list_tasks() -> None:
    """Has asyncio's set of all tasks know those that it was not told of yet."""

def list_tasks_to_collect(phase: str, info: dict[str, int], /) -> None:
    """For `gc.callbacks`: the same when a collection begins."""

def switch_tasks(on: bool, /) -> None:
    """Has all loops make `Future` and `Task` from here on, or asyncio's again."""

# Where `has_tasks()`.
@disjoint_base
class Future(asyncio.Future[_T]):
    """As `asyncio.Future`."""

@disjoint_base
class Task(asyncio.Task[_T_co]):
    """As `asyncio.Task`."""

    def __init__(
        self,
        coro: Generator[Any, None, _T_co] | Coroutine[Any, Any, _T_co],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool = False,
    ) -> None: ...
    def cancelling(self) -> int: ...
    def uncancel(self) -> int: ...
    def get_context(self) -> Context: ...

def timeout(delay: float | None) -> Any: ...
def gather(
    *coros_or_futures: Awaitable[Any], return_exceptions: bool = False
) -> asyncio.Future[list[Any]]:
    """As `asyncio.gather()`."""

def adopt_methods(class_: type[Any], base: type[Any], /) -> None: ...
def own_scheduling(class_: type[EventLoop], /) -> None:
    """Gives a class its own `call_soon` and kin, which are called faster than inherited ones."""
