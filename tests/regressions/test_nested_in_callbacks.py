"""A loop that ran within a protocol's callback failed to enter the connection's context again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from support.protocols import PATIENCE, Recorder
from support.sockets import connected

Loop = asyncio.AbstractEventLoop
LARGE = 4 << 20


class Nested(Recorder):
    """Runs a function within the first `data_received`."""

    def __init__(self, inside: Callable[[Any], None]) -> None:
        super().__init__()
        self.inside: list[Callable[[Any], None]] = [inside]

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.inside:
            self.inside.pop()(self)
            self.note("inside")


def run_until(loop: Loop, true: Callable[[], object]) -> None:
    """Ticks within the tick."""
    end = loop.time() + PATIENCE
    while not true():
        assert loop.time() < end
        loop.call_later(0.01, int)
        loop._run_once()  # type: ignore[attr-defined]


async def run(loop: Loop, inside: Callable[[Nested, socket.socket], None]) -> Nested:
    near, far = connected()
    with far:
        protocol = Nested(lambda protocol: inside(protocol, far))
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        far.setblocking(False)
        far.send(b"begin")
        await protocol.until_called("inside")
        transport.abort()
        await protocol.until_lost()
    return protocol


async def test_writing_resumes_within(loop: Loop) -> None:
    def inside(protocol: Nested, far: socket.socket) -> None:
        protocol.transport.write(bytes(LARGE))
        loop.add_reader(far, lambda: far.recv(1 << 20))
        run_until(loop, lambda: "resume_writing" in protocol.calls)
        loop.remove_reader(far)

    protocol = await run(loop, inside)
    assert protocol.calls.count("resume_writing") == 1


@pytest.mark.ours
async def test_what_arrives_within_is_received_within(loop: Loop) -> None:
    """asyncio reports a RuntimeError of the context, and receives it later."""

    def inside(protocol: Nested, far: socket.socket) -> None:
        far.send(b" more")
        run_until(loop, lambda: b"more" in protocol.data)

    assert (await run(loop, inside)).data == b"begin more"


@pytest.mark.ours
async def test_the_end_comes_within(loop: Loop) -> None:
    def inside(protocol: Nested, far: socket.socket) -> None:
        protocol.transport.abort()
        run_until(loop, lambda: "connection_lost" in protocol.calls)

    assert (await run(loop, inside)).calls[-2:] == ["connection_lost", "inside"]
