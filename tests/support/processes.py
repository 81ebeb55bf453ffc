"""Children of the loop under test."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.protocols import Calls
from support.sockets import PATIENCE


class Child(Calls, asyncio.SubprocessProtocol):
    """Writes down what the transport of a child says."""

    transport: asyncio.SubprocessTransport  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.data: dict[int, bytes] = {1: b"", 2: b""}
        self.errors: dict[int, Exception | None] = {}

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.data[fd] += data
        self.note(f"data {fd}")

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.errors[fd] = exc
        self.note(f"lost {fd}")

    def process_exited(self) -> None:
        self.note("exited")

    async def until_exited(self) -> int:
        await self.until_called("exited")
        code = self.transport.get_returncode()
        assert code is not None
        return code


async def shell(command: str, **options: Any) -> Child:
    """A child of the running loop that runs the command, without pipes unless asked for."""
    files = {"stdin": None, "stdout": None, "stderr": None}
    transport, child = await asyncio.get_running_loop().subprocess_shell(
        Child, command, **{**files, **options}
    )
    assert transport is child.transport or not child.calls
    child.transport = transport
    return child


def join_waiters() -> None:
    """Waits for the threads that wait for children, where there are any; they end with those."""
    for thread in threading.enumerate():
        if "waitpid-" in thread.name:
            thread.join(PATIENCE)


@pytest.fixture
def no_children() -> Iterator[None]:
    """After the test this process has no child, not even a dead one."""
    yield
    join_waiters()
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
