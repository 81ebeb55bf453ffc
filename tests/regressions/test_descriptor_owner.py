"""A connection's descriptor has one owner: its number is not used or closed for somebody else."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import children
from support.protocols import Recorder, connection
from support.sockets import PATIENCE, connected
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
Contexts = list[dict[str, Any]]
Pair = tuple[socket.socket, socket.socket]
EXITING = Path(__file__).with_name("exit_with_connection.py")


async def accept(protocol: Recorder) -> socket.socket:
    """Connects the protocol through a server, which is closed again; the client's end."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname(), PATIENCE)
    await protocol.until_called("connection_made")
    server.close()
    return client


@contextmanager
def strangers() -> Iterator[list[Pair]]:
    """Sockets on the lowest free numbers; at the end each must still be the same and open."""
    pairs = [socket.socketpair() for _ in range(8)]
    ends = [end for pair in pairs for end in pair]
    inodes = [os.fstat(end.fileno()).st_ino for end in ends]
    yield pairs
    assert [os.fstat(end.fileno()).st_ino for end in ends] == inodes
    for end in ends:
        end.close()


def close(loop: Loop) -> None:
    """Closes the loop before its connection, of which ours warns at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()


def forget(protocol: Recorder) -> None:
    """Lets the transport be freed, of which stock asyncio warns when the loop was closed first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del protocol.transport
        gc.collect()


def test_socket_made_for_extra_info_is_not_closed_twice(loop: Loop) -> None:
    protocol = Recorder()
    with loop.run_until_complete(accept(protocol)):
        assert protocol.transport.get_extra_info("socket").fileno() >= 0
        close(loop)
        with strangers():
            forget(protocol)


def test_socket_kept_by_the_program_is_not_closed_twice(loop: Loop) -> None:
    protocol = Recorder()
    with loop.run_until_complete(accept(protocol)):
        kept = protocol.transport.get_extra_info("socket")
        close(loop)
        with strangers():
            forget(protocol)
            del kept
            gc.collect()


def test_socket_asked_for_after_the_loop_was_closed_is_nobody_elses(loop: Loop) -> None:
    protocol = Recorder()
    with loop.run_until_complete(accept(protocol)):
        close(loop)
        with strangers() as pairs:
            sock = protocol.transport.get_extra_info("socket")
            numbers = [end.fileno() for pair in pairs for end in pair]
            assert sock is None or sock.fileno() not in numbers
            del sock
            forget(protocol)


@pytest.mark.parametrize("way", ["accepted", "handed over"])
async def test_socket_closed_by_the_program_delivers_nothing_to_its_number(
    loop: Loop, contexts: Contexts, way: str
) -> None:
    protocol = Recorder()
    if way == "accepted":
        far = await accept(protocol)
    else:
        near, far = connected()
        await loop.create_connection(lambda: protocol, sock=near)
    await pause(2)
    protocol.transport.get_extra_info("socket")._sock.close()
    with far, strangers() as pairs:
        for one, other in pairs:
            one.setblocking(False)
            other.setblocking(False)
            one.send(b"strange")
        protocol.transport.write(b"secret")
        await pause(3)
        protocol.transport.abort()
        await protocol.until_lost()
        await pause(2)
        assert protocol.data == b"", "of a stranger"
        for one, other in pairs:
            assert other.recv(100) == b"strange"
            for end in (one, other):
                with pytest.raises(BlockingIOError):
                    end.recv(100)
    assert protocol.calls.count("connection_lost") == 1
    contexts.clear()  # stock asyncio may tell of the closed socket


async def test_error_of_closing_the_socket_does_not_end_the_loop(
    loop: Loop, contexts: Contexts
) -> None:
    class Failing(socket.socket):
        def close(self) -> None:
            super().close()
            raise OSError("on purpose")

    near, far = connected()
    protocol = Recorder()
    with far:
        sock = Failing(fileno=near.detach())
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
        transport.close()
        await protocol.until_lost()
        await pause(2)
        assert far.recv(1) == b""
    assert [str(context["exception"]) for context in contexts] == ["on purpose"]
    contexts.clear()


async def test_socket_object_of_a_closed_connection_is_closed(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        sock = transport.get_extra_info("socket")
        transport.close()
        await protocol.until_lost()
        await pause()
        assert sock.fileno() == -1


@pytest.mark.parametrize("way", ["accepted", "handed over"])
def test_interpreter_ends_with_an_open_connection(kind: str, way: str) -> None:
    assert children.run(EXITING, kind, way, timeout=20) == "connected\n"


@pytest.mark.ours
async def test_number_that_a_transport_had_can_be_watched(loop: Loop) -> None:
    """The program has closed its socket under the transport, which has a descriptor of its own."""
    near, far = connected()
    protocol = Recorder()
    await loop.create_connection(lambda: protocol, sock=near)
    number = near.fileno()
    near.close()
    with far, strangers() as pairs:
        ends = [end for pair in pairs for end in pair if end.fileno() == number]
        assert len(ends) == 1, "the lowest free number is used first"
        loop.add_reader(ends[0], int)
        assert loop.remove_reader(ends[0])
        protocol.transport.abort()
        await protocol.until_lost()
