"""sendfile and sock_sendfile, beyond CPython's own tests of them."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from support.protocols import BufferedRecorder, Recorder, connection
from support.sockets import PATIENCE, pair
from support.ticks import pause

Loop = asyncio.AbstractEventLoop

DATA = bytes(range(251)) * 8_000  # 2 MB: more than the kernel takes at once


@pytest.fixture
def file(tmp_path: Path) -> Iterator[IO[bytes]]:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with open(path, "rb") as opened:
        yield opened


async def receive(loop: Loop, sock: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        data = await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), PATIENCE)
        if not data:
            break
        received += data
    return bytes(received)


async def cancel_midway(coroutine: Coroutine[Any, Any, int]) -> None:
    sending = asyncio.ensure_future(coroutine)
    await pause(5)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending


async def test_sock_sendfile(loop: Loop, file: IO[bytes]) -> None:
    with pair() as (near, far):
        sending = asyncio.ensure_future(loop.sock_sendfile(near, file))
        assert await receive(loop, far, len(DATA)) == DATA
        assert await sending == len(DATA)
        assert file.tell() == len(DATA)


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, 1), (0, 1_200_000), (1_000_000, None), (1_999_999, 5), (len(DATA) - 1, 100)],
)
@pytest.mark.parametrize("in_memory", [False, True])
async def test_parts(
    loop: Loop, file: IO[bytes], offset: int, count: int | None, in_memory: bool
) -> None:
    source: IO[bytes] = io.BytesIO(DATA) if in_memory else file
    expected = DATA[offset:] if count is None else DATA[offset : offset + count]
    with pair() as (near, far):
        sending = asyncio.ensure_future(loop.sock_sendfile(near, source, offset, count))
        assert await receive(loop, far, len(expected)) == expected
        assert await sending == len(expected)
        assert source.tell() == offset + len(expected)


@pytest.mark.parametrize("offset", [0, len(DATA)])
@pytest.mark.parametrize("in_memory", [False, True])
async def test_where_the_file_stands_says_nothing(
    loop: Loop, file: IO[bytes], offset: int, in_memory: bool
) -> None:
    source: IO[bytes] = io.BytesIO(DATA) if in_memory else file
    source.seek(123)
    with pair() as (near, far):
        sending = asyncio.ensure_future(loop.sock_sendfile(near, source, offset))
        expected = DATA[offset:]
        assert await receive(loop, far, len(expected)) == expected
        assert await sending == len(expected)
        assert source.tell() == len(DATA)


async def test_over_unix_sockets(loop: Loop, file: IO[bytes]) -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        sending = asyncio.ensure_future(loop.sock_sendfile(near, file))
        assert await receive(loop, far, len(DATA)) == DATA
        assert await sending == len(DATA)


async def test_empty_file(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with open(tmp_path / "empty", "rb") as empty, pair() as (near, _):
        assert await loop.sock_sendfile(near, empty) == 0
        assert await loop.sock_sendfile(near, empty, 0, 10, fallback=False) == 0


async def test_offset_behind_the_end(loop: Loop, file: IO[bytes]) -> None:
    with pair() as (near, _):
        assert await loop.sock_sendfile(near, file, len(DATA) + 5, 10) == 0


@pytest.mark.parametrize(
    ("offset", "count", "error", "text"),
    [
        (-1, None, ValueError, "offset must be a non-negative integer"),
        (0.5, None, TypeError, "offset must be a non-negative integer"),
        (0, 0, ValueError, "count must be a positive integer"),
        (0, -1, ValueError, "count must be a positive integer"),
        (0, "1", TypeError, "count must be a positive integer"),
    ],
)
async def test_wrong_numbers(
    loop: Loop, file: IO[bytes], offset: Any, count: Any, error: type[Exception], text: str
) -> None:
    with pair() as (near, _):
        with pytest.raises(error, match=text):
            await loop.sock_sendfile(near, file, offset, count)


async def test_wrong_files_and_sockets(loop: Loop, file: IO[bytes]) -> None:
    with pair() as (near, _), open(file.name) as text:
        with pytest.raises(ValueError, match="file should be opened in binary mode"):
            await loop.sock_sendfile(near, text)  # type: ignore[arg-type]
        with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
            await loop.sock_sendfile(near, io.BytesIO(b"x"), fallback=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        with pytest.raises(ValueError, match="only SOCK_STREAM type sockets are supported"):
            await loop.sock_sendfile(datagrams, file)
    loop.set_debug(True)
    with socket.socket() as blocking:
        with pytest.raises(ValueError, match="the socket must be non-blocking"):
            await loop.sock_sendfile(blocking, file)


async def test_peer_that_leaves(loop: Loop, file: IO[bytes]) -> None:
    with pair() as (near, far):
        sending = asyncio.ensure_future(loop.sock_sendfile(near, file))
        await receive(loop, far, 1000)
        far.close()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sending, PATIENCE)
        assert 0 < file.tell() < len(DATA)


async def test_cancelled(loop: Loop, file: IO[bytes]) -> None:
    with pair() as (near, far):
        await cancel_midway(loop.sock_sendfile(near, file))
        # The socket is free again.
        task = asyncio.ensure_future(loop.sock_sendall(near, b"rest"))
        received = b""
        while not received.endswith(b"rest"):
            received += await asyncio.wait_for(loop.sock_recv(far, 1 << 20), PATIENCE)
        await task


@pytest.mark.ours
async def test_position_after_a_cancellation(loop: Loop, file: IO[bytes]) -> None:
    with pair() as (near, far):
        await cancel_midway(loop.sock_sendfile(near, file))
        sent = file.tell()
        assert 0 < sent < len(DATA)
        near.shutdown(socket.SHUT_WR)
        assert await receive(loop, far, len(DATA)) == DATA[:sent]


async def test_transport(loop: Loop, file: IO[bytes]) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        transport.write(b"before")
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        assert await peer.exactly(6 + len(DATA)) == b"before" + DATA
        assert await sending == len(DATA)
        transport.write(b"after")
        assert await peer.exactly(5) == b"after"
        assert file.tell() == len(DATA)


async def test_everything_written_goes_first(loop: Loop, file: IO[bytes]) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write(DATA)
        assert transport.get_write_buffer_size() > 0
        sending = asyncio.ensure_future(loop.sendfile(transport, file, 10, 20))
        assert await peer.exactly(len(DATA) + 20) == DATA + DATA[10:30]
        assert await sending == 20
        assert protocol.calls.count("pause_writing") == protocol.calls.count("resume_writing")


@pytest.mark.parametrize("protocol_class", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("in_memory", [False, True])
async def test_nothing_is_received_meanwhile(
    loop: Loop, file: IO[bytes], protocol_class: Any, in_memory: bool
) -> None:
    # No more in memory than asyncio's fallback reads at a time: see test_fallback_of_much_data.
    data = DATA[: 16 * 1024] if in_memory else DATA
    source: IO[bytes] = io.BytesIO(data) if in_memory else file
    async with connection(protocol_class()) as (transport, protocol, peer):
        sending = asyncio.ensure_future(loop.sendfile(transport, source))
        await pause()
        peer.send(b"question")
        if not in_memory:
            await pause(5)
            assert not transport.is_reading()
            assert not protocol.data
        assert await peer.exactly(len(data)) == data
        await sending
        assert transport.is_reading()
        assert await protocol.until_received(8) == b"question"


async def test_paused_reading_stays_paused(loop: Loop, file: IO[bytes]) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        transport.pause_reading()
        sending = asyncio.ensure_future(loop.sendfile(transport, file, 0, 10))
        assert await peer.exactly(10) == DATA[:10]
        await sending
        assert not transport.is_reading()


async def test_writes_are_refused_meanwhile(loop: Loop, file: IO[bytes]) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        await pause(2)
        for data in (b"x", b""):
            with pytest.raises(RuntimeError, match="unable to write; sendfile is in progress"):
                transport.write(data)
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            transport.writelines([b"x"])
        assert await peer.exactly(len(DATA)) == DATA
        await sending


async def test_fallback_is_forbidden(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sendfile(transport, io.BytesIO(DATA), fallback=False)
        transport.write(b"still there")
        assert await peer.exactly(11) == b"still there"


async def test_fallback_of_much_data(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        source = io.BytesIO(DATA)
        sending = asyncio.ensure_future(loop.sendfile(transport, source, 7))
        assert await peer.exactly(len(DATA) - 7) == DATA[7:]
        assert await sending == len(DATA) - 7
        assert source.tell() == len(DATA)
        assert transport.get_protocol() is protocol


async def test_closed_transport(loop: Loop, file: IO[bytes]) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        transport.close()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(transport, file)
        await protocol.until_lost()


@pytest.mark.parametrize("in_memory", [False, True])
async def test_peer_of_a_transport_that_resets(
    loop: Loop, file: IO[bytes], in_memory: bool
) -> None:
    source: IO[bytes] = io.BytesIO(DATA) if in_memory else file
    async with connection(Recorder()) as (transport, protocol, peer):
        sending = asyncio.ensure_future(loop.sendfile(transport, source))
        await peer.exactly(1000)
        peer.reset()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sending, PATIENCE)
        await protocol.until_lost()
        assert transport.get_protocol() is protocol or transport.get_protocol() is None


@pytest.mark.ours
@pytest.mark.parametrize("ending", ["close", "abort"])
@pytest.mark.parametrize("unsent", [b"", DATA])
async def test_transport_that_ends_meanwhile(
    loop: Loop, file: IO[bytes], ending: str, unsent: bytes
) -> None:
    """asyncio's sendfile() waits for ever then."""
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.write(unsent)
        sending = asyncio.ensure_future(loop.sendfile(transport, file))
        await pause(5)
        getattr(transport, ending)()
        received = asyncio.ensure_future(peer.to_end())
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sending, PATIENCE)
        await protocol.until_lost()
        assert (unsent + DATA).startswith(await received)


@pytest.mark.ours
async def test_two_files_at_once(loop: Loop, file: IO[bytes]) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        first = asyncio.ensure_future(loop.sendfile(transport, file))
        await pause(2)
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            await loop.sendfile(transport, file)
        assert await peer.exactly(len(DATA)) == DATA
        assert await first == len(DATA)


async def test_cancelled_on_a_transport(loop: Loop, file: IO[bytes]) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        await cancel_midway(loop.sendfile(transport, file))
        transport.write(b"rest")
        transport.close()
        received = await peer.to_end()
        assert received.endswith(b"rest")
        assert DATA.startswith(received[:-4])


async def test_unsupported_transport(loop: Loop, file: IO[bytes]) -> None:
    class Other(asyncio.Transport):
        def is_closing(self) -> bool:
            return False

    with pytest.raises(RuntimeError, match="sendfile is not supported for transport"):
        await loop.sendfile(Other(), file)


async def test_protocol_learns_what_it_has_missed(
    loop: Loop, contexts: list[dict[str, Any]]
) -> None:
    """Between pause_writing() and resume_writing() while another protocol stands in."""
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.set_write_buffer_limits(0)
        transport.write(DATA[: 1 << 20])
        assert protocol.calls[-1] == "pause_writing"
        sending = asyncio.ensure_future(loop.sendfile(transport, io.BytesIO(b"tail")))
        assert await peer.exactly((1 << 20) + 4) == DATA[: 1 << 20] + b"tail"
        assert await sending == 4
        await protocol.until_called("resume_writing")
        assert protocol.calls.count("pause_writing") == protocol.calls.count("resume_writing")
