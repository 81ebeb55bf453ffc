"""`connect_write_pipe` and its transport."""

from __future__ import annotations

import asyncio
import logging
import os
import pty
import socket
from pathlib import Path
from typing import Any

import pytest
from support.loops import is_ours
from support.pipes import Writing, drain, pipe, writing
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
MUCH = b"x" * (1 << 20)


async def test_a_write_leaves_at_once(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await writing(writer)
        assert not os.get_blocking(writer.fileno())
        for word in (b"one", bytearray(b"two"), memoryview(b"three"), b""):
            protocol.transport.write(word)
            assert drain(reader) == (bytes(word) if word else b"")
        protocol.transport.writelines([b"four", bytearray(b"five"), b""])
        assert drain(reader) == b"fourfive"
        protocol.transport.close()
        await protocol.until_lost()
        assert writer.closed and protocol.error is None
        assert reader.read() == b""


async def test_several_writes_in_a_handle_leave_at_once(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await writing(writer)
        loop.call_soon(lambda: None)
        for _ in range(5):
            protocol.transport.write(b"x")
            assert drain(reader) == b"x"
        protocol.transport.close()
        await protocol.until_lost()


async def test_what_changes_after_the_call_is_not_written(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await writing(writer)
        data = bytearray(MUCH)
        protocol.transport.write(data)
        data[:] = b"y" * len(data)
        protocol.transport.close()
        found = await asyncio.to_thread(reader.readall)
        assert found == MUCH
        await protocol.until_lost()


async def test_flow_control(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await writing(writer)
        transport = protocol.transport
        assert transport.get_write_buffer_limits() == (16384, 65536)  # type: ignore[attr-defined]
        transport.write(MUCH)
        assert protocol.calls == ["connection_made", "pause_writing"]
        size = transport.get_write_buffer_size()
        assert 0 < size < len(MUCH)
        assert f"bufsize={size}" in repr(transport)
        transport.write(b"more")
        assert transport.get_write_buffer_size() == size + 4
        found = bytearray()
        while len(found) < len(MUCH) + 4:
            found += drain(reader)
            await pause()
        assert found == MUCH + b"more"
        await protocol.until_called("resume_writing")
        assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.until_lost()


async def test_limits(loop: Loop) -> None:
    with pipe() as (_, writer):
        protocol = await writing(writer)
        transport: Any = protocol.transport
        transport.set_write_buffer_limits(high=100)
        assert transport.get_write_buffer_limits() == (25, 100)
        transport.set_write_buffer_limits(low=10)
        assert transport.get_write_buffer_limits() == (10, 40)
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.close()
        await protocol.until_lost()


@pytest.mark.parametrize("end", ["close", "write_eof"])
async def test_close_writes_what_is_left(loop: Loop, end: str) -> None:
    with pipe() as (reader, writer):
        protocol = await writing(writer)
        transport = protocol.transport
        assert transport.can_write_eof()
        transport.write(MUCH)
        getattr(transport, end)()
        transport.close()
        transport.write_eof()
        assert transport.is_closing() and "closing" in repr(transport)
        transport.write(b"too late")
        await pause(3)
        assert "connection_lost" not in protocol.calls
        assert await asyncio.to_thread(reader.readall) == MUCH
        await protocol.until_lost()
        assert protocol.error is None
        transport.close()
        transport.write_eof()
        transport.write(b"much too late")
        assert "closed" in repr(transport)


async def test_abort_loses_what_is_left(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await writing(writer)
        transport = protocol.transport
        transport.write(MUCH)
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        assert "connection_lost" not in protocol.calls
        await protocol.until_lost()
        assert protocol.error is None
        assert 0 < len(reader.readall()) < len(MUCH)


async def test_the_reader_leaves(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await writing(writer)
        reader.close()
        await protocol.until_lost()
        assert protocol.calls == ["connection_made", "connection_lost"]
        assert protocol.error is None
        assert writer.closed


async def test_the_reader_leaves_before_all_is_written(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await writing(writer)
        protocol.transport.write(MUCH)
        reader.close()
        await protocol.until_lost()
        assert isinstance(protocol.error, BrokenPipeError)


async def test_the_reader_leaves_while_closing(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await writing(writer)
        protocol.transport.write(MUCH)
        protocol.transport.close()
        reader.close()
        await protocol.until_lost()
        assert isinstance(protocol.error, BrokenPipeError)


async def test_write_without_a_reader(loop: Loop) -> None:
    with pipe() as (reader, writer):
        protocol = await writing(writer)
        reader.close()
        protocol.transport.write(b"x")
        assert protocol.transport.is_closing()
        await protocol.until_lost()
        await pause(2)
        assert isinstance(protocol.error, BrokenPipeError)
        assert protocol.calls == ["connection_made", "connection_lost"]


@pytest.mark.parametrize(("broken", "quiet"), [(True, 4), (False, 5)])
async def test_late_writes_warn(
    loop: Loop, caplog: pytest.LogCaptureFixture, broken: bool, quiet: int
) -> None:
    with pipe() as (reader, writer):
        protocol = await writing(writer)
        if broken:
            reader.close()
            protocol.transport.write(b"x")
        else:
            protocol.transport.close()
        caplog.set_level(logging.WARNING, "asyncio")
        for _ in range(quiet):
            protocol.transport.write(b"x")
        assert caplog.messages == []
        protocol.transport.write(b"x")
        protocol.transport.write(b"x")
        expected = "pipe closed by peer or os.write(pipe, data) raised exception."
        assert caplog.messages == [expected] * 2
        await protocol.until_lost()
        protocol.transport.write(b"x")
        assert caplog.messages == [expected] * 3


@pytest.mark.parametrize("nonsense", ["text", 7, None, [b"x"]])
async def test_what_cannot_be_written(loop: Loop, nonsense: Any) -> None:
    with pipe() as (_, writer):
        protocol = await writing(writer)
        with pytest.raises(AssertionError) as caught:
            protocol.transport.write(nonsense)
        assert caught.value.args == (repr(nonsense),)
        protocol.transport.close()
        await protocol.until_lost()


async def test_what_is_no_pipe(loop: Loop, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        with pytest.raises(
            ValueError, match=r"^Pipe transport is only for pipes, sockets and character devices$"
        ):
            await loop.connect_write_pipe(Writing, file)


async def test_socket(loop: Loop) -> None:
    near, far = socket.socketpair()
    with near, far:
        protocol = await writing(near)
        protocol.transport.write(b"hello")
        assert far.recv(100) == b"hello"
        far.close()
        await protocol.until_lost()
        assert protocol.error is None
        assert near.fileno() == -1


async def test_whatever_a_socket_can_read_is_taken_for_its_end(loop: Loop) -> None:
    near, far = socket.socketpair()
    with near, far:
        protocol = await writing(near)
        far.sendall(b"to a writer?")
        await protocol.until_lost()


async def test_character_device(loop: Loop) -> None:
    with open("/dev/null", "wb", buffering=0) as file:
        protocol = await writing(file)
        protocol.transport.write(MUCH)
        assert protocol.transport.get_write_buffer_size() == 0
        await pause(3)
        assert protocol.calls == ["connection_made"]
        protocol.transport.close()
        await protocol.until_lost()


async def test_terminal(loop: Loop) -> None:
    near, far = pty.openpty()
    with open(near, "wb", buffering=0) as file:
        protocol = await writing(file)
        protocol.transport.write(b"hello\n")
        assert os.read(far, 100) == b"hello\n"
        protocol.transport.close()
        await protocol.until_lost()
        os.close(far)


async def test_what_it_is(loop: Loop) -> None:
    with pipe() as (_, writer):
        protocol = await writing(writer)
        transport = protocol.transport
        assert isinstance(transport, asyncio.WriteTransport)
        # An accident of asyncio's, which programs may have come to rely on.
        assert isinstance(transport, asyncio.Transport)
        with pytest.raises(NotImplementedError):
            transport.pause_reading()
        assert transport.get_extra_info("pipe") is writer
        assert transport.get_protocol() is protocol
        text = repr(transport)
        assert "WritePipeTransport" in text and f"fd={writer.fileno()} idle bufsize=0" in text
        other = Writing()
        transport.set_protocol(other)
        assert transport.get_protocol() is other
        transport.close()
        await other.until_lost()
        assert protocol.calls == ["connection_made"]


async def test_stream_writer(loop: Loop) -> None:
    with pipe() as (reader, writer):
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop), writer
        )
        stream = asyncio.StreamWriter(transport, protocol, None, loop)

        async def feed() -> None:
            for _ in range(8):
                stream.write(MUCH)
                await stream.drain()
            stream.close()

        _, found = await asyncio.gather(feed(), asyncio.to_thread(reader.readall))
        assert found == MUCH * 8


async def test_both_ends_on_the_loop(loop: Loop) -> None:
    with pipe() as (reader, writer):
        stream = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(stream)
        read, _ = await loop.connect_read_pipe(lambda: protocol, reader)
        write = (await writing(writer)).transport
        for number in range(100):
            write.write(b"%d\n" % number)
            assert await stream.readline() == b"%d\n" % number
        write.close()
        assert await stream.read() == b""
        await pause(3)
        assert read.is_closing()


def test_loop_closed_first(loop: Loop, kind: str) -> None:
    with pipe() as (_, writer):
        protocol = loop.run_until_complete(writing(writer))
        if is_ours(kind):
            with pytest.warns(ResourceWarning, match="unclosed transport <WritePipeTransport"):
                loop.close()
        else:
            loop.close()
        transport: Any = protocol.transport
        assert "open" in repr(transport)
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.close()
        transport._pipe = None  # Or asyncio's warns when it is collected.
