"""A program: one thread closes a loop, and another wants to run it in the middle of that.

    closing_elsewhere.py KIND

`close()` runs Python code: the warning about the transport that nobody has closed. The thread that
wants to run the loop must let it, and then finds the loop closed.
"""

from __future__ import annotations

import sys
import threading
import warnings
from typing import Any

from support import loops
from support.protocols import Recorder
from support.sockets import connected

loop = loops.factory(sys.argv[1])()
near, far = connected()
transport, _ = loop.run_until_complete(loop.create_connection(Recorder, sock=near))

warning, about_to_run = threading.Event(), threading.Event()


def show(*_: Any) -> None:
    warning.set()
    about_to_run.wait()


warnings.simplefilter("always")
warnings.showwarning = show
closing = threading.Thread(target=loop.close)
closing.start()
warning.wait()
about_to_run.set()
try:
    loop.run_forever()
except RuntimeError as error:
    print(error)
closing.join()
far.close()
