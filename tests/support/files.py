"""What a file holds, disks that are full, and threads that are busy, for tests of files."""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

LINES = b"".join(b"line %d, and what stands in it\n" % number for number in range(3000))


async def begun(coroutine: Any) -> asyncio.Task[Any]:
    """A task that has taken its first step."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    return task


async def cancelled(task: asyncio.Task[Any]) -> None:
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


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
