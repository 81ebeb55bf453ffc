"""Disks that are full, and threads that are busy, for tests of files."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def size_limit(size: int) -> Iterator[None]:
    """No file of this process may become larger: a full disk, in short."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Threads:
    """The threads of a loop's files."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        from oxlip import _file_threads

        self._loop = loop
        self._threads = _file_threads.threads_of(loop)

    @contextmanager
    def held(self) -> Iterator[None]:
        """None of them is free: what is begun meanwhile begins at the end."""
        end = threading.Event()
        for _ in range(8):
            self._threads.submit(self._loop, end.wait)
        try:
            yield
        finally:
            end.set()

    async def until_idle(self) -> None:
        while not self._threads.is_idle():
            await asyncio.sleep(0)
