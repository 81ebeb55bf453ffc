"""The calls of our reader: coroutines, cancelled and dropped ones, errors, derived classes.

That our streams behave as asyncio's is shown by test_streams.py, by CPython's test_streams (both
run on ours too) and by test_random_reads.py. Here is what is particular to ours.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

import pytest
from support.loops import STOCK_ONLY
from support.protocols import PATIENCE
from support.streams import reader_on
from support.ticks import pause

if STOCK_ONLY:
    pytest.skip("without oxlip", allow_module_level=True)

import oxlip

Loop = asyncio.AbstractEventLoop
StockReader = asyncio.StreamReader
READERS = pytest.mark.parametrize("made", [StockReader, oxlip.StreamReader], ids=["stock", "ours"])


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


async def test_reader_is_collected(loop: Loop) -> None:
    reader = reader_on(loop)
    reader.mine = reader
    gone = weakref.ref(reader)
    del reader
    gc.collect()
    assert gone() is None
