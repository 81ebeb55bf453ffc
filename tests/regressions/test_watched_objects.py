"""What is watched by its object, not by its number, is that object's descriptor.

Only the number was known. An object that nobody else held was forgotten while it was watched, and a
socket so closed; one that was closed first could not be taken off, and its callbacks stayed.
"""

from __future__ import annotations

import asyncio
import gc
import io
import os
import socket
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from support.ticks import turn

Loop = asyncio.AbstractEventLoop
Pair = tuple[socket.socket, socket.socket]

# The highest number that there can be: nobody has it.
HIGHEST = 2**31 - 1


@pytest.fixture
def pair() -> Iterator[Pair]:
    first, second = socket.socketpair()
    with first, second:
        yield first, second


class Watchable:
    """Says what it is told to say when it is asked for its number."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def fileno(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def watch_and_forget(loop: Loop, sock: socket.socket, *sides: str) -> weakref.ref[Watchable]:
    watchable = Watchable(sock.fileno())
    for side in sides:
        getattr(loop, f"add_{side}")(watchable, int)
    return weakref.ref(watchable)


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_it_is_kept_as_long_as_it_is_watched(loop: Loop, pair: Pair, side: str) -> None:
    known = watch_and_forget(loop, pair[0], side)
    turn(loop, ticks=3)
    gc.collect()
    assert known() is not None
    assert getattr(loop, f"remove_{side}")(pair[0].fileno()) is True
    turn(loop, ticks=3)
    gc.collect()
    assert known() is None


def test_it_is_kept_for_either_side(loop: Loop, pair: Pair) -> None:
    known = watch_and_forget(loop, pair[0], "reader", "writer")
    assert loop.remove_reader(pair[0]) is True
    gc.collect()
    assert known() is not None
    assert loop.remove_writer(pair[0]) is True
    gc.collect()
    assert known() is None


def test_a_closed_loop_keeps_nothing(loop: Loop, pair: Pair) -> None:
    known = watch_and_forget(loop, pair[0], "reader")
    loop.close()
    gc.collect()
    assert known() is None


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_a_socket_that_was_closed_first_is_taken_off(loop: Loop, pair: Pair, side: str) -> None:
    first, second = pair
    seen: list[int] = []
    # The other end of a duplicate goes on: it would be reported.
    with first.dup():
        getattr(loop, f"add_{side}")(first, seen.append, 1)
        second.send(b"x")
        turn(loop, ticks=2)
        assert seen
        first.close()
        assert getattr(loop, f"remove_{side}")(first) is True
        seen.clear()
        turn(loop, ticks=3)
        assert not seen
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            getattr(loop, f"remove_{side}")(first)


@pytest.mark.ours  # asyncio takes off the new socket's reader
def test_a_closed_socket_has_no_number_that_is_used_again(loop: Loop, pair: Pair) -> None:
    old, number = pair[0], pair[0].fileno()
    seen: list[int] = []
    loop.add_reader(old, int)
    old.close()
    new, other = socket.socketpair()
    with new, other:
        assert number in (new.fileno(), other.fileno())
        mine, its = (new, other) if new.fileno() == number else (other, new)
        loop.add_reader(mine, seen.append, 1)
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            loop.remove_reader(old)
        its.send(b"x")
        turn(loop, ticks=2)
        assert seen
        assert loop.remove_reader(mine) is True


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_what_fileno_raises(loop: Loop, method: str) -> None:
    """Every error was a ValueError, also an interrupt of the program."""
    arguments = (int,) if method.startswith("add") else ()
    for error in (KeyError("own"), KeyboardInterrupt(), OSError(5, "own")):
        with pytest.raises(type(error)):
            getattr(loop, method)(Watchable(error), *arguments)
    for wrong in (AttributeError("x"), TypeError("x"), io.UnsupportedOperation("x"), "x", None):
        with pytest.raises(ValueError, match="Invalid file object"):
            getattr(loop, method)(Watchable(wrong), *arguments)


def test_a_number_that_int_understands(loop: Loop, pair: Pair) -> None:
    watchable = Watchable(str(pair[0].fileno()))
    loop.add_reader(watchable, int)
    assert loop.remove_reader(watchable) is True


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_the_highest_number(loop: Loop, method: str) -> None:
    """The process ended: there was no memory for a table of all numbers below."""
    with pytest.raises((OSError, ValueError)):  # ValueError: too high for select
        getattr(loop, method)(HIGHEST, os.getpid)
    with pytest.raises(OverflowError):
        getattr(loop, method)(HIGHEST + 1, os.getpid)
    assert loop.remove_reader(HIGHEST) is False
