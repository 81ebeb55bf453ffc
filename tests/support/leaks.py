"""What a test may not leave behind: descriptors, threads, native objects."""

from __future__ import annotations

import gc
import os
import threading
from dataclasses import dataclass

from support import loops


@dataclass(frozen=True)
class Snapshot:
    """What exists at one moment."""

    descriptors: dict[int, str]
    threads: frozenset[threading.Thread]
    objects: dict[str, int]


def open_descriptors() -> dict[int, str]:
    """Every open descriptor with what it refers to, as far as the platform tells."""
    found = {}
    for name in os.listdir("/dev/fd"):
        number = int(name)
        try:
            status = os.fstat(number)
        except OSError:  # the listing's own descriptor, closed by now
            continue
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            target = f"inode {status.st_ino}"
        found[number] = target
    return found


# How long a thread of asyncio's that has nothing left to do may take to be gone.
ENDING_SECONDS = 2.0
# The second one is 3.10's.
ENDING_THREADS = ("asyncio-waitpid-", "waitpid-")


def take() -> Snapshot:
    """Collects garbage, then looks."""
    gc.collect()
    for thread in threading.enumerate():
        # It tells the loop of a child's end, and ends after that.
        if thread.name.startswith(ENDING_THREADS):
            thread.join(ENDING_SECONDS)
    return Snapshot(
        descriptors=open_descriptors(),
        threads=frozenset(threading.enumerate()),
        objects=loops.live_objects(),
    )


def grown(before: Snapshot, after: Snapshot) -> list[str]:
    """One line for everything that `after` has and `before` had not."""
    lines = [
        f"descriptor {number} -> {target}"
        for number, target in sorted(after.descriptors.items())
        if before.descriptors.get(number) != target
    ]
    lines += [f"thread {thread!r}" for thread in after.threads - before.threads]
    lines += [
        f"{count - before.objects.get(name, 0)} native {name}"
        for name, count in sorted(after.objects.items())
        if count > before.objects.get(name, 0)
    ]
    return lines
