"""What is particular to our streams: attributes, derived classes, the way past the protocol.

That they do what asyncio's do is shown by test_streams.py and by CPython's test_streams, which both
run on them too, and by a comparison of the two readers here.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import socket
import sys
import weakref
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.loops import STOCK_ONLY
from support.protocols import PATIENCE
from support.ticks import pause

if STOCK_ONLY:
    pytest.skip("without oxlip", allow_module_level=True)

import oxlip

Loop = asyncio.AbstractEventLoop
StockReader = asyncio.StreamReader


def reader_on(loop: Loop, limit: int = 2**16) -> Any:
    return oxlip.StreamReader(limit=limit, loop=loop)


async def connected(
    loop: Loop, protocol: asyncio.Protocol
) -> tuple[asyncio.Transport, socket.socket]:
    """A transport with this protocol, and the socket of its peer."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    return transport, theirs


# The calls.


async def test_calls_are_coroutines(loop: Loop) -> None:
    """To asyncio, to `inspect`, to mocks and to debuggers."""
    reader = reader_on(loop)
    assert inspect.iscoroutinefunction(reader.read)
    assert inspect.iscoroutinefunction(oxlip.StreamWriter.drain)
    assert isinstance(mock.MagicMock(spec=oxlip.StreamReader).readline, mock.AsyncMock)
    assert isinstance(mock.Mock(spec=asyncio.StreamReader), asyncio.StreamReader)
    task = asyncio.ensure_future(reader.readexactly(5))
    await pause()
    assert "StreamReader.readexactly()" in repr(task)
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["readexactly"]
    reader.feed_data(b"12345")
    assert await task == b"12345"


async def test_a_waiting_call_that_is_dropped(loop: Loop) -> None:
    reader = reader_on(loop)
    for call in (reader.read(1), reader.readexactly(1), reader.readuntil(), reader.readline()):
        call.send(None)
        call.close()
        assert reader._waiter is None
    reader.feed_data(b"x")
    assert await reader.read(1) == b"x"


@pytest.mark.parametrize(
    "call",
    [
        lambda reader: reader.read(10),
        lambda reader: reader.readexactly(10),
        lambda reader: reader.readline(),
        lambda reader: reader.readuntil(b"--"),
        lambda reader: reader.read(-1),
    ],
)
async def test_cancelled_while_it_waits(
    loop: Loop, call: Callable[[Any], Coroutine[Any, Any, bytes]]
) -> None:
    reader = reader_on(loop)
    task = loop.create_task(call(reader))
    await pause()
    with pytest.raises(RuntimeError, match="already waiting for incoming data"):
        await reader.read(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reader._waiter is None
    reader.feed_data(b"line--\n")
    assert await reader.readline() == b"line--\n"


async def test_an_error_reaches_who_waits_and_who_comes_later(loop: Loop) -> None:
    reader = reader_on(loop)
    task = loop.create_task(reader.readline())
    await pause()
    reader.set_exception(ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError, match="gone"):
        await task
    for call in (reader.read(1), reader.readexactly(1), reader.readline(), reader.readuntil()):
        with pytest.raises(ConnectionResetError, match="gone"):
            await call


# The attributes.


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


async def test_a_buffer_that_somebody_looks_at(loop: Loop) -> None:
    reader = reader_on(loop)
    reader.feed_data(b"abc")
    with memoryview(reader._buffer):
        with pytest.raises(BufferError):
            reader.feed_data(b"d")
        with pytest.raises(BufferError):
            await reader.read(1)
    assert await reader.read(10) == b"abc"


# Classes.


async def test_derived_classes_get_asyncios_methods(loop: Loop) -> None:
    class Noisy(oxlip.StreamReader):
        waits = 0

        async def _wait_for_data(self, func_name: str) -> None:
            self.waits += 1
            await super()._wait_for_data(func_name)  # type: ignore[misc]

    reader: Any = Noisy(loop=loop)
    task = loop.create_task(reader.readexactly(3))
    await pause()
    reader.feed_data(b"abc")
    assert await task == b"abc"
    assert reader.waits == 1


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


async def test_a_buffer_of_another_kind(loop: Loop) -> None:
    reader = reader_on(loop)
    reader._buffer = b"abc"
    with pytest.raises(AttributeError):  # asyncio's: bytes cannot be extended
        reader.feed_data(b"d")


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


async def test_errors_have_their_context(loop: Loop) -> None:
    reader = reader_on(loop, limit=4)
    reader.feed_data(b"a" * 10 + b"\nbc")
    with pytest.raises(ValueError, match="longer than limit") as caught:
        await reader.readline()
    assert isinstance(caught.value.__context__, asyncio.LimitOverrunError)
    reader.feed_eof()
    with pytest.raises(asyncio.IncompleteReadError) as incomplete:
        try:
            raise KeyError
        except KeyError:
            await reader.readexactly(3)
    assert incomplete.value.partial == b"bc"
    assert isinstance(incomplete.value.__context__, KeyError)


async def test_arguments_are_asyncios(loop: Loop) -> None:
    for name in ("read", "readexactly", "readuntil", "readline", "feed_data"):
        ours, stock = getattr(oxlip.StreamReader, name), getattr(StockReader, name)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(stock).parameters)
    reader = reader_on(loop)
    reader.feed_data(b"one;two")
    for call in (reader.read(None), reader.readuntil(None), reader.readexactly("1")):
        with pytest.raises(TypeError):
            await call
    assert bytes(reader._buffer) == b"one;two"


async def test_writer_of_a_derived_class(loop: Loop) -> None:
    transport, peer = await connected(loop, asyncio.Protocol())

    class Derived(oxlip.StreamWriter):
        @property
        def _transport(self) -> Any:  # type: ignore[override]
            return transport

        @_transport.setter
        def _transport(self, value: Any) -> None: ...

    class Protocol:
        """Delegates what asyncio asks of it."""

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    inner = asyncio.StreamReaderProtocol(None, loop=loop)  # type: ignore[arg-type]
    derived = Derived(transport, Protocol(), None, loop)  # type: ignore[arg-type]
    plain = oxlip.StreamWriter(transport, Protocol(), None, loop)  # type: ignore[arg-type]
    for writer, data in ((derived, b"x"), (plain, b"y")):
        writer.write(data)
        await writer.drain()
    await pause()
    assert peer.recv(1) + peer.recv(1) == b"xy"
    transport.close()
    await pause()
    peer.close()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the writer's end closes the connection")
async def test_a_server_that_keeps_only_the_reader(loop: Loop) -> None:
    """The protocol keeps the writer."""
    tasks: list[asyncio.Task[bytes]] = []

    readers = []

    def connected(reader: Any, writer: Any) -> None:
        readers.append(reader)
        tasks.append(asyncio.ensure_future(reader.readexactly(5)))

    server = await oxlip.start_server(connected, "127.0.0.1", 0)
    _, writer = await oxlip.open_connection(*server.sockets[0].getsockname())  # type: ignore
    try:
        writer.write(b"hello")
        await pause(3)
        gc.collect()
        assert await asyncio.wait_for(tasks[0], PATIENCE) == b"hello"
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), *tasks, return_exceptions=True)
        for reader in readers:
            reader._transport.close()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_servers_callback_that_raises(
    loop: Loop, contexts: list[dict[str, Any]], at_once: bool
) -> None:
    def plain(reader: Any, writer: Any) -> None:
        raise ZeroDivisionError

    async def coroutine(reader: Any, writer: Any) -> None:
        raise ZeroDivisionError

    server = await oxlip.start_server(plain if at_once else coroutine, "127.0.0.1", 0)
    reader, writer = await oxlip.open_connection(*server.sockets[0].getsockname())  # type: ignore
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b"", "the connection is closed"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    (context,) = contexts
    assert context["message"] == "Unhandled exception in client_connected_cb"
    assert isinstance(context["exception"], ZeroDivisionError)
    contexts.clear()


async def test_reader_is_collected(loop: Loop) -> None:
    reader = reader_on(loop)
    reader.mine = reader
    gone = weakref.ref(reader)
    del reader
    gc.collect()
    assert gone() is None


# From the transport.


@pytest.mark.parametrize("reader_class", [oxlip.StreamReader, StockReader])
async def test_past_the_protocol(loop: Loop, reader_class: type[Any]) -> None:
    reader = reader_class(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, peer = await connected(loop, protocol)
    peer.sendall(b"abc")
    assert await asyncio.wait_for(reader.readexactly(3), PATIENCE) == b"abc"
    # A reader that nobody has any more: what comes for it is dropped.
    del reader
    gc.collect()
    peer.sendall(b"abc")
    await pause(3)
    transport.close()
    await asyncio.wait_for(protocol._get_close_waiter(None), PATIENCE)  # type: ignore[attr-defined]
    peer.close()


@pytest.mark.parametrize(
    "where", ["derived", "instance", "patched", "property", "connection_made", "reader"]
)
async def test_a_protocol_with_a_will_of_its_own(
    loop: Loop, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked, however its `data_received` or its reader came to be another."""
    seen = bytearray()
    reader = reader_on(loop)

    class Derived(asyncio.StreamReaderProtocol):
        def data_received(self, data: bytes) -> None:
            seen.extend(data)
            reader.feed_data(data)

    class Other(asyncio.StreamReaderProtocol):
        @property
        def _stream_reader(self) -> Any:
            seen.extend(b"abc")
            return reader

    class Late(asyncio.StreamReaderProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.data_received = Derived(reader, loop=loop).data_received  # type: ignore

    feed = reader.feed_data

    def feed_noting(data: bytes) -> None:
        seen.extend(data)
        feed(data)

    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    if where == "connection_made":
        protocol = Late(reader, loop=loop)
    elif where == "reader":
        reader.feed_data = feed_noting
    elif where == "derived":
        protocol = Derived(reader, loop=loop)
    elif where == "property":
        protocol = Other(reader, loop=loop)
    elif where == "instance":
        protocol.data_received = Derived(reader, loop=loop).data_received  # type: ignore
    else:
        monkeypatch.setattr(asyncio.StreamReaderProtocol, "data_received", Derived.data_received)
    transport, peer = await connected(loop, protocol)
    seen.clear()
    peer.sendall(b"abc")
    assert await asyncio.wait_for(reader.readexactly(3), PATIENCE) == b"abc"
    assert seen == b"abc"
    peer.close()
    await asyncio.wait_for(reader.read(), PATIENCE)
    transport.close()
    await pause()


async def test_drain_while_the_protocol_is_paused(loop: Loop) -> None:
    reader = reader_on(loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, peer = await connected(loop, protocol)
    writer = oxlip.StreamWriter(transport, protocol, reader, loop)
    await writer.drain()
    protocol.pause_writing()
    task = loop.create_task(writer.drain())
    await pause()
    assert not task.done()
    protocol.resume_writing()
    await task
    # What is wrong with the reader is told to the writer.
    reader.set_exception(ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError, match="gone"):
        await writer.drain()
    transport.close()
    await pause()
    peer.close()


async def test_drain_of_a_lost_connection(loop: Loop) -> None:
    reader = reader_on(loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, peer = await connected(loop, protocol)
    writer = oxlip.StreamWriter(transport, protocol, reader, loop)
    transport.close()
    with pytest.raises(ConnectionResetError, match="Connection lost"):
        await writer.drain()
    peer.close()


# The two readers, side by side.

ACTS = st.one_of(
    st.tuples(st.just("feed_data"), st.binary(max_size=12).map(lambda it: it.replace(b"a", b"\n"))),
    st.tuples(st.just("feed_data"), st.sampled_from([b"--", b"-", b"x" * 30, b"\n"])),
    st.tuples(st.just("feed_eof")),
    st.tuples(st.just("set_exception")),
    st.tuples(st.just("read"), st.integers(-1, 20)),
    st.tuples(st.just("readexactly"), st.integers(-1, 20)),
    st.tuples(st.just("readline")),
    st.tuples(st.just("readuntil"), st.sampled_from([b"--", b"\n", b"", b"-x-"])),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("pause")),
    st.tuples(st.just("look")),
)


class Noting(asyncio.Transport):
    """A transport that only notes what it is asked."""

    def __init__(self, can_pause: bool) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._can_pause = can_pause

    def pause_reading(self) -> None:
        self.asked.append("pause")
        if not self._can_pause:
            raise NotImplementedError

    def resume_reading(self) -> None:
        self.asked.append("resume")


async def behaviour(reader: Any, acts: list[tuple[Any, ...]], can_pause: bool) -> list[Any]:
    """What a reader does with these acts: results, errors, its buffer where that is looked at."""
    seen: list[Any] = []
    transport = Noting(can_pause)
    reader.set_transport(transport)
    tasks: list[asyncio.Task[bytes]] = []
    for name, *arguments in acts:
        if name == "pause":
            await pause()
        elif name == "look":
            seen.append(bytes(reader._buffer))
        elif name == "cancel":
            if tasks:
                tasks[-1].cancel()
        elif name == "set_exception":
            reader.set_exception(ConnectionError("gone"))
        elif name.startswith("read"):
            tasks.append(asyncio.ensure_future(getattr(reader, name)(*arguments)))
        else:
            try:
                getattr(reader, name)(*arguments)
            except AssertionError as error:
                seen.append(repr(error))
        seen.append((reader._waiter is None, reader._paused, list(transport.asked)))
    await pause(3)
    for task in tasks:
        if not task.done():
            task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        partial = getattr(result, "partial", None)
        context = repr(getattr(result, "__context__", None))
        seen.append((repr(result), partial, getattr(result, "consumed", None), context))
    seen.append((bytes(reader._buffer), reader._paused, transport.asked))
    return seen


@settings(max_examples=300)
@given(acts=st.lists(ACTS, max_size=25), limit=st.integers(1, 20), can_pause=st.booleans())
def test_both_readers_do_the_same(acts: list[tuple[Any, ...]], limit: int, can_pause: bool) -> None:
    async def compare() -> None:
        loop = asyncio.get_running_loop()
        stock = await behaviour(StockReader(limit=limit, loop=loop), acts, can_pause)
        ours = await behaviour(oxlip.StreamReader(limit=limit, loop=loop), acts, can_pause)
        assert ours == stock

    asyncio.run(compare())


# Errors and calls that get in each other's way, as in asyncio.

READERS = pytest.mark.parametrize("made", [StockReader, oxlip.StreamReader], ids=["stock", "ours"])


@READERS
async def test_errors_say_what_was_being_handled(loop: Loop, made: type[Any]) -> None:
    async def fails(method: str, *args: Any) -> BaseException:
        reader = made(limit=4, loop=loop)
        task = asyncio.ensure_future(getattr(reader, method)(*args))
        await pause()
        reader.feed_data(b"too long" if method != "readexactly" else b"short")
        reader.feed_eof()
        await asyncio.wait([task])
        error = task.exception()
        assert error is not None
        reader = made(limit=4, loop=loop)
        reader.feed_data(b"too long" if method != "readexactly" else b"short")
        reader.feed_eof()
        try:
            raise KeyError("handled")
        except KeyError as handled:
            with pytest.raises(type(error)) as caught:
                await getattr(reader, method)(*args)
            last: Any = caught.value
            if method == "readline":
                assert type(last.__context__) is asyncio.LimitOverrunError
                last = last.__context__
            assert last.__context__ is handled
        assert str(caught.value) == str(error)
        return error

    incomplete: Any = await fails("readexactly", 10)
    assert (incomplete.partial, incomplete.expected) == (b"short", 10)
    overrun: Any = await fails("readuntil", b"!")
    assert (type(overrun), overrun.consumed) == (asyncio.LimitOverrunError, 8)
    assert type(await fails("readline")) is ValueError


@READERS
async def test_a_call_that_waits_while_another_one_wakes_up(loop: Loop, made: type[Any]) -> None:
    reader = made(loop=loop)
    reader.feed_data(b"1ab")
    first = asyncio.ensure_future(reader.readuntil(b"abc"))
    await pause()
    reader.feed_data(b"")
    reader.feed_data(b"2ab")
    second = reader.readline()  # It searches all there is, and then waits for itself.
    second.send(None)
    await pause()
    reader.feed_data(b"c\n")
    assert await asyncio.wait_for(first, PATIENCE) == b"1ab2abc"
    second.close()
    assert await reader.readline() == b"\n"
