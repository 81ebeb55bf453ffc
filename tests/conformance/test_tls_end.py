"""How TLS connections end: farewells in every order, peers that vanish, broken records."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
import threading
import time
from typing import Any

import pytest
from support import tls
from support.protocols import BufferedRecorder, Calls, Recorder
from support.sockets import PATIENCE, connected

BRIEF = 0.05
BIG = bytes(range(256)) * 12_000


async def until_ended(transport: asyncio.Transport) -> None:
    """Waits until the transport below has read the end of its stream, and stopped reading."""
    lower: Any = transport._ssl_protocol._transport  # type: ignore[attr-defined]
    while "polling" in repr(lower).partition("write")[0]:
        await asyncio.sleep(0)


async def test_close_says_farewell(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        transport.write(b"last words")
        transport.close()
        assert transport.is_closing()
        transport.close()
        assert await peer.to_end() == b"last words"
        await peer.part()
        await protocol.until_lost()
        assert protocol.error is None
        assert protocol.calls[-1] == "connection_lost"


async def test_the_peer_says_farewell(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        peer.send(b"last words")
        await peer.part()
        await protocol.until_lost()
        assert protocol.data == b"last words"
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
        assert protocol.error is None
        assert transport.is_closing()


async def test_an_answer_in_eof_received(loop: asyncio.AbstractEventLoop) -> None:
    class Polite(Recorder):
        def eof_received(self) -> bool | None:
            self.transport.write(b"thanks")
            return super().eof_received()

    async with tls.connection(Polite()) as (_, protocol, peer):
        peer.begin_to_part()
        assert await asyncio.to_thread(peer.sock.recv, 100) == b"thanks"
        await protocol.until_lost()
        assert protocol.error is None


async def test_what_is_left_leaves_after_the_peers_farewell(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        peer.begin_to_part()
        transport.write(BIG)  # before anything is read
        lower: Any = transport._ssl_protocol._transport  # type: ignore[attr-defined]
        await protocol.until_called("eof_received")
        assert lower.get_write_buffer_size() > 0
        assert await peer.exactly(len(BIG)) == BIG
        with pytest.raises(ssl.SSLZeroReturnError):  # the other's farewell
            await asyncio.to_thread(peer.sock.recv, 1)
        await protocol.until_lost()
        assert protocol.error is None


async def test_open_cannot_be_kept_after_the_farewell(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async with tls.connection(Recorder(keep_open=True)) as (_, protocol, peer):
        await peer.part()
        await protocol.until_lost()
    assert [record.getMessage() for record in caplog.records] == [
        "returning true from eof_received() has no effect when using ssl"
    ]


@pytest.mark.parametrize("buffered", [False, True])
async def test_the_peer_vanishes(loop: asyncio.AbstractEventLoop, buffered: bool) -> None:
    # Without a farewell this is the end of the stream all the same.
    protocol = BufferedRecorder(1000) if buffered else Recorder()
    async with tls.connection(protocol) as (_, _, peer):
        peer.send(b"last words")
        peer.vanish()
        await protocol.until_lost()
        assert protocol.data == b"last words"
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
        assert protocol.error is None


async def test_the_peer_vanishes_while_reading_is_paused(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        transport.pause_reading()
        peer.send(b"last words")
        peer.vanish()
        await until_ended(transport)
        assert "connection_lost" not in protocol.calls
        transport.resume_reading()
        await protocol.until_lost()
        assert protocol.data == b"last words"
        assert protocol.calls[-3:] == ["data_received", "eof_received", "connection_lost"]


@pytest.mark.ours
async def test_an_end_that_does_not_fit_the_buffer(loop: asyncio.AbstractEventLoop) -> None:
    # asyncio drops what does not fit into the protocol's buffer when the stream ends.
    async with tls.connection(BufferedRecorder(7)) as (transport, protocol, peer):
        transport.pause_reading()
        peer.send(b"more than seven bytes")
        peer.vanish()
        await until_ended(transport)
        transport.resume_reading()
        await protocol.until_lost()
        assert protocol.data == b"more than seven bytes"
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


@pytest.mark.ours
async def test_close_after_an_end_nobody_read(loop: asyncio.AbstractEventLoop) -> None:
    # asyncio's connection stays open for ever.
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        transport.pause_reading()
        peer.send(b"last words")
        peer.vanish()
        await until_ended(transport)
        transport.close()
        await protocol.until_lost()
        assert protocol.data == b""
        assert protocol.error is None


async def test_abort(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        transport.write(BIG)
        transport.abort()
        assert transport.is_closing()
        await protocol.until_lost()
        assert protocol.error is None
        transport.abort()
        transport.close()
        try:
            assert len(await peer.to_end()) < len(BIG)
        except (ssl.SSLError, ConnectionError):
            pass


async def test_closing_with_the_transport_below(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (transport, protocol, _):
        lower: Any = transport._ssl_protocol._transport  # type: ignore[attr-defined]
        assert not transport.is_closing()
        lower.abort()
        assert transport.is_closing()
        await protocol.until_lost()
        assert transport.is_closing()


async def test_drain_ends_with_the_transport_below(loop: asyncio.AbstractEventLoop) -> None:
    # cpython#118950: a task that only writes never learnt of the end.
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.server_context())
    _, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=tls.client_context(), server_hostname=tls.HOST
    )
    transport: Any = writer.transport
    transport._ssl_protocol._transport.abort()
    with pytest.raises(ConnectionResetError):
        for _ in range(10):
            writer.write(b"x")
            await writer.drain()
    server.close()
    await server.wait_closed()


async def test_reset(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (_, protocol, peer):
        peer.reset()
        await protocol.until_lost()
        assert isinstance(protocol.error, ConnectionResetError)


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        # A record whose contents are not authentic, one that is longer than may be, no record at
        # all, and an alert that is not encrypted.
        (b"\x17\x03\x03\x00\x20" + bytes(32), "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"),
        (b"\x17\x03\x03\xff\xff" + bytes(100), "PACKET_LENGTH_TOO_LONG"),
        (b"GET / HTTP/1.1\r\n\r\n", "WRONG_VERSION_NUMBER"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "BAD_RECORD_TYPE"),
    ],
)
async def test_broken_records(
    loop: asyncio.AbstractEventLoop, garbage: bytes, reason: str, contexts: list[dict[str, Any]]
) -> None:
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        peer.send(b"good")
        await protocol.until_received(4)
        peer.send_raw(garbage)
        await protocol.until_lost()
        assert isinstance(protocol.error, ssl.SSLError)
        # Since OpenSSL 3.6 the last error says only where it was found.
        assert protocol.error.reason in (reason, "RECORD_LAYER_FAILURE")
        assert protocol.data == b"good"
        assert "eof_received" not in protocol.calls
        assert transport.is_closing()
    assert contexts == []


@pytest.mark.ours
async def test_what_came_before_a_broken_record_is_delivered(
    loop: asyncio.AbstractEventLoop,
) -> None:
    # asyncio drops it if both arrive together.
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        transport.pause_reading()
        peer.send(b"good")
        peer.send_raw(b"\x17\x03\x03\x00\x20" + bytes(32))
        size: Any = transport.get_read_buffer_size  # type: ignore[attr-defined]
        while size() < 37 + 26:
            await asyncio.sleep(0)
        transport.resume_reading()
        await protocol.until_lost()
        assert protocol.data == b"good"
        assert isinstance(protocol.error, ssl.SSLError)


async def test_a_truncated_record(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (_, protocol, peer):
        peer.send_raw(b"\x17\x03\x03\x00\x20" + bytes(7))
        peer.vanish()
        await protocol.until_lost()
        assert protocol.data == b""
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


async def test_the_peer_does_not_say_farewell(loop: asyncio.AbstractEventLoop) -> None:
    options = {"ssl_shutdown_timeout": BRIEF}
    async with tls.connection(Recorder(), **options) as (transport, protocol, _):
        transport.close()
        await protocol.until_lost()
        assert isinstance(protocol.error, asyncio.TimeoutError)
        assert str(protocol.error) == "SSL shutdown timed out"


@pytest.mark.ours
async def test_the_peer_does_not_read_what_is_left(loop: asyncio.AbstractEventLoop) -> None:
    # asyncio stops the clock once the farewells are said, whatever is still to be sent.
    options = {"ssl_shutdown_timeout": BRIEF}
    async with tls.connection(Recorder(), **options) as (transport, protocol, peer):
        transport.write(BIG)
        peer.send(b"data after the close")
        transport.close()
        await protocol.until_lost()
        assert isinstance(protocol.error, asyncio.TimeoutError)


@pytest.mark.parametrize("closed", [False, True])
async def test_the_peer_ends_and_does_not_read(
    loop: asyncio.AbstractEventLoop, closed: bool
) -> None:
    options = {"ssl_shutdown_timeout": BRIEF}
    async with tls.connection(Recorder(), **options) as (transport, protocol, peer):
        while transport.get_write_buffer_size() < len(BIG):
            transport.write(BIG)
            await asyncio.sleep(0)
        if closed:
            transport.close()
        peer.vanish()
        await protocol.until_lost()
        assert isinstance(protocol.error, asyncio.TimeoutError)
        assert str(protocol.error) == "SSL shutdown timed out"


@pytest.mark.parametrize("paused", [False, True])
async def test_reading_stops_soon_after_close(
    loop: asyncio.AbstractEventLoop, paused: bool
) -> None:
    # uvloop#471, aiohttp#6762: a closed connection went on downloading for 30 s.
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        stop = threading.Event()

        def pump() -> None:
            try:
                while not stop.is_set():
                    peer.sock.send(bytes(16384))
            except (OSError, ValueError):
                pass

        thread = threading.Thread(target=pump)
        thread.start()
        try:
            await protocol.until_called("data_received")
            if paused:
                transport.pause_reading()
                await asyncio.sleep(BRIEF)
            before = time.monotonic()
            received = len(protocol.data)
            transport.close()
            await protocol.until_lost()
            assert time.monotonic() - before < 1
            assert len(protocol.data) - received < 1 << 20
        finally:
            stop.set()
            try:
                peer.shut_down(socket.SHUT_RDWR)
            except OSError:
                pass  # It was reset.
            thread.join(PATIENCE)


@pytest.mark.ours
async def test_everything_written_leaves_although_the_peer_goes_on_sending(
    loop: asyncio.AbstractEventLoop,
) -> None:
    # asyncio loses what is still in its buffers, and calls connection_lost with an error.
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        transport.write(BIG)
        peer.send(b"a request that comes too late")
        lower: Any = transport._ssl_protocol._transport  # type: ignore[attr-defined]
        assert lower.get_write_buffer_size() > 0
        sent = 0
        while b"late" not in protocol.data:
            peer.send(b"too late;")
            sent += 1
            await asyncio.sleep(0)
        # A driver may have received some that no protocol has been given yet.
        while protocol.data.count(b"too late;") < sent:
            await asyncio.sleep(0)
        transport.pause_reading()
        peer.send(b"and another")
        transport.close()
        assert await peer.exactly(len(BIG)) == BIG
        await protocol.until_lost()
        assert protocol.error is None


async def test_writes_after_the_close_are_dropped(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        transport.close()
        for _ in range(3):
            transport.write(b"too late")
        await asyncio.gather(peer.part(), protocol.until_lost())
        assert caplog.records == []
        with caplog.at_level(logging.WARNING, "asyncio"):
            transport.write(b"too late")
            assert caplog.records == []
            transport.write(b"too late")
            transport.writelines([b"too late"])
    assert [record.getMessage() for record in caplog.records] == ["SSL connection is closed"] * 2


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
async def test_a_protocol_that_fails(
    loop: asyncio.AbstractEventLoop, contexts: list[dict[str, Any]], method: str
) -> None:
    class Failing(Recorder):
        pass

    def fail(*_: object) -> None:
        raise LookupError("on purpose")

    setattr(Failing, method, fail)
    async with tls.connection(Failing()) as (_, protocol, peer):
        if method == "data_received":
            peer.send(b"hello")
        else:
            peer.vanish()
        await protocol.until_lost()
        assert isinstance(protocol.error, LookupError)
    (context,) = contexts
    contexts.clear()
    assert context["exception"] is protocol.error
    assert (
        context["message"]
        == {
            "data_received": "Fatal error on SSL protocol",
            "eof_received": "Error calling eof_received()",
        }[method]
    )


class NoException(BaseException):
    """What `except Exception` does not catch."""


def raising(base: type[Calls], method: str, error: type[BaseException]) -> Calls:
    def fail(self: Any, *arguments: Any) -> None:
        getattr(base, method)(self, *arguments)
        raise error("on purpose")

    return type("Raising", (base,), {method: fail})()


@pytest.mark.parametrize("error", [asyncio.CancelledError, NoException])
@pytest.mark.parametrize(
    ("base", "method"), [(Recorder, "data_received"), (BufferedRecorder, "buffer_updated")]
)
async def test_what_is_no_exception_is_reported_by_the_lower_transport(
    loop: asyncio.AbstractEventLoop,
    contexts: list[dict[str, Any]],
    base: type[Calls],
    method: str,
    error: type[BaseException],
) -> None:
    async with tls.connection(raising(base, method, error)) as (transport, protocol, peer):
        lower = transport._ssl_protocol._transport  # type: ignore[attr-defined]
        peer.send(b"hello")
        await protocol.until_lost()
        assert type(protocol.error) is error
    (context,) = contexts
    contexts.clear()
    assert context["exception"] is protocol.error
    assert context["transport"] is lower
    # asyncio's own protocol of TLS has a buffer.
    assert sys.version_info < (3, 11) or context["message"] in (
        "Fatal error: protocol.buffer_updated() call failed.",
        "Fatal error: protocol.data_received() call failed.",
    )


@pytest.mark.parametrize("error", [asyncio.CancelledError, NoException])
async def test_connection_made_that_raises_what_is_no_exception(
    loop: asyncio.AbstractEventLoop, contexts: list[dict[str, Any]], error: type[BaseException]
) -> None:
    protocol = raising(Recorder, "connection_made", error)
    with pytest.raises(error):
        async with tls.connection(protocol):
            pass
    await protocol.until_lost()
    (context,) = contexts
    contexts.clear()
    assert context["exception"] is protocol.error
    assert type(protocol.error) is error


@pytest.mark.parametrize("error", [asyncio.CancelledError, NoException])
async def test_eof_received_that_raises_what_is_no_exception(
    loop: asyncio.AbstractEventLoop, contexts: list[dict[str, Any]], error: type[BaseException]
) -> None:
    async with tls.connection(raising(Recorder, "eof_received", error)) as (_, protocol, peer):
        peer.vanish()
        await protocol.until_lost()
        assert type(protocol.error) is error
    messages = [context["message"] for context in contexts]
    contexts.clear()
    assert messages == ([] if error is asyncio.CancelledError else ["Error calling eof_received()"])


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_loop(loop: asyncio.AbstractEventLoop, error: type[BaseException]) -> None:
    class Ending(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise error

    async def run() -> None:
        async with tls.connection(Ending()) as (_, protocol, peer):
            peer.send(b"hello")
            await protocol.until_lost()

    task = loop.create_task(run())
    with pytest.raises(error):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


async def test_close_inside_data_received(loop: asyncio.AbstractEventLoop) -> None:
    class Closing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(data)
            self.transport.close()

    async with tls.connection(Closing()) as (_, protocol, peer):
        peer.send(b"hello")
        assert await peer.to_end() == b"hello"
        await peer.part()
        await protocol.until_lost()
        assert protocol.data == b"hello"
        assert protocol.error is None


async def test_abort_inside_data_received(loop: asyncio.AbstractEventLoop) -> None:
    class Aborting(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.abort()

    async with tls.connection(Aborting()) as (_, protocol, peer):
        peer.send(b"hello")
        await protocol.until_lost()
        assert protocol.data == b"hello"
        assert protocol.error is None


def test_a_loop_that_is_closed_under_connections(
    new_loop: Any, contexts: list[dict[str, Any]]
) -> None:
    loop = new_loop()
    near, far = connected()

    async def connect() -> Any:
        theirs = asyncio.ensure_future(tls.handshake(far, tls.server_context(), server_side=True))
        transport, _ = await loop.create_connection(
            Recorder, sock=near, ssl=tls.client_context(), server_hostname=tls.HOST
        )
        return transport, await theirs

    transport, peer = loop.run_until_complete(connect())
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.warns(ResourceWarning):
        loop.close()
        near.close()
        peer.close()
        del transport, peer
        import gc

        gc.collect()
