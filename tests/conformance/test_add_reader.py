"""add_reader, add_writer and their removal, on descriptors of the user's own."""

from __future__ import annotations

import asyncio
import contextvars
import os
import re
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support.protocols import Recorder, connection
from support.sockets import fill
from support.ticks import pause, turn

Loop = asyncio.AbstractEventLoop
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    first, second = socket.socketpair()
    first.setblocking(False)
    second.setblocking(False)
    with first, second:
        yield first, second


def test_reader(loop: Loop, pair: Pair) -> None:
    seen: list[bytes] = []
    loop.add_reader(pair[0], lambda: seen.append(pair[0].recv(100)))
    turn(loop)
    assert seen == []
    pair[1].send(b"one")
    turn(loop)
    assert seen == [b"one"]
    pair[1].send(b"two")
    turn(loop, ticks=3)
    assert seen == [b"one", b"two"]
    assert loop.remove_reader(pair[0]) is True
    pair[1].send(b"three")
    turn(loop, ticks=2)
    assert seen == [b"one", b"two"]


def test_writer(loop: Loop, pair: Pair) -> None:
    seen: list[int] = []
    fill(pair[0])
    loop.add_writer(pair[0], seen.append, 1)
    turn(loop, ticks=2)
    assert seen == []
    while True:
        try:
            pair[1].recv(1 << 20)
        except BlockingIOError:
            break
    turn(loop)
    assert seen == [1]
    assert loop.remove_writer(pair[0]) is True
    turn(loop)
    assert seen == [1]


def test_is_called_as_long_as_it_is_ready(loop: Loop, pair: Pair) -> None:
    seen: list[int] = []
    pair[1].send(b"x")
    loop.add_reader(pair[0], seen.append, 1)
    turn(loop, ticks=5)
    loop.remove_reader(pair[0])
    assert seen == [1] * 5


def test_return_values(loop: Loop, pair: Pair) -> None:
    assert loop.remove_reader(pair[0]) is False
    assert loop.remove_writer(pair[0]) is False
    assert loop.add_reader(pair[0], print) is None  # type: ignore[func-returns-value]
    assert loop.add_writer(pair[0], print) is None  # type: ignore[func-returns-value]
    assert loop.remove_reader(pair[0]) is True
    assert loop.remove_reader(pair[0]) is False
    assert loop.remove_writer(pair[0]) is True
    assert loop.remove_writer(pair[0]) is False


def test_numbers_and_objects_are_the_same_descriptor(loop: Loop, pair: Pair) -> None:
    loop.add_reader(pair[0].fileno(), print)
    assert loop.remove_reader(pair[0]) is True
    loop.add_writer(pair[0], print)
    assert loop.remove_writer(pair[0].fileno()) is True


@pytest.mark.skipif(sys.platform == "win32", reason="select on Windows takes sockets only")
def test_pipe(loop: Loop) -> None:
    read, write = os.pipe()
    seen: list[bytes] = []
    try:
        loop.add_reader(read, lambda: seen.append(os.read(read, 10)))
        os.write(write, b"piped")
        turn(loop)
        assert seen == [b"piped"]
        loop.remove_reader(read)
    finally:
        os.close(read)
        os.close(write)


def test_second_callback_replaces_the_first(loop: Loop, pair: Pair) -> None:
    seen: list[str] = []
    pair[1].send(b"x")
    loop.add_reader(pair[0], seen.append, "first")
    loop.add_reader(pair[0], seen.append, "second")
    turn(loop)
    loop.remove_reader(pair[0])
    assert seen == ["second"]
    loop.add_writer(pair[0], seen.append, "first")
    loop.add_writer(pair[0], seen.append, "second")
    turn(loop)
    loop.remove_writer(pair[0])
    assert seen == ["second", "second"]


def test_replaced_in_the_callback_itself(loop: Loop, pair: Pair) -> None:
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        loop.add_reader(pair[0], seen.append, "second")

    pair[1].send(b"x")
    loop.add_reader(pair[0], first)
    turn(loop, ticks=3)
    loop.remove_reader(pair[0])
    assert seen == ["first", "second", "second"]


def test_removed_in_the_callback_itself(loop: Loop, pair: Pair) -> None:
    seen: list[bool] = []
    pair[1].send(b"x")
    loop.add_reader(pair[0], lambda: seen.append(loop.remove_reader(pair[0])))
    turn(loop, ticks=3)
    assert seen == [True]


def test_reader_and_writer_are_independent(loop: Loop, pair: Pair) -> None:
    seen: list[str] = []
    pair[1].send(b"x")
    loop.add_reader(pair[0], seen.append, "read")
    loop.add_writer(pair[0], seen.append, "write")
    loop.remove_reader(pair[0])
    turn(loop)
    assert seen == ["write"]
    loop.add_reader(pair[0], seen.append, "read")
    loop.remove_writer(pair[0])
    turn(loop)
    assert seen == ["write", "read"]
    loop.remove_reader(pair[0])


def test_both_directions_of_two_descriptors(loop: Loop, pair: Pair) -> None:
    seen: set[str] = set()
    pair[0].send(b"x")
    pair[1].send(b"x")
    loop.add_reader(pair[0], seen.add, "read first")
    loop.add_reader(pair[1], seen.add, "read second")
    loop.add_writer(pair[0], seen.add, "write first")
    loop.add_writer(pair[1], seen.add, "write second")
    turn(loop)
    for sock in pair:
        loop.remove_reader(sock)
        loop.remove_writer(sock)
    assert seen == {"read first", "read second", "write first", "write second"}


def test_end_of_stream_is_readable(loop: Loop, pair: Pair) -> None:
    seen: list[bytes] = []
    loop.add_reader(pair[0], lambda: (seen.append(pair[0].recv(10)), loop.remove_reader(pair[0])))
    pair[1].close()
    turn(loop, ticks=2)
    assert seen == [b""]


def test_reset_is_writable(loop: Loop, pair: Pair) -> None:
    seen: list[int] = []
    fill(pair[0])
    loop.add_writer(pair[0], lambda: (seen.append(1), loop.remove_writer(pair[0])))
    pair[1].close()
    turn(loop, ticks=2)
    assert seen == [1]


def test_closed_descriptor_whose_number_is_used_again(loop: Loop) -> None:
    # The user should have removed it first; whoever gets the number must be served all the same.
    seen: list[str] = []
    first, second = socket.socketpair()
    loop.add_reader(first, seen.append, "old")
    turn(loop)
    number = first.fileno()
    first.close()
    second.close()
    first, second = socket.socketpair()
    with first, second:
        assert first.fileno() == number, "the kernel gives the lowest free number"
        loop.add_reader(first, seen.append, "new")
        second.send(b"x")
        turn(loop)
        assert loop.remove_reader(first) is True
    assert seen == ["new"]


def test_remove_after_close(loop: Loop) -> None:
    first, second = socket.socketpair()
    number = first.fileno()
    loop.add_reader(first, print)
    turn(loop)
    first.close()
    second.close()
    assert loop.remove_reader(number) is True
    turn(loop)


def test_many_descriptors(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(200)]
    seen: list[int] = []
    for number, (first, _) in enumerate(pairs):
        loop.add_reader(first, seen.append, number)
    for number, (_, second) in enumerate(pairs):
        if number % 3 == 0:
            second.send(b"x")
    turn(loop)
    assert sorted(seen) == list(range(0, 200, 3))
    for first, second in pairs:
        loop.remove_reader(first)
        first.close()
        second.close()


def test_callbacks_run_in_the_context_of_the_caller(loop: Loop, pair: Pair) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    def register() -> None:
        variable.set(5)
        loop.add_reader(pair[0], lambda: seen.append(variable.get()))

    contextvars.copy_context().run(register)
    pair[1].send(b"x")
    turn(loop)
    loop.remove_reader(pair[0])
    assert seen == [5]


def test_error_in_a_callback(loop: Loop, pair: Pair, contexts: list[dict[str, Any]]) -> None:
    def fail() -> None:
        pair[0].recv(10)
        raise ValueError("on purpose")

    loop.add_reader(pair[0], fail)
    pair[1].send(b"x")
    turn(loop)
    assert [type(context["exception"]) for context in contexts] == [ValueError]
    contexts.clear()
    assert loop.remove_reader(pair[0]) is True, "it stays registered"


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_debug_mode_does_not_look_at_the_callback(loop: Loop, pair: Pair, side: str) -> None:
    async def wrong() -> None: ...

    loop.set_debug(True)
    for callback in (wrong, None):
        getattr(loop, f"add_{side}")(pair[0], callback)
        assert getattr(loop, f"remove_{side}")(pair[0]) is True


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
@pytest.mark.parametrize("wrong", [-1, "text", None, 3.5])
def test_what_is_no_descriptor(loop: Loop, method: str, wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError, OSError)):
        getattr(loop, method)(wrong, print)


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_descriptor_that_is_not_open(loop: Loop, method: str) -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError):
        getattr(loop, method)(read, print)


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
async def test_descriptors_of_transports_are_protected(loop: Loop, method: str) -> None:
    async with connection(Recorder()) as (transport, _, _):
        arguments = (print,) if method.startswith("add") else ()
        for descriptor in (
            transport.get_extra_info("socket"),
            transport.get_extra_info("socket").fileno(),
        ):
            used = re.escape(f"File descriptor {descriptor!r} is used by transport {transport!r}")
            with pytest.raises(RuntimeError, match=used):
                getattr(loop, method)(descriptor, *arguments)


async def test_descriptor_of_a_closed_transport_is_free_again(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        number = transport.get_extra_info("socket").fileno()
        transport.close()
        await protocol.until_lost()
        await pause()
    first, second = socket.socketpair()
    with first, second:
        taken = first if first.fileno() == number else second
        loop.add_reader(taken, print)
        assert loop.remove_reader(taken) is True


def test_close_of_the_loop_forgets_them(loop: Loop, pair: Pair) -> None:
    loop.add_reader(pair[0], print)
    loop.add_writer(pair[0], print)
    loop.close()
    pair[0].send(b"the descriptor stays the user's")
    assert pair[1].recv(100) == b"the descriptor stays the user's"
