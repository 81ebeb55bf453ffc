"""Random operations on a transport and its peer: ours must do what asyncio's does, step by step.

After each operation the loop gets a few ticks; then the callbacks, the answers and errors, the
state of the transport and the bytes on the wire are written down. The record of a run on stock
asyncio is what is expected of ours.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import loops, observing
from support.protocols import BufferedRecorder, Calls, Recorder
from support.sockets import connected, fill, in_transit
from support.ticks import pause

pytestmark = pytest.mark.ours

Operation = tuple[str, Any]
TICKS = 4

sizes = st.sampled_from([0, 1, 100, 5000])
operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), sizes),
        # Not of empty pieces, which stay in the buffer of some versions of asyncio.
        st.tuples(st.just("writelines"), st.lists(sizes.filter(bool), max_size=4)),
        st.tuples(st.just("limits"), st.sampled_from([0, 50, 150, 6000, 65536])),
        st.tuples(
            st.sampled_from(
                [
                    "write_eof",
                    "close",
                    "abort",
                    "pause_reading",
                    "resume_reading",
                    "peer ends",
                    "peer reads",
                    "peer stops reading",
                    "other protocol",
                ]
            ),
            st.none(),
        ),
        st.tuples(st.just("peer sends"), sizes),
    ),
    max_size=14,
)


class Connection:
    """One connection under test, and the record of what became of it."""

    def __init__(self, buffered: bool, keep_open: bool) -> None:
        self.buffered = buffered
        self.keep_open = keep_open
        self.record: list[Any] = []
        self.sent = 0
        self.blocked = False
        self.received = bytearray()

    async def run(self, program: list[Operation]) -> list[Any]:
        near, self.far = connected()
        self.near = near
        self.far.setblocking(False)
        self.protocols: list[Calls] = []
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.connect_accepted_socket(self.new_protocol, near)
        with self.far:
            for name, argument in program:
                if "connection_lost" in self.calls():
                    break
                self.record.append((name, argument, self.attempt(name, argument)))
                self.until_arrived(self.far, self.near)
                await pause(TICKS)
                self.look()
            self.unblock()
            await self.quiet()
            self.look()
            if "connection_lost" not in self.calls():
                self.transport.abort()
                await self.quiet()
            self.look()
        return self.record

    def new_protocol(self) -> Calls:
        new: Calls = BufferedRecorder(300) if self.buffered else Recorder(keep_open=self.keep_open)
        self.buffered = not self.buffered
        self.protocols.append(new)
        return new

    def calls(self) -> list[str]:
        """Every callback so far; how data is cut into pieces does not matter."""
        found: list[str] = []
        for protocol in self.protocols:
            for call in protocol.calls:
                name = "data" if call in ("data_received", "buffer_updated") else call
                if found[-1:] != [name] or name != "data":
                    found.append(name)
        return found

    def look(self) -> None:
        """Writes down what can be seen now."""
        self.receive()
        transport = self.transport
        data = b"".join(bytes(getattr(protocol, "data", b"")) for protocol in self.protocols)
        size = transport.get_write_buffer_size() if self.blocked else 0
        state = transport.is_closing(), transport.is_reading(), transport.get_write_buffer_limits()
        received = bytes(self.received.lstrip(b"\0"))
        self.record.append((self.calls(), data, received, size, *state))

    def attempt(self, name: str, argument: Any) -> Any:
        """Does one operation; the type of its error, if it raises."""
        try:
            return self.do(name, argument)
        except Exception as error:
            return type(error).__name__

    def do(self, name: str, argument: Any) -> Any:
        transport = self.transport
        if name == "write":
            return transport.write(self.data(argument))  # type: ignore[func-returns-value]
        if name == "writelines":
            # asyncio fails when closing, and tries to send although the socket is full.
            if not transport.is_closing() and not self.blocked:
                transport.writelines([self.data(size) for size in argument])
            # Some versions of asyncio look at the limits only after the next write().
            return transport.write(self.data(1))  # type: ignore[func-returns-value]
        if name == "limits":
            return transport.set_write_buffer_limits(high=argument)  # type: ignore[func-returns-value]
        if name == "other protocol":
            return transport.set_protocol(self.new_protocol())  # type: ignore[func-returns-value]
        if self.blocked and name in ("peer sends", "peer ends"):
            return None  # what it sends would make room for us in the kernel
        if name == "peer sends":
            return self.far.send(b"p" * argument) if argument else None
        if name == "peer ends":
            return self.far.shutdown(socket.SHUT_WR)  # type: ignore[func-returns-value]
        if name == "peer reads":
            return self.unblock()  # type: ignore[func-returns-value]
        if name == "peer stops reading":
            return self.block()  # type: ignore[func-returns-value]
        return getattr(transport, name)()

    def data(self, size: int) -> bytes:
        """That many bytes, not the same every time and never null."""
        self.sent += 1
        return bytes([1 + self.sent % 250]) * size

    def block(self) -> None:
        """Fills the connection with null bytes, so that what is written next stays behind."""
        if (
            not self.blocked
            and self.near.fileno() >= 0
            and self.transport.get_write_buffer_size() == 0
        ):
            try:
                fill(self.near)
            except OSError:
                return
            self.blocked = True

    def unblock(self) -> None:
        self.blocked = False

    def receive(self) -> None:
        """Takes what was sent, unless the peer does not read. Without a tick of the loop: what it
        has not sent yet does not count."""
        if not self.blocked:
            self.until_arrived(self.near, self.far)
        self.read_all()

    def until_arrived(self, sender: socket.socket, receiver: socket.socket) -> None:
        """On a busy machine bytes take their time, even over loopback."""
        overdue = time.monotonic() + 0.2  # they do not fit
        while in_transit(sender, receiver) and time.monotonic() < overdue:
            if receiver is self.far:
                self.read_all()

    def read_all(self) -> None:
        """Takes what has arrived, unless the peer does not read."""
        while not self.blocked:
            try:
                data = self.far.recv(1 << 20)
            except BlockingIOError:
                return
            except OSError as error:
                self.record.append(type(error).__name__)
                return
            if not data:
                return
            self.received += data

    async def quiet(self) -> None:
        """Waits until nothing moves any more."""
        still = 0
        while still < 5:
            before = len(self.received)
            await asyncio.sleep(0.0005)
            self.read_all()
            still = 0 if len(self.received) > before else still + 1


@settings(
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(program=operations, buffered=st.booleans(), keep_open=st.booleans())
@example(
    program=[
        ("limits", 150),
        ("peer stops reading", None),
        ("write", 100),
        ("writelines", [100, 1]),
        ("write_eof", None),
        ("write", 1),
        ("peer ends", None),
        ("peer reads", None),
    ],
    buffered=False,
    keep_open=True,
)
def test_as_asyncio_does(
    kind: str, program: list[Operation], buffered: bool, keep_open: bool
) -> None:
    def on(which: str) -> Any:
        run: Callable[[], Any] = lambda: Connection(buffered, keep_open).run(program)  # noqa: E731
        return observing.run(which, run)

    assert on(kind) == on(loops.STOCK)
