"""Protocols and factories that raise: what the handler is told, and how the connection ends."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import pytest
from support.protocols import BufferedRecorder, Calls, Recorder, connection
from support.sockets import PATIENCE, Peer, connected, listening
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
Contexts = list[dict[str, Any]]


class OnPurpose(Exception):
    pass


def raising(base: type[Calls], callback: str, error: type[BaseException] = OnPurpose) -> Calls:
    """A protocol that raises in that callback, after it has noted the call."""

    def fail(self: Any, *arguments: Any) -> Any:
        getattr(base, callback)(self, *arguments)
        self.note(f"{callback} raised")
        raise error("on purpose")

    return type("Raising", (base,), {callback: fail})()


@pytest.mark.parametrize(
    ("base", "callback"),
    [
        (Recorder, "data_received"),
        (Recorder, "eof_received"),
        (BufferedRecorder, "get_buffer"),
        (BufferedRecorder, "buffer_updated"),
        (BufferedRecorder, "eof_received"),
    ],
)
async def test_error_while_receiving_ends_the_connection(
    loop: Loop, contexts: Contexts, base: type[Calls], callback: str
) -> None:
    async with connection(raising(base, callback)) as (transport, protocol, peer):
        peer.send(b"x")
        peer.end()
        await protocol.until_lost()
        assert isinstance(protocol.error, OnPurpose)
        (context,) = contexts
        assert context["message"] == f"Fatal error: protocol.{callback}() call failed."
        assert context["exception"] is protocol.error
        assert context["transport"] is transport
        assert context["protocol"] is protocol
        assert transport.is_closing()
        contexts.clear()


class Lacking(Recorder):
    """A recorder without one of the callbacks: looking it up fails."""

    lacks = ""

    def __getattribute__(self, name: str) -> Any:
        if name == object.__getattribute__(self, "lacks"):
            raise OnPurpose(name)
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("callback", ["data_received", "eof_received"])
async def test_protocol_that_lacks_a_callback_for_receiving(
    loop: Loop, contexts: Contexts, callback: str
) -> None:
    async with connection(Lacking()) as (_, protocol, peer):
        protocol.lacks = callback
        peer.send(b"x")
        peer.end()
        await protocol.until_lost()
        assert isinstance(protocol.error, OnPurpose)
        assert [context["exception"] for context in contexts] == [protocol.error]
        contexts.clear()


async def test_protocol_that_lacks_connection_lost(loop: Loop, contexts: Contexts) -> None:
    async with connection(Lacking()) as (transport, protocol, peer):
        protocol.lacks = "connection_lost"
        transport.close()
        assert await peer.to_end() == b"", "the descriptor is closed all the same"
        await pause(2)
        assert [type(context["exception"]) for context in contexts] == [OnPurpose]
        contexts.clear()
        protocol.calls.append("connection_lost")


async def test_protocol_that_lacks_flow_control(loop: Loop, contexts: Contexts) -> None:
    async with connection(Lacking()) as (transport, protocol, peer):
        protocol.lacks = "pause_writing"
        transport.write(b"x" * (8 << 20))
        assert [type(context["exception"]) for context in contexts] == [OnPurpose]
        contexts.clear()
        await peer.exactly(8 << 20)
        await protocol.until_called("resume_writing")
        assert not transport.is_closing()


@pytest.mark.parametrize("nothing", [None, 5])
async def test_set_protocol_to_nonsense(loop: Loop, contexts: Contexts, nothing: Any) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.set_protocol(nothing)
        peer.send(b"x")
        assert await peer.to_end() == b"", "an error ends the connection"
        await pause(2)
        assert {type(context["exception"]) for context in contexts} == {AttributeError}
        contexts.clear()
        protocol.calls.append("connection_lost")


async def test_error_in_connection_made_leaves_the_connection(
    loop: Loop, contexts: Contexts
) -> None:
    async with connection(raising(Recorder, "connection_made")) as (transport, protocol, peer):
        (context,) = contexts
        assert isinstance(context["exception"], OnPurpose)
        assert context["message"].startswith("Exception in callback")
        contexts.clear()
        assert not transport.is_closing()
        peer.send(b"goes on")
        assert isinstance(protocol, Recorder)
        assert await protocol.until_received(7) == b"goes on"


async def test_error_in_connection_lost(loop: Loop, contexts: Contexts) -> None:
    async with connection(raising(Recorder, "connection_lost")) as (transport, protocol, peer):
        transport.close()
        await protocol.until_lost()
        assert await peer.to_end() == b"", "the descriptor is closed all the same"
        await pause(2)
        (context,) = contexts
        assert isinstance(context["exception"], OnPurpose)
        contexts.clear()


async def test_error_in_pause_writing(loop: Loop, contexts: Contexts) -> None:
    async with connection(raising(Recorder, "pause_writing")) as (transport, protocol, peer):
        transport.write(b"x" * (16 << 20))
        (context,) = contexts
        assert context["message"] == "protocol.pause_writing() failed"
        assert isinstance(context["exception"], OnPurpose)
        assert context["transport"] is transport
        assert context["protocol"] is protocol
        contexts.clear()
        await peer.exactly(16 << 20)
        await protocol.until_called("resume_writing")
        assert not transport.is_closing()


async def test_error_in_resume_writing(loop: Loop, contexts: Contexts) -> None:
    async with connection(raising(Recorder, "resume_writing")) as (transport, protocol, peer):
        transport.write(b"x" * (16 << 20))
        await peer.exactly(16 << 20)
        await protocol.until_called("resume_writing")
        (context,) = contexts
        assert context["message"] == "protocol.resume_writing() failed"
        assert isinstance(context["exception"], OnPurpose)
        assert context["transport"] is transport
        contexts.clear()
        transport.write(b"tail")
        assert await peer.exactly(4) == b"tail"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    ("base", "callback"),
    [
        (Recorder, "data_received"),
        (Recorder, "eof_received"),
        (BufferedRecorder, "get_buffer"),
        (BufferedRecorder, "buffer_updated"),
    ],
)
def test_interrupt_while_receiving_leaves_the_loop(
    loop: Loop, base: type[Calls], callback: str, error: type[BaseException]
) -> None:
    protocol = raising(base, callback, error)
    near, far = connected()
    transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
    with far:
        far.sendall(b"x")
        far.shutdown(1)
        with pytest.raises(error):
            loop.run_until_complete(asyncio.sleep(PATIENCE))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        transport.abort()


@pytest.mark.parametrize("buffer", [b"", bytearray(), memoryview(b"")])
async def test_empty_buffer(loop: Loop, contexts: Contexts, buffer: Any) -> None:
    async with connection(BufferedRecorder()) as (_, protocol, peer):
        protocol.buffer = buffer
        peer.send(b"x")
        await protocol.until_lost()
        assert isinstance(protocol.error, RuntimeError)
        assert "get_buffer() returned an empty buffer" in str(protocol.error)
        assert [context["exception"] for context in contexts] == [protocol.error]
        contexts.clear()


@pytest.mark.parametrize("buffer", [None, 5, "text", object()])
async def test_buffer_of_a_wrong_type(loop: Loop, contexts: Contexts, buffer: Any) -> None:
    async with connection(BufferedRecorder()) as (_, protocol, peer):
        protocol.buffer = buffer
        peer.send(b"x")
        await protocol.until_lost()
        assert isinstance(protocol.error, TypeError)
        assert len(contexts) == 1
        contexts.clear()


@pytest.mark.parametrize("buffer", [b"read-only", memoryview(b"read-only")])
async def test_buffer_that_is_read_only(loop: Loop, contexts: Contexts, buffer: Any) -> None:
    async with connection(BufferedRecorder()) as (_, protocol, peer):
        protocol.buffer = buffer
        peer.send(b"x")
        await protocol.until_lost()
        assert isinstance(protocol.error, (TypeError, BufferError))
        assert len(contexts) == 1
        contexts.clear()


async def test_factory_that_raises_while_connecting(loop: Loop) -> None:
    def factory() -> asyncio.Protocol:
        raise OnPurpose

    with listening() as listener:
        with pytest.raises(OnPurpose):
            await loop.create_connection(factory, *listener.getsockname())
        accepted, _ = listener.accept()
        assert await Peer(accepted).to_end() == b"", "the connection is closed at once"
        accepted.close()


@pytest.mark.parametrize("accepted", [False, True])
async def test_factory_that_raises_for_a_given_socket(loop: Loop, accepted: bool) -> None:
    def factory() -> asyncio.Protocol:
        raise OnPurpose

    near, far = connected()
    with near, far:
        with pytest.raises(OnPurpose):
            if accepted:
                await loop.connect_accepted_socket(factory, near)
            else:
                await loop.create_connection(factory, sock=near)
        closed = near.fileno() == -1
    assert closed == (sys.version_info >= (3, 14))


async def test_factory_that_raises_while_accepting(loop: Loop, contexts: Contexts) -> None:
    first = True

    def factory() -> asyncio.Protocol:
        nonlocal first
        if first:
            first = False
            raise OnPurpose
        return Recorder()

    loop.set_debug(True)  # asyncio reports it in debug mode only
    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    refused, refused_protocol = await loop.create_connection(Recorder, *address)
    await refused_protocol.until_lost()
    (context,) = contexts
    assert isinstance(context["exception"], OnPurpose)
    assert context["message"] == "Error on transport creation for incoming connection"
    contexts.clear()
    del context
    assert refused.is_closing()
    gc.collect()  # a socket that was not closed is found now

    transport, protocol = await loop.create_connection(Recorder, *address)
    transport.write(b"the server goes on")
    transport.close()
    await protocol.until_lost()
    server.close()
    await pause(5)


async def test_factory_that_returns_nonsense(loop: Loop) -> None:
    with listening() as listener:
        with pytest.raises((AttributeError, TypeError)):
            await loop.create_connection(lambda: None, *listener.getsockname())  # type: ignore[arg-type,return-value]
        accepted, _ = listener.accept()
        assert await Peer(accepted).to_end() == b"", "the connection is closed at once"
        accepted.close()


async def test_one_failing_connection_leaves_the_others(loop: Loop, contexts: Contexts) -> None:
    async with (
        connection(raising(Recorder, "data_received")) as (_, bad, bad_peer),
        connection(Recorder()) as (_, good, good_peer),
    ):
        bad_peer.send(b"x")
        good_peer.send(b"fine")
        await bad.until_lost()
        assert await good.until_received(4) == b"fine"
        contexts.clear()


@pytest.mark.parametrize("debug", [False, True])
async def test_errors_of_the_network_are_no_errors_of_the_program(
    loop: Loop, contexts: Contexts, debug: bool
) -> None:
    loop.set_debug(debug)
    async with connection(Recorder()) as (_, protocol, peer):
        peer.reset()
        await protocol.until_lost()
        assert isinstance(protocol.error, ConnectionResetError)
    assert not contexts
