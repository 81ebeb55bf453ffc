"""Random operations on a file: `oxlip.open` must do what `open` does, step by step."""

from __future__ import annotations

import asyncio
import builtins
import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import loops

if not loops.STOCK_ONLY:
    import oxlip
    from oxlip import _file_raw

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(loops.STOCK_ONLY, reason="asyncio has no files"),
    # Of long values.
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning"),
]

random = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])

sizes = st.sampled_from([-1, 0, 1, 2, 3, 10, 100, 5000, 20_000])
places = st.sampled_from([0, 1, 5, 50, 4095, 4096, 9000, 30_000])
reads = [
    *(st.tuples(st.just(name), sizes) for name in ("read", "readline")),
    st.tuples(st.just("readlines"), st.sampled_from([-1, 1, 30, 9000])),
]
others = [
    st.tuples(st.sampled_from(["tell", "flush", "iterate"]), st.none()),
    st.tuples(st.just("truncate"), st.none() | places),
]
content_lines = st.lists(
    st.sampled_from(["", "a", "some words", "ä€😀", "x" * 300, "\r", "\0"]), max_size=40
)


@st.composite
def contents(draw: Any) -> str:
    """Lines with different ends, and sometimes many of them."""
    lines = draw(content_lines)
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\r"]))
    last = draw(st.sampled_from(["", "\r", "no end"]))
    return end.join(lines) * int(draw(st.sampled_from([1, 1, 20]))) + str(last)


binary_operations = st.lists(
    st.one_of(
        *reads,
        *others,
        *(
            st.tuples(st.just(name), st.sampled_from([0, 1, 7, 5000]))
            for name in ("readinto", "read1", "peek", "readinto1", "readall")
        ),
        st.tuples(st.just("write"), st.sampled_from([b"", b"w", b"new\n", b"y" * 6000])),
        st.tuples(
            st.just("writelines"), st.lists(st.sampled_from([b"1\n", b"2" * 9000]), min_size=1)
        ),
        st.tuples(st.just("seek"), st.tuples(places, st.just(0))),
        st.tuples(
            st.just("seek"),
            st.tuples(st.sampled_from([-9000, -2, 0, 3, 5000]), st.sampled_from([1, 2])),
        ),
    ),
    max_size=20,
)
text_operations = st.lists(
    st.one_of(
        *reads,
        *others,
        st.tuples(st.just("write"), st.sampled_from(["", "w", "new\n", "é\r\n", "y" * 9000])),
        st.tuples(st.just("writelines"), st.lists(st.sampled_from(["1\n", "2" * 9000]))),
        st.tuples(st.just("seek"), st.tuples(st.just(0), st.sampled_from([0, 1, 2]))),
        # To where an earlier tell() was.
        st.tuples(st.just("go back"), st.integers(0, 5)),
    ),
    max_size=20,
)


class Subject:
    """What is done to a file, and what came of it."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def arguments(self, name: str, argument: Any) -> tuple[str, tuple[Any, ...]]:
        if name == "go back":
            return "seek", (self.told[argument % len(self.told)] if self.told else 0,)
        if name == "seek":
            return name, argument
        if name in ("readinto", "readinto1"):
            return name, (bytearray(argument),)
        if name in ("tell", "flush", "readall"):
            return name, ()
        return name, (argument,)

    async def attempt(self, f: Any, name: str, argument: Any, wait: Callable[[Any], Any]) -> Any:
        if name == "iterate":
            # Not by `next()`, which would forbid `tell()`.
            name, argument = "readline", -1
        name, arguments = self.arguments(name, argument)
        try:
            result = await wait(getattr(f, name)(*arguments))
        except AttributeError:
            return "has no such method"
        except Exception as error:
            return type(error), str(error)
        if name == "tell":
            self.told.append(result)
        return result, [bytes(it) for it in arguments if isinstance(it, bytearray)]


async def at_once(result: Any) -> Any:
    return result


async def awaited(result: Any) -> Any:
    return await result


async def compare(program: list[tuple[str, Any]], content: bytes, mode: str, *more: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        ours.write_bytes(content)
        theirs.write_bytes(content)
        one, other = Subject(), Subject()
        f = await oxlip.open(ours, mode, *more)
        g = builtins.open(theirs, mode, *more)
        try:
            for number, (name, argument) in enumerate(program):
                reads = name.startswith("read") or name == "iterate"
                if reads and "b" not in mode and sys.version_info < (3, 13):
                    # Older texts read beside what was written to their buffer; ours flush it.
                    g.flush()
                    await f.flush()
                if name.startswith(("read", "peek")) and (
                    ("+" in mode and name in ("read1", "readinto1", "peek")) or "a" in mode
                ):
                    # What the buffer has is enough for the former, and what is to be appended is in
                    # the wrong place there. Ours has flushed what was written.
                    g.flush()
                    await f.flush()
                expected = await other.attempt(g, name, argument, at_once)
                got = await one.attempt(f, name, argument, awaited)
                assert got == expected, (number, name, argument)
                if name == "readlines":
                    # Of a text `tell()` may be forbidden then until a flush, as ours may have had.
                    g.flush()
                    await f.flush()
                if name == "flush":
                    assert ours.read_bytes() == theirs.read_bytes(), number
        finally:
            g.close()
            await f.close()
        assert ours.read_bytes() == theirs.read_bytes()


def run(loop: asyncio.AbstractEventLoop, cached: bool, comparison: Any) -> None:
    fetches = itertools.cycle([cached, False])
    fetch_now = _file_raw.RawFile.fetch_now

    def sometimes(self: Any, place: int, size: int) -> bool:
        return next(fetches) and fetch_now(self, place, size)

    with mock.patch.object(_file_raw.RawFile, "fetch_now", sometimes):
        loop.run_until_complete(comparison)


@random
@given(
    program=binary_operations,
    content=contents(),
    mode=st.sampled_from(["rb", "rb+", "wb", "wb+", "ab", "ab+"]),
    buffering=st.sampled_from([-1, 0, 16, 8192]),
    cached=st.booleans(),
)
def test_binary(
    loop: asyncio.AbstractEventLoop,
    program: list[tuple[str, Any]],
    content: str,
    mode: str,
    buffering: int,
    cached: bool,
) -> None:
    run(loop, cached, compare(program, content.encode(), mode, buffering))


@random
@given(
    program=text_operations,
    content=contents(),
    mode=st.sampled_from(["r", "r+", "w", "w+", "a", "a+"]),
    buffering=st.sampled_from([-1, 1, 16]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-7", "ascii"]),
    errors=st.sampled_from(["strict", "replace", "ignore", "surrogateescape"]),
    newline=st.sampled_from([None, "", "\n", "\r", "\r\n"]),
    cached=st.booleans(),
)
def test_text(
    loop: asyncio.AbstractEventLoop,
    program: list[tuple[str, Any]],
    content: str,
    mode: str,
    buffering: int,
    encoding: str,
    errors: str,
    newline: str | None,
    cached: bool,
) -> None:
    encoded = content.encode("utf-16" if encoding == "utf-16" else "utf-8")
    run(loop, cached, compare(program, encoded, mode, buffering, encoding, errors, newline))
