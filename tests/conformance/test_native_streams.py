"""What is particular to our streams: the awaitable, derived classes, the way past the protocol.

That they do what asyncio's do is shown by test_streams.py and by CPython's test_streams, which both
run on them too, and by a comparison of the two readers here.
"""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import socket
import weakref
from abc import ABC
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.loops import STOCK_ONLY
from support.protocols import PATIENCE
from support.streams import behind_asyncios_names
from support.ticks import pause

if STOCK_ONLY:
    pytest.skip("without oxlip", allow_module_level=True)

import oxlip

Loop = asyncio.AbstractEventLoop
StockReader = asyncio.StreamReader
StockWriter = asyncio.StreamWriter


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


# The awaitable.


async def test_a_call_is_a_coroutine_to_asyncio(loop: Loop) -> None:
    reader = reader_on(loop)
    reader.feed_data(b"0123456789")
    call = reader.read(4)
    assert isinstance(call, collections.abc.Coroutine)
    assert asyncio.iscoroutine(call)
    assert inspect.isawaitable(call)
    assert await call == b"0123"
    assert await asyncio.create_task(reader.readexactly(2)) == b"45"
    assert await asyncio.wait_for(reader.read(2), PATIENCE) == b"67"
    task = asyncio.ensure_future(reader.readexactly(5))
    await pause()
    assert "StreamReader.readexactly()" in repr(task)
    assert task.get_stack() == []
    reader.feed_data(b"!!!")
    assert await task == b"89!!!"


async def test_nothing_happens_before_it_is_awaited(loop: Loop) -> None:
    reader = reader_on(loop)
    first, second = reader.read(1), reader.read(1)
    reader.feed_data(b"ab")
    assert await second == b"a"
    assert await first == b"b"


async def test_a_call_runs_once(loop: Loop) -> None:
    reader = reader_on(loop)
    reader.feed_data(b"ab")
    call = reader.read(1)
    await call
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await call
    call.close()


async def test_a_call_that_is_never_awaited(loop: Loop) -> None:
    with pytest.warns(RuntimeWarning, match=r"'StreamReader.readline' was never awaited"):
        reader_on(loop).readline()
    call = reader_on(loop).readline()
    call.close()
    with pytest.raises(RuntimeError):
        await call


async def test_sent_and_thrown_into(loop: Loop) -> None:
    reader = reader_on(loop)
    call = reader.read(1)
    with pytest.raises(TypeError, match="just-started"):
        call.send(1)
    with pytest.raises(ZeroDivisionError):
        call.throw(ZeroDivisionError)
    call = reader.read(1)
    with pytest.raises(ValueError, match="mine"):
        call.throw(ValueError("mine"))
    call = reader.read(1)
    assert call.send(None) is reader._waiter
    assert call.cr_await is not None
    with pytest.raises(KeyError):
        call.throw(KeyError("mine"))
    assert reader._waiter is None
    call = reader.read(1)
    call.send(None)
    call.close()
    assert reader._waiter is None
    reader.feed_data(b"x")
    with pytest.raises(StopIteration) as stop:
        reader.read(1).send(None)
    assert stop.value.value == b"x"


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


async def test_mixed_with_an_abstract_class(loop: Loop) -> None:
    class Mixed(oxlip.StreamReader, ABC):
        pass

    reader = Mixed(loop=loop)
    reader.feed_data(b"x")
    assert await reader.read(1) == b"x"


async def test_objects_of_asyncios_classes_count(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = StockReader(loop=loop)
    behind_asyncios_names(monkeypatch)
    assert isinstance(before, asyncio.StreamReader)
    assert issubclass(StockReader, asyncio.StreamReader)
    assert not isinstance(object(), asyncio.StreamReader)
    assert isinstance(reader_on(loop), StockReader)
    assert not issubclass(StockWriter, asyncio.StreamReader)
    # A writer takes a reader of asyncio's.
    transport, peer = await connected(loop, asyncio.StreamReaderProtocol(before, loop=loop))
    writer = asyncio.StreamWriter(transport, transport.get_protocol(), before, loop)  # type: ignore
    assert type(writer) is oxlip.StreamWriter
    writer.write(b"x")
    await writer.drain()
    assert peer.recv(10) == b"x"
    writer.close()
    await writer.wait_closed()
    peer.close()


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


@pytest.mark.parametrize("where", ["derived", "instance", "patched", "property"])
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

    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    if where == "derived":
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
    """What a reader does with these acts: results, errors, its buffer after each."""
    seen: list[Any] = []
    transport = Noting(can_pause)
    reader.set_transport(transport)
    tasks: list[asyncio.Task[bytes]] = []
    for name, *arguments in acts:
        if name == "pause":
            await pause()
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
        seen.append((bytes(reader._buffer), reader._waiter is None, list(transport.asked)))
    await pause(3)
    for task in tasks:
        if not task.done():
            task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        partial = getattr(result, "partial", None)
        seen.append((repr(result), partial, getattr(result, "consumed", None)))
    seen.append((bytes(reader._buffer), reader._paused, transport.asked))
    return seen


@given(acts=st.lists(ACTS, max_size=25), limit=st.integers(1, 20), can_pause=st.booleans())
def test_both_readers_do_the_same(acts: list[tuple[Any, ...]], limit: int, can_pause: bool) -> None:
    async def compare() -> None:
        loop = asyncio.get_running_loop()
        stock = await behaviour(StockReader(limit=limit, loop=loop), acts, can_pause)
        ours = await behaviour(oxlip.StreamReader(limit=limit, loop=loop), acts, can_pause)
        assert ours == stock

    asyncio.run(compare())
