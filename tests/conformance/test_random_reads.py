"""Random calls of a reader: ours and asyncio's do the same, side by side."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.loops import STOCK_ONLY
from support.streams import Noting
from support.ticks import pause

if STOCK_ONLY:
    pytest.skip("without oxlip", allow_module_level=True)

import oxlip

StockReader = asyncio.StreamReader

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
