"""How long the main thread has slept: what tells a loop that waits from one that spins.

Processor time alone does not tell on a busy machine, where a spinning thread gets little of it.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

# Opened once, for programs that have used up their descriptors. It is about the main thread.
_TIMES = None
with suppress(FileNotFoundError):
    _TIMES = os.open("/proc/thread-self/schedstat", os.O_RDONLY)


class Nap:
    """A span of time, from its creation on."""

    def __init__(self) -> None:
        self._began = time.monotonic(), _awake()

    def slept(self) -> float:
        """The seconds of it in which the thread neither ran nor waited for a processor."""
        began, awake = self._began
        return (time.monotonic() - began) - (_awake() - awake)


def _awake() -> float:
    """The seconds in which this thread has run or wanted to: Linux keeps both in nanoseconds."""
    if _TIMES is None:
        return time.thread_time()
    ran, waited, _ = os.pread(_TIMES, 100, 0).split()
    return (int(ran) + int(waited)) / 1e9
