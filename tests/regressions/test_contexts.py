"""The context that a connection's callbacks run in, and that nothing leaks out of it."""

from __future__ import annotations

import asyncio
import contextvars
import sys

import pytest
from support.protocols import Recorder, connection
from support.sockets import PATIENCE, Peer, listening

Loop = asyncio.AbstractEventLoop
LARGE = 8 << 20

where = contextvars.ContextVar("where", default="nowhere")


class Asking(Recorder):
    """Writes down, with each call, where it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[tuple[str, str]] = []

    def note(self, call: str) -> None:
        self.places.append((call, where.get()))
        super().note(call)


class Leaving(Asking):
    """Closes its connection as soon as it has received something."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.close()


class Moving(Asking):
    """Changes its context in each call."""

    def note(self, call: str) -> None:
        super().note(call)
        where.set(f"after {call}")


@pytest.mark.parametrize("at_once", [True, False])
async def test_accepted_connection_runs_where_serving_began(loop: Loop, at_once: bool) -> None:
    made: list[Asking] = []
    seen_by_factory: list[str] = []

    def factory() -> Asking:
        seen_by_factory.append(where.get())
        where.set(f"connection {len(made)}")
        made.append(Leaving())
        return made[-1]

    where.set("serving" if at_once else "setting up")
    server = await loop.create_server(factory, "127.0.0.1", 0, start_serving=at_once)
    if not at_once:
        where.set("serving")
        await server.start_serving()
    where.set("elsewhere")
    for number in range(2):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()
        await made[number].until_lost()
        calls = ["connection_made", "data_received", "connection_lost"]
        assert made[number].places == [(call, f"connection {number}") for call in calls]
    # Since 3.15 it is the server's making that counts.
    began = "setting up" if not at_once and sys.version_info >= (3, 15) else "serving"
    assert seen_by_factory == [began, began]
    assert where.get() == "elsewhere"
    server.close()


@pytest.mark.parametrize("way", ["end", "reset"])
async def test_connection_lost_by_the_peer_runs_in_the_context_of_the_connection(
    loop: Loop, way: str
) -> None:
    where.set("connecting")
    async with connection(Asking()) as (_, protocol, peer):
        where.set("elsewhere")
        if way == "end":
            peer.end()
        else:
            peer.reset()
        await protocol.until_lost()
        assert protocol.places[-1] == ("connection_lost", "connecting")


async def test_reading_runs_in_the_context_of_the_connection_wherever_it_is_resumed(
    loop: Loop,
) -> None:
    # cpython#140947
    where.set("connecting")
    async with connection(Asking()) as (transport, protocol, peer):
        transport.pause_reading()
        where.set("resuming")
        transport.resume_reading()
        peer.send(b"x")
        await protocol.until_received(1)
        peer.end()
        await protocol.until_lost()
        calls = ["connection_made", "data_received", "eof_received", "connection_lost"]
        assert protocol.places == [(call, "connecting") for call in calls]


async def test_callbacks_share_one_context_since_3_15(loop: Loop) -> None:
    def factory() -> Moving:
        where.set("factory")
        return Moving()

    where.set("connecting")
    listener = listening()
    transport, protocol = await loop.create_connection(factory, *listener.getsockname())
    peer = Peer(listener.accept()[0])
    assert where.get() == "factory"
    peer.send(b"x")
    await protocol.until_received(1)
    where.set("closing")
    transport.close()
    await protocol.until_lost()
    listener.close()
    assert await peer.to_end() == b""
    peer.close()
    if sys.version_info >= (3, 15):
        found = ["connecting", "after connection_made", "after data_received"]
    else:
        found = ["factory", "factory", "closing"]
    calls = ["connection_made", "data_received", "connection_lost"]
    assert protocol.places == list(zip(calls, found, strict=True))


async def test_callbacks_of_an_accepted_connection_share_one_context_since_3_15(
    loop: Loop,
) -> None:
    def factory() -> Moving:
        where.set("factory")
        made.append(Moving())
        return made[-1]

    made: list[Moving] = []
    server = await loop.create_server(factory, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x")
    while not made:
        await asyncio.sleep(0)
    await made[0].until_received(1)
    where.set("closing")
    made[0].transport.close()
    await made[0].until_lost()
    writer.close()
    server.close()
    if sys.version_info >= (3, 15):
        found = ["factory", "after connection_made", "after data_received"]
    else:
        found = ["factory", "factory", "closing"]
    calls = ["connection_made", "data_received", "connection_lost"]
    assert made[0].places == list(zip(calls, found, strict=True))


async def test_connection_lost_while_writing_runs_in_the_context_of_the_connection(
    loop: Loop,
) -> None:
    where.set("connecting")
    async with connection(Asking()) as (transport, protocol, peer):
        transport.pause_reading()
        transport.write(b"x" * LARGE)
        peer.reset()
        await protocol.until_lost()
        assert protocol.places[-1] == ("connection_lost", "connecting")


def test_accepted_connection_does_not_leak_its_context(loop: Loop) -> None:
    def factory() -> Recorder:
        where.set("leaked")
        return protocol

    async def serve() -> None:
        server = await loop.create_server(factory, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()
        await protocol.until_lost()
        server.close()

    def run() -> str:
        loop.run_until_complete(serve())
        return where.get()

    protocol = Recorder()
    assert contextvars.copy_context().run(run) == "nowhere"


def test_resume_writing_runs_in_the_context_of_the_connection(loop: Loop) -> None:
    class Leaking(Asking):
        def resume_writing(self) -> None:
            super().resume_writing()
            where.set("leaked")

    async def flush() -> list[tuple[str, str]]:
        where.set("task")
        async with connection(Leaking()) as (transport, protocol, peer):
            transport.write(b"x" * LARGE)
            transport.close()
            assert len(await peer.to_end()) == LARGE
            await protocol.until_lost()
            return protocol.places

    def run() -> tuple[list[tuple[str, str]], str]:
        return loop.run_until_complete(flush()), where.get()

    places, outside = contextvars.copy_context().run(run)
    calls = ["connection_made", "pause_writing", "resume_writing"]
    assert places[:3] == [(call, "task") for call in calls]
    assert places[3][0] == "connection_lost"
    assert outside == "nowhere"
