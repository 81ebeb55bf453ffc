"""The attributes of our reader that programs look at and set, above all its buffer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.loops import STOCK_ONLY
from support.streams import Noting, reader_on
from support.ticks import pause

if STOCK_ONLY:
    pytest.skip("without oxlip", allow_module_level=True)


Loop = asyncio.AbstractEventLoop


async def test_attributes_are_asyncios(loop: Loop) -> None:
    reader = reader_on(loop, limit=100)
    assert (reader._limit, reader._loop, reader._eof, reader._paused) == (100, loop, False, False)
    reader._buffer.extend(b"put there")
    assert await reader.read(3) == b"put"
    assert bytes(reader._buffer) == b" there"
    reader._buffer = bytearray(b"new")
    reader._eof = True
    assert await reader.read() == b"new"
    assert reader.at_eof()
    with pytest.raises(AssertionError, match="feed_data after feed_eof"):
        reader.feed_data(b"x")


async def test_attributes_whose_end_runs_code(loop: Loop) -> None:
    """What is replaced goes when nothing is held any more."""
    reader = reader_on(loop)

    class Ending:
        def __del__(self) -> None:
            reader.feed_data(b"x")

    for name in ("_transport", "_exception", "_waiter"):
        setattr(reader, name, Ending())
        setattr(reader, name, None)
    assert bytes(reader._buffer) == b"xxx"


async def test_what_comes_alone_is_given_as_it_came(loop: Loop) -> None:
    reader = reader_on(loop)
    line = bytes(bytearray(b"a line\n"))
    calls: list[Callable[[], Coroutine[Any, Any, bytes]]] = [
        reader.readline,
        lambda: reader.read(100),
        lambda: reader.readexactly(len(line)),
        lambda: reader.readuntil(b"ne\n"),
    ]
    for call in calls:
        reader.feed_data(line)
        assert await call() is line
        task = asyncio.ensure_future(call())
        await pause()
        reader.feed_data(line)
        assert await task is line
    assert reader._buffer == b""


async def test_pieces_that_are_not_asked_for_whole(loop: Loop) -> None:
    reader = reader_on(loop, limit=10)
    reader.feed_data(b"one")
    reader.feed_data(b"\ntwo\nthree")
    assert [await reader.readline() for _ in range(2)] == [b"one\n", b"two\n"]
    assert await reader.read(2) == b"th"
    assert await reader.read(100) == b"ree"
    for call, rest in (
        (reader.read(2), b"cd--"),
        (reader.readexactly(3), b"d--"),
        (reader.readuntil(b"-"), b"-"),
    ):
        reader.feed_data(b"abcd--")
        await call
        assert await reader.read(100) == rest
    reader.feed_data(b"longer than that\n")
    with pytest.raises(ValueError, match="longer than limit"):
        await reader.readline()
    reader.feed_data(b"last")
    reader.feed_eof()
    assert await reader.readline() == b"last"
    assert reader.at_eof()


async def test_a_piece_that_is_too_much(loop: Loop) -> None:
    reader = reader_on(loop, limit=10)
    transport = Noting(True)
    reader.set_transport(transport)
    reader.feed_data(b"x" * 20)
    assert transport.asked == []
    assert await reader.read(20) == b"x" * 20
    reader.feed_data(b"x" * 21)
    assert transport.asked == ["pause"]
    assert await reader.read(100) == b"x" * 21
    assert transport.asked == ["pause", "resume"]


@pytest.mark.parametrize("limit", [10.0, 2**70])
async def test_a_limit_that_is_no_size(loop: Loop, limit: Any) -> None:
    """It is a limit all the same."""
    reader = reader_on(loop, limit)
    reader.feed_data(b"a" * 100 + b"\n")
    if limit == 10.0:
        with pytest.raises(ValueError, match="longer than limit"):
            await reader.readline()
    else:
        assert await reader.readline() == b"a" * 100 + b"\n"


async def test_a_buffer_that_somebody_keeps(loop: Loop) -> None:
    reader = reader_on(loop)
    reader.feed_data(b"one")
    buffer = reader._buffer
    assert buffer == b"one"
    assert await reader.read(3) == b"one"
    reader.feed_data(b"two")
    assert buffer == b"two"
    reader._buffer = own = bytearray()
    reader.feed_data(b"three")
    assert (own, buffer) == (b"three", b"two")
    reader = reader_on(loop)
    reader._buffer = own = bytearray()
    reader.feed_data(b"four")
    assert own == b"four"
    reader = reader_on(loop)
    reader.feed_data(b"gone")
    reader._buffer = bytearray(b"here")
    assert await reader.read(100) == b"here"


async def test_a_buffer_that_somebody_looks_at(loop: Loop) -> None:
    reader = reader_on(loop)
    reader.feed_data(b"abc")
    with memoryview(reader._buffer):
        with pytest.raises(BufferError):
            reader.feed_data(b"d")
        with pytest.raises(BufferError):
            await reader.read(1)
    assert await reader.read(10) == b"abc"


async def test_a_buffer_of_another_kind(loop: Loop) -> None:
    reader = reader_on(loop)
    reader._buffer = b"abc"
    with pytest.raises(AttributeError):  # asyncio's: bytes cannot be extended
        reader.feed_data(b"d")
