"""asyncio, whole, in Rust: a drop-in event loop.

    oxlip.run(main())                                          # instead of asyncio.run
    asyncio.run(main(), loop_factory=oxlip.new_event_loop)     # Python ≥ 3.12
    oxlip.install()                                            # every loop of the process

Importing it changes nothing.
"""

from ._datagram import BatchDatagramProtocol
from ._loop import EventLoop, new_event_loop
from ._native import __version__
from ._policy import EventLoopPolicy, install
from ._run import run
from ._server import Server

__all__ = [
    "BatchDatagramProtocol",
    "EventLoop",
    "EventLoopPolicy",
    "Server",
    "__version__",
    "install",
    "new_event_loop",
    "run",
]
