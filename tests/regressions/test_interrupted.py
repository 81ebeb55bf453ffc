"""Ctrl-C within a protocol's callback: it ends the run, and the connection is sound in the next."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from support.protocols import Recorder
from support.sockets import Peer, connected
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
Contexts = list[dict[str, Any]]
LARGE = 8 << 20

ending = pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])


def interrupted(callback: str, error: type[BaseException]) -> Recorder:
    """A protocol that is interrupted the first time it gets into that callback."""
    left = [error]

    def interrupt(self: Any, *arguments: Any) -> Any:
        getattr(Recorder, callback)(self, *arguments)
        if left:
            raise left.pop()

    return type("Interrupted", (Recorder,), {callback: interrupt})()


@ending
def test_connection_interrupted_in_connection_made_begins(
    loop: Loop, error: type[BaseException]
) -> None:
    near, far = connected()
    with far:
        far.send(b"hi")
        protocol = interrupted("connection_made", error)
        connecting = loop.create_task(loop.create_connection(lambda: protocol, sock=near))
        with pytest.raises(error):
            loop.run_until_complete(connecting)
        transport, _ = loop.run_until_complete(asyncio.wait_for(connecting, 5))
        assert loop.run_until_complete(protocol.until_received(2)) == b"hi"
        transport.close()
        loop.run_until_complete(protocol.until_lost())
        assert protocol.calls == ["connection_made", "data_received", "connection_lost"]


@ending
def test_connection_interrupted_in_data_received_goes_on(
    loop: Loop, error: type[BaseException]
) -> None:
    near, far = connected()
    with far:
        protocol = interrupted("data_received", error)
        transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
        far.send(b"a")
        with pytest.raises(error):
            loop.run_until_complete(protocol.until_called("connection_lost"))
        far.send(b"b")
        assert loop.run_until_complete(protocol.until_received(2)) == b"ab"
        transport.abort()
        loop.run_until_complete(protocol.until_lost())


@ending
def test_connection_interrupted_in_eof_received_is_told_again(
    loop: Loop, error: type[BaseException]
) -> None:
    near, far = connected()
    with far:
        protocol = interrupted("eof_received", error)
        loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(error):
            loop.run_until_complete(protocol.until_lost())
        loop.run_until_complete(protocol.until_lost())
        assert protocol.calls[1:] == ["eof_received", "eof_received", "connection_lost"]
        assert protocol.error is None


@ending
def test_connection_interrupted_in_eof_received_and_paused(
    loop: Loop, error: type[BaseException]
) -> None:
    near, far = connected()
    with far:
        protocol = interrupted("eof_received", error)
        transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(error):
            loop.run_until_complete(protocol.until_lost())
        transport.pause_reading()
        loop.run_until_complete(pause(3))
        assert protocol.calls[1:] == ["eof_received"]
        transport.resume_reading()
        loop.run_until_complete(protocol.until_lost())
        assert protocol.calls[1:] == ["eof_received", "eof_received", "connection_lost"]


@ending
def test_connection_interrupted_in_resume_writing_is_closed(
    loop: Loop, error: type[BaseException]
) -> None:
    near, far = connected()
    with far:
        protocol = interrupted("resume_writing", error)
        transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
        transport.set_write_buffer_limits(high=0)  # so that it resumes with nothing left
        transport.write(b"x" * LARGE)
        transport.close()
        reading = loop.create_task(Peer(far).to_end())
        with pytest.raises(error):
            loop.run_until_complete(reading)
        assert len(loop.run_until_complete(asyncio.wait_for(reading, 5))) == LARGE
        loop.run_until_complete(protocol.until_lost())
        assert protocol.error is None
        assert protocol.calls[1:] == ["pause_writing", "resume_writing", "connection_lost"]


@ending
def test_connection_interrupted_in_resume_writing_goes_on(
    loop: Loop, error: type[BaseException]
) -> None:
    near, far = connected()
    with far:
        protocol = interrupted("resume_writing", error)
        transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
        transport.set_write_buffer_limits(high=0)
        transport.write(b"x" * LARGE)
        reading = loop.create_task(Peer(far).exactly(LARGE + 4))
        with pytest.raises(error):
            loop.run_until_complete(reading)
        transport.write(b"more")
        received = loop.run_until_complete(asyncio.wait_for(reading, 5))
        assert received == b"x" * LARGE + b"more"
        transport.close()
        loop.run_until_complete(protocol.until_lost())


@ending
def test_what_was_written_leaves_although_a_single_tick_is_interrupted(
    loop: Loop, error: type[BaseException]
) -> None:
    """As a library has it that waits inside of a callback."""
    near, far = connected()
    received: list[bytes] = []

    def interrupt() -> None:
        raise error

    def inside() -> None:
        loop.call_soon(transport.write, b"written")
        loop.call_soon(interrupt)
        loop.stop()
        with pytest.raises(error):
            loop._run_once()  # type: ignore[attr-defined]
        received.append(far.recv(16))

    with far:
        protocol = Recorder()
        transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
        loop.call_soon(inside)
        loop.run_forever()
        assert received == [b"written"]
        transport.close()
        loop.run_until_complete(protocol.until_lost())
