"""The end of a TCP transport: close, abort, and what comes after."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.protocols import BufferedRecorder, Recorder, connection
from support.sockets import connected, listening
from support.ticks import pause, turn

Loop = asyncio.AbstractEventLoop
LARGE = 16 * 1024 * 1024


async def test_close(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        assert not transport.is_closing()
        transport.close()
        assert transport.is_closing()
        assert "connection_lost" not in protocol.calls, "never from within close()"
        await protocol.until_lost()
        assert protocol.error is None
        assert await peer.to_end() == b""


async def test_close_twice(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        transport.close()
        transport.close()
        await protocol.until_lost()
        transport.close()
        transport.abort()
        await pause(3)
        assert protocol.calls.count("connection_lost") == 1


async def test_close_sends_what_is_buffered(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write(b"x" * LARGE)
        transport.close()
        await pause(3)
        assert "connection_lost" not in protocol.calls
        assert len(await peer.to_end()) == LARGE
        await protocol.until_lost()
        assert protocol.error is None


async def test_the_last_byte_that_leaves_ends_the_connection_at_once(loop: Loop) -> None:
    """What resume_writing() schedules in the same handle comes after connection_lost()."""

    class Resuming(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            loop.call_soon(self.note, "scheduled")

    async with connection(Resuming()) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=1, low=0)
        transport.write(b"x" * LARGE)
        transport.close()
        assert len(await peer.to_end()) == LARGE
        await protocol.until_called("scheduled")
        assert protocol.calls[-3:] == ["resume_writing", "connection_lost", "scheduled"]


async def test_small_writes_before_close_arrive(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        transport.write(b"head ")
        transport.write(b"body ")
        transport.writelines([b"tail", b"."])
        transport.close()
        assert await peer.to_end() == b"head body tail."


async def test_write_while_closing(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        transport.write(b"x" * LARGE)
        transport.close()
        transport.write(b"tail")
        received = await peer.to_end()
        assert len(received) == LARGE + 4
        assert received.endswith(b"xtail")


async def test_abort(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        transport.write(b"x" * LARGE)
        transport.abort()
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert "connection_lost" not in protocol.calls
        await protocol.until_lost()
        assert protocol.error is None


async def test_abort_while_closing(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        transport.write(b"x" * LARGE)
        transport.close()
        await pause(3)
        transport.abort()
        await protocol.until_lost()
        assert protocol.error is None
        assert protocol.calls.count("connection_lost") == 1


@pytest.mark.parametrize("ending", ["close", "abort"])
@pytest.mark.parametrize("callback", ["connection_made", "data_received", "eof_received"])
async def test_ending_inside_a_callback(loop: Loop, callback: str, ending: str) -> None:
    class Ending(Recorder):
        def note(self, call: str) -> None:
            super().note(call)
            if call == callback:
                getattr(self.transport, ending)()
                assert "connection_lost" not in self.calls

    async with connection(Ending()) as (_, protocol, peer):
        if callback != "connection_made":
            peer.send(b"x")
            peer.end()
        await protocol.until_lost()
        await pause(3)
        assert protocol.calls.count("connection_lost") == 1
        assert protocol.calls[-1] == "connection_lost"
        assert protocol.error is None


@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_ending_inside_get_buffer(loop: Loop, ending: str) -> None:
    class Ending(BufferedRecorder):
        def get_buffer(self, hint: int) -> Any:
            getattr(self.transport, ending)()
            return super().get_buffer(hint)

    async with connection(Ending()) as (_, protocol, peer):
        peer.send(b"x")
        await protocol.until_lost()
        assert protocol.calls.count("connection_lost") == 1


async def test_methods_inside_connection_lost(loop: Loop) -> None:
    class Late(Recorder):
        def connection_lost(self, error: Exception | None) -> None:
            transport = self.transport
            transport.close()
            transport.abort()
            transport.write(b"x")
            transport.pause_reading()
            transport.resume_reading()
            assert transport.is_closing()
            assert not transport.is_reading()
            super().connection_lost(error)

    async with connection(Late()) as (transport, protocol, _):
        transport.close()
        await protocol.until_lost()


async def test_methods_after_the_end(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        transport.close()
        await protocol.until_lost()
        await pause(2)
        transport.close()
        transport.abort()
        transport.write(b"x")
        transport.write(b"")
        transport.pause_reading()
        transport.resume_reading()
        transport.write_eof()
        assert transport.is_closing()
        assert not transport.is_reading()
        assert transport.get_write_buffer_size() == 0
        assert transport.get_write_buffer_limits() == (16384, 65536)
        assert transport.get_extra_info("peername")
        assert "closed" in repr(transport)


async def test_methods_after_a_close_that_had_to_flush(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write(b"x" * LARGE)
        transport.close()
        await peer.to_end()
        await protocol.until_lost()
        transport.write(b"x")
        transport.writelines([b"x"])
        transport.close()
        transport.abort()
        await pause(2)
        assert protocol.calls == [
            "connection_made",
            "pause_writing",
            "resume_writing",
            "connection_lost",
        ]


async def test_writes_after_the_end_warn_at_last(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        transport.close()
        await protocol.until_lost()
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(4):
                transport.write(b"x")
            assert not caplog.records
            transport.write(b"x")
        assert [record.getMessage() for record in caplog.records] == [
            "socket.send() raised exception."
        ]


async def test_the_socket_is_closed(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        sock = transport.get_extra_info("socket")
        assert sock.fileno() >= 0
        transport.close()
        await protocol.until_lost()
        await pause()
        assert sock.fileno() == -1


async def test_the_users_socket_is_closed(loop: Loop) -> None:
    near, far = connected()
    with far:
        transport, protocol = await loop.create_connection(Recorder, sock=near)
        transport.close()
        await protocol.until_lost()
        await pause()
        assert near.fileno() == -1


class AskingAtTheEnd(Recorder):
    """Notes the socket's number in its last callback."""

    number = -1

    def connection_lost(self, exc: Exception | None) -> None:
        self.number = self.transport.get_extra_info("socket").fileno()
        super().connection_lost(exc)


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("given", [False, True])
async def test_the_socket_of_a_closed_transport(loop: Loop, asks: bool, given: bool) -> None:
    """It is there, and closed, whether or not it was asked for before."""
    maker = AskingAtTheEnd if asks else Recorder
    with listening() as listener:
        name = listener.getsockname()
        if given:
            near = socket.create_connection(name)
            near.setblocking(False)
            transport, protocol = await loop.create_connection(maker, sock=near)
        else:
            transport, protocol = await loop.create_connection(maker, *name)
        transport.close()
        await protocol.until_lost()
        await pause()
    if isinstance(protocol, AskingAtTheEnd):
        assert protocol.number >= 0
    sock = transport.get_extra_info("socket")
    assert (sock.fileno(), sock.family, sock.type) == (-1, socket.AF_INET, socket.SOCK_STREAM)
    assert repr(sock).startswith("<asyncio.TransportSocket fd=-1, family=")
    assert transport.get_extra_info("socket", "default") is sock


async def test_the_protocol_is_freed_after_the_end(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        transport.close()
        await protocol.until_lost()
        await pause(2)
    watch = weakref.ref(protocol)
    del protocol
    gc.collect()
    assert watch() is None, "a closed transport does not hold its protocol"
    assert transport.is_closing()


def test_forgotten_transport_warns(loop: Loop) -> None:
    near, far = connected()
    with far:

        async def forget(sock: socket.socket) -> weakref.ref[Any]:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
            transport.pause_reading()
            return weakref.ref(transport)

        watch = loop.run_until_complete(forget(near))
        turn(loop, ticks=3)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop.close()
            del near
            gc.collect()
        messages = [str(warning.message) for warning in caught]
        # A warning refers to the transport, and weak references outlive that since 3.15.
        caught.clear()
        gc.collect()
        assert watch() is None
        assert any(message.startswith("unclosed transport") for message in messages), messages
        assert far.recv(1) == b"", "and the connection is closed"


def test_close_of_the_loop_with_an_open_transport(new_loop: Callable[[], Loop]) -> None:
    near, far = connected()
    with far:
        loop = new_loop()
        transport, _ = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            loop.close()
            with pytest.raises(RuntimeError, match="closed"):
                transport.close()
            del transport, near, _
            gc.collect()
        assert far.recv(1) == b""
