"""A program: the interpreter ends while calls are under way in the default executors of two loops.

    executor_at_the_end.py KIND

One loop has been closed, the other one has not.
"""

from __future__ import annotations

import sys
import threading
import warnings

from support import loops

warnings.simplefilter("ignore", ResourceWarning)


ending = threading.Event()


def work() -> None:
    assert ending.wait(10)
    sys.stdout.write("called\nafter the end\n")
    sys.stdout.flush()


def main() -> None:
    closed, left = loops.factory(sys.argv[1])(), loops.factory(sys.argv[1])()
    for loop in (closed, left):
        loop.run_in_executor(None, work)
        loop.run_in_executor(None, int)
    # Called first, since it is registered last: before what waits for the threads.
    threading._register_atexit(ending.set)  # type: ignore[attr-defined]
    closed.close()
    globals()["left"] = left


main()
