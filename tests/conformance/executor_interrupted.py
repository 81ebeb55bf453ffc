"""A program: Ctrl-C while the interpreter waits for a call in the default executor.

    executor_interrupted.py KIND

The interpreter ends then, and the call does not go on.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings

from support import loops

warnings.simplefilter("ignore", ResourceWarning)


begun, ending = threading.Event(), threading.Event()


def work() -> None:
    begun.set()
    assert ending.wait(10)
    # In and out of the interpreter, until it lets nobody in.
    end = time.monotonic() + 10
    while time.monotonic() < end:
        time.sleep(0.0005)
    sys.stdout.write("went on\n")
    sys.stdout.flush()


def interrupt() -> None:
    sys.stdout.write("interrupted\n")
    sys.stdout.flush()
    ending.set()
    raise KeyboardInterrupt


def main() -> None:
    loop = loops.factory(sys.argv[1])()
    loop.run_in_executor(None, work)
    assert begun.wait(10)
    # Called first, since it is registered last: before what waits for the threads.
    threading._register_atexit(interrupt)  # type: ignore[attr-defined]
    globals()["left"] = loop


main()
