"""Random operations on both transports of pipes: ours must do what asyncio's do, step by step.

As test_random_operations.py, for two pipes: what is written into one and what is read from the
other. The test has the other ends. Nothing is in between that takes time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import loops, observing
from support.pipes import Reading, Writing, drain, pipe, reading, writing
from support.ticks import pause

pytestmark = [
    pytest.mark.ours,
    pytest.mark.skipif(
        sys.version_info < (3, 11),
        reason="asyncio's read pipes have no is_reading(), and do not start paused, before 3.11",
    ),
]

Operation = tuple[str, Any]
TICKS = 4

sizes = st.sampled_from([0, 1, 100, 5000, 100_000])
operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), sizes),
        st.tuples(st.just("writelines"), st.lists(sizes, max_size=4)),
        st.tuples(st.just("limits"), st.sampled_from([0, 50, 150, 6000, 65536])),
        st.tuples(
            st.sampled_from(
                [
                    "write_eof",
                    "close writing",
                    "reader takes all",
                    "reader leaves",
                    "fill",
                    "other writing protocol",
                    "pause_reading",
                    "resume_reading",
                    "close reading",
                    "writer leaves",
                    "other reading protocol",
                ]
            ),
            st.none(),
        ),
        st.tuples(st.just("feed"), sizes.filter(lambda size: size <= 5000)),
    ),
    max_size=14,
)


class Pipes:
    """The pipes under test, and the record of what became of them."""

    def __init__(self) -> None:
        self.record: list[Any] = []
        self.written = 0
        self.taken = bytearray()

    async def run(self, program: list[Operation]) -> list[Any]:
        with pipe() as (self.reader, near_writer), pipe() as (near_reader, self.writer):
            self.writing = [await writing(near_writer)]
            self.reading = [await reading(near_reader)]
            self.out: Any = self.writing[0].transport
            self.into: Any = self.reading[0].transport
            for name, argument in [*program, ("reader takes all", None)]:
                self.record.append((name, argument, self.attempt(name, argument)))
                await pause(TICKS)
                self.look()
            for transport, lost in (
                (self.out, self.lost(self.writing)),
                (self.into, self.lost(self.reading)),
            ):
                if not lost and not transport.is_closing():
                    transport.close()
            while not (self.lost(self.writing) and self.lost(self.reading)):
                if not self.reader.closed:
                    self.taken += drain(self.reader)
                await pause()
            self.look()
        return self.record

    def lost(self, protocols: list[Any]) -> bool:
        return any("connection_lost" in protocol.calls for protocol in protocols)

    def look(self) -> None:
        """Writes down what can be seen now."""
        calls = [
            (
                protocol.calls[:],
                type(protocol.error).__name__,
                bytes(getattr(protocol, "data", b"")),
            )
            for protocol in [*self.writing, *self.reading]
        ]
        closing = self.out.is_closing(), self.into.is_closing()
        over = self.lost(self.writing), self.lost(self.reading)
        # What asyncio says of a transport that is over is an accident.
        size = None if over[0] else self.out.get_write_buffer_size()
        reads = None if over[1] else self.into.is_reading()
        limits = self.out.get_write_buffer_limits()
        self.record.append((calls, closing, over, size, reads, limits, bytes(self.taken)))

    def attempt(self, name: str, argument: Any) -> Any:
        """Does one operation; the type of its error, if it raises."""
        try:
            return self.do(name, argument)
        except Exception as error:
            return type(error).__name__

    def do(self, name: str, argument: Any) -> Any:
        if name == "write":
            return self.out.write(self.data(argument))
        if name == "writelines":
            return self.out.writelines([self.data(size) for size in argument])
        if name == "limits":
            return self.out.set_write_buffer_limits(high=argument)
        if name == "write_eof":
            return self.out.write_eof()
        if name == "close writing":
            return self.out.close()
        if name == "other writing protocol":
            return self.change(self.out, self.writing, Writing())
        if name == "fill":
            self.fill()
        if name == "reader takes all" and not self.reader.closed:
            self.taken += drain(self.reader)
        if name == "reader leaves":
            self.reader.close()
        if name in ("pause_reading", "resume_reading"):
            return getattr(self.into, name)()
        if name == "close reading":
            return self.into.close()
        if name == "other reading protocol":
            return self.change(self.into, self.reading, Reading())
        if name == "feed" and not self.writer.closed:
            os.set_blocking(self.writer.fileno(), False)
            return self.writer.write(b"f" * argument)
        if name == "writer leaves":
            self.writer.close()
        return None

    def change(self, transport: Any, protocols: list[Any], new: Any) -> None:
        if self.lost(protocols):
            return
        transport.set_protocol(new)
        protocols.append(new)

    def data(self, size: int) -> bytes:
        """That many bytes, not the same every time."""
        self.written += 1
        return bytes([self.written % 250]) * size

    def fill(self) -> None:
        """Leaves no room in the pipe, so that what is written next stays behind."""
        if self.lost(self.writing) or self.out.get_write_buffer_size() or self.out.is_closing():
            return
        number = self.out.get_extra_info("pipe").fileno()
        try:
            while True:
                os.write(number, b"\0" * 4096)
        except OSError:
            pass


@settings(
    max_examples=80,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(program=operations)
@example(
    program=[
        ("fill", None),
        ("write", 100_000),
        ("close writing", None),
        ("write", 1),
        ("feed", 100),
        ("writer leaves", None),
        ("reader leaves", None),
    ]
)
def test_as_asyncio_does(kind: str, program: list[Operation]) -> None:
    def on(which: str) -> Any:
        run: Callable[[], Any] = lambda: Pipes().run(program)  # noqa: E731
        return observing.run(which, run)

    assert on(kind) == on(loops.STOCK)
