"""asyncio, whole, in Rust: a drop-in event loop.

    oxlip.run(main())                                          # instead of asyncio.run
    asyncio.run(main(), loop_factory=oxlip.new_event_loop)     # Python ≥ 3.12
    oxlip.install()                                            # every loop of the process

Importing it changes nothing.
"""

from ._datagram import BatchDatagramProtocol
from ._files import AsyncFile, BufferedFile, TextFile, UnbufferedFile
from ._locks import BoundedSemaphore, Condition, Event, Lock, Semaphore
from ._loop import EventLoop, new_event_loop
from ._native import __version__
from ._native import look_up_names as _look_up_names
from ._open import FileOpening, open
from ._policy import EventLoopPolicy, install
from ._queues import Queue
from ._run import run
from ._server import Server
from ._streams import (
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)
from ._tasks import Future, Task

__all__ = [
    "AsyncFile",
    "BatchDatagramProtocol",
    "BoundedSemaphore",
    "BufferedFile",
    "Condition",
    "Event",
    "EventLoop",
    "EventLoopPolicy",
    "FileOpening",
    "Future",
    "Lock",
    "Queue",
    "Semaphore",
    "Server",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "Task",
    "TextFile",
    "UnbufferedFile",
    "__version__",
    "install",
    "new_event_loop",
    "open",
    "open_connection",
    "open_unix_connection",
    "run",
    "start_server",
    "start_unix_server",
]

# A program may use all this for the first time when the interpreter ends.
_look_up_names()
