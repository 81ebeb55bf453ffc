"""`close()` and `abort()` in another thread than the loop's.

They raised, where asyncio's do what they are for outside debug mode.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support import datagrams, pipes, tls
from support.protocols import Calls, Recorder, connection
from support.sockets import PATIENCE, Peer, connected, listening
from support.ticks import pause

Loop = asyncio.AbstractEventLoop


@asynccontextmanager
async def stream() -> AsyncIterator[tuple[Any, Calls]]:
    async with connection(Recorder()) as (transport, protocol, _):
        yield transport, protocol


@asynccontextmanager
async def encrypted() -> AsyncIterator[tuple[Any, Calls]]:
    async with tls.connection(Recorder()) as (transport, protocol, peer):

        async def part() -> None:
            await peer.to_end()
            peer.close()

        parting = asyncio.ensure_future(part())
        yield transport, protocol
        transport.abort()
        await asyncio.gather(parting, return_exceptions=True)


@asynccontextmanager
async def datagram() -> AsyncIterator[tuple[Any, Calls]]:
    async with datagrams.endpoint(datagrams.DatagramRecorder()) as (transport, protocol):
        yield transport, protocol


@asynccontextmanager
async def read_pipe() -> AsyncIterator[tuple[Any, Calls]]:
    with pipes.pipe() as (reader, _):
        protocol = await pipes.reading(reader)
        yield protocol.transport, protocol
        protocol.transport.close()
        await protocol.until_lost()


@asynccontextmanager
async def write_pipe() -> AsyncIterator[tuple[Any, Calls]]:
    with pipes.pipe() as (_, writer):
        protocol = await pipes.writing(writer)
        yield protocol.transport, protocol
        if "connection_lost" not in protocol.calls:
            protocol.transport.abort()
            await protocol.until_lost()


KINDS: dict[str, Callable[[], Any]] = {
    "stream": stream,
    "tls": encrypted,
    "datagram": datagram,
    "read_pipe": read_pipe,
    "write_pipe": write_pipe,
}
of_every_kind = pytest.mark.parametrize("what", list(KINDS))
ENDS = [
    (what, end)
    for what in KINDS
    for end in ("close", "abort", "_force_close", "write_eof")
    if (what, end) != ("read_pipe", "abort")
    if end != "_force_close" or what == "stream"
    if end != "write_eof" or what == "write_pipe"
]


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """Its outcome in another thread, while this one, the loop's, waits."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(function(*arguments))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return outcome.pop()


@pytest.mark.parametrize(("what", "end"), ENDS)
async def test_ends(loop: Loop, what: str, end: str) -> None:
    await end_one(what, end)


@pytest.mark.ours
async def test_tls_ends_with_an_error(loop: Loop) -> None:
    """asyncio's fails in some releases, wherever it is called (`TypeError`)."""
    await end_one("tls", "_force_close")


async def end_one(what: str, end: str) -> None:
    async with KINDS[what]() as (transport, protocol):
        error = ConnectionAbortedError("on purpose") if end == "_force_close" else None
        arguments = () if error is None else (error,)

        def end_it() -> bool:
            assert getattr(transport, end)(*arguments) is None
            return bool(transport.is_closing())

        assert elsewhere(end_it) is True
        assert transport.is_closing()
        assert "connection_lost" not in protocol.calls
        # Once more, wherever, changes nothing.
        assert elsewhere(transport.close) is None
        if error is None:
            transport.close()
        await protocol.until_lost()
        await pause(3)
        assert protocol.calls.count("connection_lost") == 1
        assert protocol.error is error
        assert elsewhere(transport.close) is None
        await pause(3)
        assert protocol.calls.count("connection_lost") == 1


@pytest.mark.ours
@of_every_kind
async def test_a_sleeping_loop_is_woken(loop: Loop, what: str) -> None:
    """asyncio's would sleep on."""
    async with KINDS[what]() as (transport, protocol):
        thread = threading.Timer(0.02, transport.close)
        thread.start()
        await protocol.until_lost()
        thread.join()


async def test_what_was_written_is_sent(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write(bytes(1 << 20))
        assert elsewhere(transport.close) is None
        assert len(await peer.to_end()) == 1 << 20
        await protocol.until_lost()
        assert protocol.error is None


async def test_what_was_written_is_lost_with_an_abort(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        transport.write(bytes(1 << 24))
        assert elsewhere(transport.close) is None
        assert elsewhere(transport.abort) is None
        await protocol.until_lost()
        assert protocol.error is None


@pytest.mark.ours
@pytest.mark.parametrize("end", ["close", "abort"])
@of_every_kind
async def test_debug_mode_refuses_and_ends_it_all_the_same(loop: Loop, what: str, end: str) -> None:
    """asyncio's is closing then, too, but is never lost."""
    if (what, end) == ("read_pipe", "abort"):
        return
    async with KINDS[what]() as (transport, protocol):
        loop.set_debug(True)
        refusal = elsewhere(getattr(transport, end))
        assert isinstance(refusal, RuntimeError)
        assert str(refusal).startswith("Non-thread-safe operation")
        assert transport.is_closing()
        assert elsewhere(transport.close) is None
        await protocol.until_lost()
        await pause(3)
        assert protocol.calls.count("connection_lost") == 1
        loop.set_debug(False)


def test_a_loop_at_rest(loop: Loop) -> None:
    near, far = connected()
    protocol = Recorder()
    transport, _ = loop.run_until_complete(loop.connect_accepted_socket(lambda: protocol, near))
    assert elsewhere(transport.close) is None
    assert transport.is_closing()
    loop.run_until_complete(protocol.until_lost())
    assert far.recv(1) == b""
    far.close()


async def test_a_method_that_was_replaced_is_called_once(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        close, called = transport.close, []
        transport.close = lambda: (called.append(1), close())[1]  # type: ignore[method-assign]
        assert elsewhere(transport.close) is None
        await protocol.until_lost()
        assert called == [1]


async def test_server(loop: Loop) -> None:
    await close_a_server(loop)


@pytest.mark.ours
async def test_server_in_debug_mode(loop: Loop) -> None:
    """asyncio's is closed, but who waits for it may wait for ever."""
    loop.set_debug(True)
    await close_a_server(loop)
    loop.set_debug(False)


async def close_a_server(loop: Loop) -> None:
    with listening() as sock:
        address = sock.getsockname()
        server = await loop.create_server(Recorder, sock=sock)
        serving = asyncio.ensure_future(server.serve_forever())
        await pause(2)
        assert elsewhere(server.close) is None
        assert not server.is_serving()
        assert server.sockets == ()
        assert elsewhere(server.close) is None
        server.close()
        await asyncio.wait([serving], timeout=PATIENCE)
        assert serving.cancelled()
        await asyncio.wait_for(server.wait_closed(), PATIENCE)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, PATIENCE)


@pytest.mark.parametrize("end", ["close_clients", "abort_clients"])
async def test_clients_of_a_server(loop: Loop, end: str) -> None:
    arrived: asyncio.Future[Recorder] = loop.create_future()

    class Arriving(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            arrived.set_result(self)

    server = await loop.create_server(Arriving, "127.0.0.1", 0)
    if not hasattr(server, end):
        server.close()
        pytest.skip("asyncio's servers have it since Python 3.13")
    peer = Peer(socket.create_connection(server.sockets[0].getsockname(), PATIENCE))
    protocol = await arrived
    assert elsewhere(getattr(server, end)) is None
    await protocol.until_lost()
    assert await peer.to_end() == b""
    peer.close()
    server.close()
    await server.wait_closed()


async def test_subprocess(loop: Loop) -> None:
    await end_a_child(loop)


@pytest.mark.ours
async def test_subprocess_in_debug_mode(loop: Loop) -> None:
    """asyncio leaves the child alive, and all pipes but one open."""
    await end_a_child(loop, debug=True)


async def end_a_child(loop: Loop, *, debug: bool = False) -> None:
    ended: asyncio.Future[None] = loop.create_future()

    class Child(asyncio.SubprocessProtocol):
        def connection_lost(self, error: Exception | None) -> None:
            ended.set_result(None)

    program = "import time; time.sleep(60)"
    transport, _ = await loop.subprocess_exec(Child, sys.executable, "-c", program)
    loop.set_debug(debug)
    refusal = elsewhere(transport.close)
    assert isinstance(refusal, RuntimeError) if debug else refusal is None
    await asyncio.wait_for(ended, PATIENCE)
    loop.set_debug(False)
