"""Descriptors that are closed while both of their sides are watched, of which one is then changed.

epoll is asked for each change, and finds nothing there. asyncio raises that from `remove_reader`
and leaves who waits for the other side waiting for ever; ours fails that wait too. poll and select
know no change that fails: they report the closed number, and the waits end by themselves.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.sockets import PATIENCE, fill
from support.ticks import pause

Loop = asyncio.AbstractEventLoop


class Busy:
    """A socket that has nothing to read and no room to write."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.number = self.near.fileno()
        fill(self.near)

    def reading(self) -> asyncio.Task[bytes]:
        return asyncio.ensure_future(self.loop.sock_recv(self.near, 100))

    def writing(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(self.loop.sock_sendall(self.near, b"x"))

    def replace(self, file: int) -> None:
        """Puts another file behind its number."""
        os.dup2(file, self.number)


@pytest.fixture
def busy(loop: Loop) -> Iterator[Busy]:
    busy = Busy(loop)
    with busy.near, busy.far:
        yield busy


def notices(kind: str) -> bool:
    """Whether the multiplexer says that a number is closed when it is asked for another side."""
    return kind not in ("oxlip-poll", "oxlip-select")


async def fails(task: asyncio.Task[Any]) -> None:
    """With an error of the system, not by patience: that would be an OSError, too."""
    done, _ = await asyncio.wait([task], timeout=PATIENCE)
    assert done, "it waits for ever"
    assert isinstance(task.exception(), OSError)


@pytest.mark.parametrize("first", ["reader", "writer"])
async def test_removing_one_side_says_so(loop: Loop, kind: str, busy: Busy, first: str) -> None:
    loop.add_reader(busy.number, print)
    loop.add_writer(busy.number, print)
    remove = {"reader": loop.remove_reader, "writer": loop.remove_writer}
    busy.near.close()
    if notices(kind):
        with pytest.raises(OSError):
            remove[first](busy.number)
        assert not loop.remove_reader(busy.number)
        assert not loop.remove_writer(busy.number)
    else:
        assert remove.pop(first)(busy.number)
        assert [rest(busy.number) for rest in remove.values()] == [True]


async def test_removing_nothing_says_nothing(loop: Loop, busy: Busy) -> None:
    loop.add_reader(busy.number, print)
    busy.near.close()
    assert loop.remove_writer(busy.number) is False
    assert loop.remove_reader(busy.number) is True


async def test_unregistering_says_nothing(loop: Any, busy: Busy) -> None:
    """As Twisted does, when a descriptor was lost."""
    loop.add_reader(busy.number, print)
    loop.add_writer(busy.number, print)
    busy.near.close()
    loop._selector.unregister(busy.number)
    with pytest.raises(KeyError):
        loop._selector.unregister(busy.number)


async def test_adding_another_side_says_so(loop: Loop, kind: str, busy: Busy) -> None:
    loop.add_writer(busy.number, print)
    busy.near.close()
    if notices(kind):
        with pytest.raises(OSError):
            loop.add_reader(busy.number, print)
        assert not loop.remove_reader(busy.number)
        assert not loop.remove_writer(busy.number)
    else:
        loop.remove_writer(busy.number)


@pytest.mark.ours
@pytest.mark.parametrize("cancelled", ["reading", "writing"])
async def test_who_waits_when_the_other_is_cancelled(busy: Busy, cancelled: str) -> None:
    tasks = {"reading": busy.reading(), "writing": busy.writing()}
    await pause(3)
    busy.near.close()
    tasks[cancelled].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks.pop(cancelled)
    for task in tasks.values():
        await fails(task)


@pytest.mark.ours
async def test_who_waits_when_the_reader_is_removed(loop: Loop, kind: str, busy: Busy) -> None:
    loop.add_reader(busy.number, print)
    writing = busy.writing()
    await pause(3)
    busy.near.close()
    if notices(kind):
        with pytest.raises(OSError):
            loop.remove_reader(busy.number)
    else:
        assert loop.remove_reader(busy.number)
    await fails(writing)


@pytest.mark.ours
async def test_who_waits_when_the_number_is_a_regular_file(
    loop: Loop, kind: str, busy: Busy, tmp_path: Path
) -> None:
    """Which epoll does not watch."""
    loop.add_reader(busy.number, print)
    writing = busy.writing()
    await pause(3)
    with (tmp_path / "regular").open("wb") as file:
        busy.replace(file.fileno())
    if notices(kind):
        with pytest.raises(PermissionError):
            loop.remove_reader(busy.number)
    else:
        assert loop.remove_reader(busy.number)
    await fails(writing)


@pytest.mark.ours
async def test_who_waits_when_a_reader_is_added(loop: Loop, kind: str, busy: Busy) -> None:
    writing = busy.writing()
    await pause(3)
    busy.near.close()
    if notices(kind):
        with pytest.raises(OSError):
            loop.add_reader(busy.number, print)
    else:
        loop.add_reader(busy.number, int)
    await fails(writing)
    loop.remove_reader(busy.number)


@pytest.mark.ours
async def test_who_waits_when_the_other_side_was_ready(loop: Loop, busy: Busy) -> None:
    """It is closed between the report and the turn of whom it is for."""
    reading, writing = busy.reading(), busy.writing()
    await pause(3)
    # This is reported first, or the rest of the test shows nothing.
    other, bell = socket.socketpair()
    with other, bell:

        def close() -> None:
            loop.remove_reader(other)
            busy.near.close()

        loop.add_reader(other, close)
        bell.send(b"x")
        busy.far.send(b"x")
        await fails(reading)
        await fails(writing)


@pytest.mark.ours
async def test_who_waits_when_a_callback_has_cancelled_its_handle(
    loop: Loop, busy: Busy, contexts: list[dict[str, Any]]
) -> None:
    """Which the loop finds out when the descriptor is ready."""

    def fail() -> None:
        raise ValueError("on purpose")

    loop.add_reader(busy.number, fail)
    writing = busy.writing()
    busy.far.send(b"x")
    while not contexts:
        await pause()
    contexts.pop()["handle"].cancel()
    contexts.clear()
    other, bell = socket.socketpair()
    with other, bell:
        busy.near.close()
        await fails(writing)
    assert not loop.remove_reader(busy.number)


def begin(operation: Coroutine[Any, Any, Any]) -> None:
    """What it does before it waits, in the caller's step."""
    operation.send(None)
    with suppress(asyncio.CancelledError):
        operation.throw(asyncio.CancelledError())


async def test_number_that_a_listener_had_meanwhile(loop: Loop, busy: Busy) -> None:
    """All in the step of the task that has waited for it: its watch is still kept."""
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, start_serving=False)
    newer, far = socket.socketpair()
    with newer, far:
        loop.call_soon(busy.far.send, b"first")
        assert await loop.sock_recv(busy.near, 100) == b"first"
        busy.near.close()
        begin(server.start_serving())
        server.close()
        os.dup2(newer.fileno(), busy.number)
        with socket.socket(fileno=busy.number) as again:
            again.setblocking(False)
            loop.call_soon(far.send, b"second")
            assert await asyncio.wait_for(loop.sock_recv(again, 100), PATIENCE) == b"second"
    await server.wait_closed()


@pytest.mark.ours  # asyncio's selector does not ask again, and waits for the file that is gone
async def test_number_that_a_transport_had_meanwhile(loop: Loop, busy: Busy) -> None:
    reading = busy.reading()
    await pause(3)
    first, first_far = socket.socketpair()
    newer, far = socket.socketpair()
    with first, first_far, newer, far:
        busy.near.close()
        begin(loop.connect_accepted_socket(asyncio.Protocol, first))

        def wait_again() -> None:
            """Right after the transport's end, before the first wait is told of its own."""
            os.dup2(newer.fileno(), busy.number)
            with socket.socket(fileno=busy.number) as again:
                again.setblocking(False)
                begin(loop.sock_recv(again, 100))

        loop.call_soon(wait_again)  # what it raises fails the test
        await fails(reading)
