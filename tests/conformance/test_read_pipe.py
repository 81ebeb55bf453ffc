"""`connect_read_pipe` and its transport."""

from __future__ import annotations

import asyncio
import os
import pty
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from support.loops import is_ours
from support.pipes import Reading, pipe, reading
from support.sockets import Peer, connected
from support.ticks import pause, turn

Loop = asyncio.AbstractEventLoop
Contexts = list[dict[str, Any]]


def is_reading(transport: asyncio.ReadTransport, expected: bool) -> bool:
    """What it says; asyncio's says nothing before 3.11."""
    if sys.version_info < (3, 11) and not type(transport).__module__.startswith("oxlip"):
        return expected
    return transport.is_reading()


async def test_data_then_the_end(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await reading(reader)
        assert not os.get_blocking(reader.fileno())
        writer.write(b"one")
        await protocol.until_received(3)
        writer.write(b"two")
        assert await protocol.until_received(6) == b"onetwo"
        writer.close()
        await protocol.until_lost()
        expected = ["connection_made", *["data_received"] * 2, "eof_received", "connection_lost"]
        assert protocol.calls == expected
        assert protocol.error is None
        assert reader.closed


async def test_nothing_is_read_before_connection_made(loop: Loop) -> None:
    with pipe() as (reader, writer):
        writer.write(b"early")
        writer.close()
        protocol = await reading(reader)
        assert protocol.calls == ["connection_made"]
        await protocol.until_lost()
        assert protocol.data == b"early"


@pytest.mark.parametrize("keep_open", [None, True, False])
async def test_the_answer_of_eof_received_does_not_matter(
    loop: Loop, keep_open: bool | None
) -> None:
    with pipe() as (reader, writer):
        protocol = await reading(reader, Reading(keep_open=keep_open))
        writer.close()
        await protocol.until_lost()
        assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]


async def test_close(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await reading(reader)
        transport = protocol.transport
        writer.write(b"never read")
        transport.close()
        transport.close()
        assert transport.is_closing() and not is_reading(transport, False)
        assert protocol.calls == ["connection_made"]
        assert not reader.closed
        await protocol.until_lost()
        await pause(2)
        assert protocol.calls == ["connection_made", "connection_lost"]
        assert protocol.error is None
        assert reader.closed
        with pytest.raises(BrokenPipeError):
            writer.write(b"x")
        transport.close()
        transport.pause_reading()
        transport.resume_reading()
        assert transport.is_closing() and transport.get_protocol() is None


async def test_pause_and_resume(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await reading(reader)
        transport = protocol.transport
        assert is_reading(transport, True)
        transport.pause_reading()
        transport.pause_reading()
        assert not is_reading(transport, False)
        writer.write(b"held back")
        await pause(5)
        assert protocol.data == b""
        transport.resume_reading()
        transport.resume_reading()
        assert is_reading(transport, True)
        await protocol.until_received(9)
        transport.pause_reading()
        transport.close()
        transport.resume_reading()
        await protocol.until_lost()
        assert "eof_received" not in protocol.calls


async def test_pause_in_connection_made(loop: Loop) -> None:
    with pipe() as (reader, writer):
        writer.write(b"held back")
        protocol = await reading(reader, Reading(pause=True))
        await pause(5)
        assert protocol.data == b""
        protocol.transport.resume_reading()
        await protocol.until_received(9)
        protocol.transport.close()
        await protocol.until_lost()


async def test_the_end_is_not_seen_while_paused(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await reading(reader, Reading(pause=True))
        writer.close()
        await pause(5)
        assert protocol.calls == ["connection_made"]
        protocol.transport.resume_reading()
        await protocol.until_lost()


async def test_much_data(loop: Loop) -> None:
    data = os.urandom(1 << 20) * 3
    with pipe() as (reader, writer):
        protocol = await reading(reader)

        def feed() -> None:
            os.set_blocking(writer.fileno(), True)
            view = memoryview(data)
            while view:
                view = view[writer.write(view) :]
            writer.close()

        await asyncio.gather(asyncio.to_thread(feed), protocol.until_lost())
        assert protocol.data == data


async def test_data_received_that_raises_ends_nothing(loop: Loop, contexts: Contexts) -> None:
    class Failing(Reading):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise ZeroDivisionError

    with pipe() as (reader, writer):
        protocol = await reading(reader, Failing())
        writer.write(b"x")
        await protocol.until_received(1)
        writer.write(b"y")
        await protocol.until_received(2)
        await pause()
        assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError] * 2
        assert all(context["message"].startswith("Exception in callback") for context in contexts)
        contexts.clear()
        writer.close()
        await protocol.until_lost()
        assert protocol.error is None


async def test_eof_received_that_raises(loop: Loop, contexts: Contexts) -> None:
    class Failing(Reading):
        def eof_received(self) -> bool:
            raise ZeroDivisionError

    with pipe() as (reader, writer):
        protocol = await reading(reader, Failing())
        writer.close()
        await protocol.until_lost()
        assert protocol.error is None
        (context,) = contexts
        assert isinstance(context["exception"], ZeroDivisionError)
        contexts.clear()


async def test_connection_lost_that_raises(loop: Loop, contexts: Contexts) -> None:
    class Failing(Reading):
        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            raise ZeroDivisionError

    with pipe() as (reader, writer):
        protocol = await reading(reader, Failing())
        writer.close()
        await protocol.until_lost()
        await pause()
        assert reader.closed
        assert len(contexts) == 1
        contexts.clear()


async def test_close_within_data_received(loop: Loop) -> None:
    class Once(Reading):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

    with pipe() as (reader, writer):
        protocol = await reading(reader, Once())
        writer.write(b"x")
        await protocol.until_lost()
        assert protocol.calls == ["connection_made", "data_received", "connection_lost"]


@pytest.mark.parametrize("what", ["file", "directory"])
async def test_what_is_no_pipe(loop: Loop, what: str, tmp_path: Path) -> None:
    path = tmp_path
    if what == "file":
        path = tmp_path / "file"
        path.touch()
    number = os.open(path, os.O_RDONLY)

    class Numbered:
        def fileno(self) -> int:
            return number

    with pytest.raises(ValueError, match=r"^Pipe transport is for pipes/sockets only\.$"):
        await loop.connect_read_pipe(Reading, Numbered())
    os.close(number)


@pytest.mark.ours  # asyncio's leaves a transport behind that fails when it is collected.
async def test_closed_file(loop: Loop) -> None:
    with pipe() as (reader, _):
        reader.close()
        with pytest.raises(ValueError):
            await loop.connect_read_pipe(Reading, reader)


@pytest.mark.ours
async def test_closed_number(loop: Loop) -> None:
    class Numbered:
        def fileno(self) -> int:
            return 987_654

    with pytest.raises(OSError):
        await loop.connect_read_pipe(Reading, Numbered())


async def test_socket(loop: Loop) -> None:
    near, far = socket.socketpair()
    with near, far:
        protocol = await reading(near)
        far.sendall(b"hello")
        await protocol.until_received(5)
        far.close()
        await protocol.until_lost()
        assert near.fileno() == -1


async def test_fifo(loop: Loop, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    number = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with open(number, "rb", buffering=0) as reader, open(tmp_path / "fifo", "wb") as writer:
        protocol = await reading(reader)
        writer.write(b"hello")
        writer.close()
        await protocol.until_lost()
        assert protocol.data == b"hello"


async def test_terminal(loop: Loop) -> None:
    near, far = pty.openpty()
    with open(near, "rb", buffering=0) as file:
        protocol = await reading(file)
        os.write(far, b"hello\n")
        assert await protocol.until_received(7) == b"hello\r\n"
        os.close(far)
        await protocol.until_lost()
        # The kernel says EIO for the end of a terminal; nobody needs to be told of that.
        assert isinstance(protocol.error, OSError)
        assert "eof_received" not in protocol.calls


@pytest.mark.ours
async def test_a_file_that_never_blocks(loop: Loop) -> None:
    """epoll refuses to watch it. asyncio reports the error, and then nothing comes, not even the
    end; with its other selectors it is as here."""
    with open("/dev/null", "rb", buffering=0) as file:
        protocol = await reading(file)
        await protocol.until_lost()
        assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]
        assert protocol.error is None
    with open("/dev/zero", "rb", buffering=0) as file:
        protocol = await reading(file)
        await protocol.until_received(1_000_000)
        protocol.transport.pause_reading()
        await pause(3)
        received = len(protocol.data)
        await pause(3)
        assert len(protocol.data) == received
        protocol.transport.close()
        await protocol.until_lost()


async def test_error_of_reading(loop: Loop, contexts: Contexts) -> None:
    near, far = connected()
    with near:
        protocol = await reading(near)
        Peer(far).reset()
        await protocol.until_lost()
        assert isinstance(protocol.error, ConnectionResetError)
        (context,) = contexts
        assert context["message"] == "Fatal read error on pipe transport"
        assert context["exception"] is protocol.error
        assert context["transport"] is protocol.transport
        assert context["protocol"] is protocol
        contexts.clear()


async def test_what_it_is(loop: Loop) -> None:
    with pipe() as (reader, _):
        protocol = await reading(reader)
        transport = protocol.transport
        assert isinstance(transport, asyncio.ReadTransport)
        assert not isinstance(transport, asyncio.WriteTransport)
        assert not hasattr(transport, "abort")
        assert transport.get_extra_info("pipe") is reader
        assert transport.get_extra_info("socket") is None
        assert transport.get_extra_info("socket", 7) == 7
        assert transport.get_protocol() is protocol
        text = repr(transport)
        assert "ReadPipeTransport" in text and f"fd={reader.fileno()} polling" in text
        transport.pause_reading()
        assert "idle" in repr(transport)
        transport.close()
        assert "closing" in repr(transport)
        await protocol.until_lost()
        assert "closed" in repr(transport)


async def test_set_protocol(loop: Loop) -> None:
    with pipe() as (reader, writer):
        first = await reading(reader)
        second = Reading()
        transport = first.transport
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        writer.write(b"x")
        await second.until_received(1)
        writer.close()
        await second.until_lost()
        assert first.calls == ["connection_made"]


async def test_add_reader_is_not_refused(loop: Loop) -> None:
    with pipe() as (reader, _):
        protocol = await reading(reader, Reading(pause=True))
        loop.add_reader(reader.fileno(), lambda: None)
        assert loop.remove_reader(reader.fileno())
        protocol.transport.close()
        await protocol.until_lost()


async def test_cancelled_while_connecting(loop: Loop) -> None:
    with pipe() as (reader, writer):
        made = Reading()
        task = asyncio.ensure_future(loop.connect_read_pipe(lambda: made, reader))
        await pause()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await made.until_lost()
        assert reader.closed
        with pytest.raises(BrokenPipeError):
            writer.write(b"x")


def test_loop_closed_first(loop: Loop, kind: str) -> None:
    with pipe() as (reader, _):
        protocol = loop.run_until_complete(reading(reader))
        if is_ours(kind):
            with pytest.warns(ResourceWarning, match="unclosed transport <ReadPipeTransport"):
                loop.close()
        else:
            loop.close()
        transport: Any = protocol.transport
        assert "open" in repr(transport)
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.close()
        assert not reader.closed
        transport._pipe = None  # Or asyncio's warns when it is collected.


@pytest.mark.ours
def test_closed_loop(loop: Loop) -> None:
    loop.close()
    with pipe() as (reader, _):
        coroutine = loop.connect_read_pipe(Reading, reader)
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            coroutine.send(None)


@pytest.mark.ours
def test_file_that_is_closed_under_the_transport(loop: Loop) -> None:
    """Its number goes to somebody else, whose bytes are none of the transport's."""
    with pipe() as (reader, writer), pipe() as (other, others_writer):
        protocol = loop.run_until_complete(reading(reader))
        number = reader.fileno()
        reader.close()
        os.dup2(other.fileno(), number)
        others_writer.write(b"not yours")
        turn(loop, 5)
        assert protocol.data == b""
        writer.write(b"yours")
        loop.run_until_complete(protocol.until_received(5))
        assert protocol.data == b"yours"
        writer.close()
        loop.run_until_complete(protocol.until_lost())
        assert os.read(number, 100) == b"not yours"
        os.close(number)
