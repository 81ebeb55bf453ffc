"""create_unix_connection, create_unix_server and the streams over them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.protocols import Recorder
from support.sockets import PATIENCE
from support.ticks import pause

Loop = asyncio.AbstractEventLoop

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux's abstract namespace")
cleans_up = pytest.mark.skipif(sys.version_info < (3, 13), reason="cleanup_socket is of 3.13")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "socket")


@asynccontextmanager
async def serving(
    loop: Loop, path: Any, **options: Any
) -> AsyncIterator[tuple[asyncio.Server, asyncio.Queue[Recorder]]]:
    """A server at `path`, and a queue of the protocols whose connections were made."""
    arrived: asyncio.Queue[Recorder] = asyncio.Queue()

    class Arriving(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            arrived.put_nowait(self)

    server = await loop.create_unix_server(Arriving, path, **options)
    try:
        yield server, arrived
    finally:
        server.close()
        await server.wait_closed()


async def test_talk(loop: Loop, path: str) -> None:
    async with serving(loop, path) as (server, arrived):
        assert server.is_serving()
        transport, client = await loop.create_unix_connection(Recorder, path)
        server_side = await asyncio.wait_for(arrived.get(), PATIENCE)
        transport.write(b"question")
        assert await server_side.until_received(8) == b"question"
        server_side.transport.write(b"answer")
        assert await client.until_received(6) == b"answer"
        transport.close()
        await server_side.until_lost()
        await client.until_lost()
        assert client.error is None


async def test_what_is_known_of_a_connection(loop: Loop, path: str) -> None:
    async with serving(loop, path) as (server, arrived):
        transport, client = await loop.create_unix_connection(Recorder, path)
        server_side = await asyncio.wait_for(arrived.get(), PATIENCE)
        transport.close()
        await client.until_lost()
        await server_side.until_lost()
        # Also after the end.
        assert transport.get_extra_info("peername") == path
        assert transport.get_extra_info("sockname") == ""
        assert server_side.transport.get_extra_info("peername") == ""
        assert server_side.transport.get_extra_info("sockname") == path
        assert server.sockets[0].getsockname() == path
        assert server.sockets[0].family == socket.AF_UNIX


async def test_socket_of_a_connection(loop: Loop, path: str) -> None:
    async with serving(loop, path) as (_, arrived):
        transport, client = await loop.create_unix_connection(Recorder, path)
        server_side = await asyncio.wait_for(arrived.get(), PATIENCE)
        for side in (transport, server_side.transport):
            sock = side.get_extra_info("socket")
            assert sock.family == socket.AF_UNIX
            assert sock.type == socket.SOCK_STREAM
            assert sock.fileno() >= 0
        transport.abort()
        await client.until_lost()
        await server_side.until_lost()


async def test_name_of_a_bound_client(loop: Loop, path: str) -> None:
    async with serving(loop, path) as (_, arrived):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(path + "-client")
        sock.connect(path)
        transport, client = await loop.create_unix_connection(Recorder, sock=sock)
        server_side = await asyncio.wait_for(arrived.get(), PATIENCE)
        assert server_side.transport.get_extra_info("peername") == path + "-client"
        assert transport.get_extra_info("sockname") == path + "-client"
        transport.close()
        await client.until_lost()
        await server_side.until_lost()


@pytest.mark.parametrize("kind_of_path", ["bytes", "PathLike", "not UTF-8"])
async def test_kinds_of_paths(loop: Loop, path: str, kind_of_path: str) -> None:
    given: Any = Path(path) if kind_of_path == "PathLike" else os.fsencode(path)
    if kind_of_path == "not UTF-8":
        given += b"\xff"
    async with serving(loop, given) as (server, arrived):
        transport, client = await loop.create_unix_connection(Recorder, given)
        server_side = await asyncio.wait_for(arrived.get(), PATIENCE)
        assert transport.get_extra_info("peername") == os.fsdecode(given)
        assert server_side.transport.get_extra_info("sockname") == os.fsdecode(given)
        assert server.sockets[0].getsockname() == os.fsdecode(given)
        transport.close()
        await client.until_lost()
        await server_side.until_lost()


@linux
@pytest.mark.parametrize("as_bytes", [False, True])
async def test_abstract_names(loop: Loop, path: str, as_bytes: bool) -> None:
    text = "\0" + path
    name: Any = text.encode() if as_bytes else text
    async with serving(loop, name) as (_, arrived):
        transport, client = await loop.create_unix_connection(Recorder, name)
        server_side = await asyncio.wait_for(arrived.get(), PATIENCE)
        assert transport.get_extra_info("peername") == text.encode()
        assert server_side.transport.get_extra_info("sockname") == text.encode()
        assert not os.path.exists(path)
        transport.close()
        await client.until_lost()
        await server_side.until_lost()


@linux
async def test_abstract_name_in_use(loop: Loop, path: str) -> None:
    async with serving(loop, "\0" + path):
        with pytest.raises(OSError, match="is already in use") as caught:
            await loop.create_unix_server(Recorder, "\0" + path)
        assert caught.value.errno == errno.EADDRINUSE


async def test_stale_socket_makes_way(loop: Loop, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    assert os.path.exists(path)
    async with serving(loop, path) as (_, arrived):
        transport, client = await loop.create_unix_connection(Recorder, path)
        server_side = await asyncio.wait_for(arrived.get(), PATIENCE)
        transport.close()
        await client.until_lost()
        await server_side.until_lost()


async def test_other_files_are_left_alone(loop: Loop, path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(OSError) as caught:
        await loop.create_unix_server(Recorder, path)
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.strerror == f"Address {path!r} is already in use"
    assert Path(path).read_text() == "precious"


async def test_no_such_folder(loop: Loop, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_server(Recorder, path + "/below")
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_connection(Recorder, path + "/below")


async def test_nobody_listens(loop: Loop, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(path)
    with pytest.raises(ConnectionRefusedError):
        await loop.create_unix_connection(Recorder, path)


async def test_path_that_is_too_long(loop: Loop, path: str) -> None:
    with pytest.raises(OSError, match="too long"):
        await loop.create_unix_server(Recorder, path + "x" * 200)
    with pytest.raises(OSError, match="too long"):
        await loop.create_unix_connection(Recorder, path + "x" * 200)


@cleans_up
async def test_file_goes_with_the_server(loop: Loop, path: str) -> None:
    server = await loop.create_unix_server(Recorder, path)
    assert os.path.exists(path)
    server.close()
    assert not os.path.exists(path)


@pytest.mark.ours
async def test_file_goes_if_wanted_on_every_python(loop: Loop, path: str) -> None:
    server = await loop.create_unix_server(Recorder, path, cleanup_socket=True)  # type: ignore[call-arg, unused-ignore]
    server.close()
    assert not os.path.exists(path)


@cleans_up
async def test_file_of_a_given_socket_goes_with_the_server(loop: Loop, path: str) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    server = await loop.create_unix_server(Recorder, sock=sock)
    server.close()
    assert not os.path.exists(path)


@cleans_up
async def test_file_stays_if_wanted(loop: Loop, path: str) -> None:
    server = await loop.create_unix_server(Recorder, path, cleanup_socket=False)  # type: ignore[call-arg, unused-ignore]
    server.close()
    assert os.path.exists(path)


@cleans_up
async def test_file_of_a_successor_stays(loop: Loop, path: str) -> None:
    first = await loop.create_unix_server(Recorder, path)
    # A file in between keeps the number of the first one from being used again.
    os.rename(path, path + "-old")
    second = await loop.create_unix_server(Recorder, path)
    first.close()
    assert os.path.exists(path)
    second.close()
    assert not os.path.exists(path)


@cleans_up
async def test_file_that_is_gone_already(loop: Loop, path: str) -> None:
    server = await loop.create_unix_server(Recorder, path)
    os.unlink(path)
    server.close()
    await server.wait_closed()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="removed since 3.13")
async def test_file_stays_before_3_13(loop: Loop, path: str) -> None:
    server = await loop.create_unix_server(Recorder, path)
    server.close()
    assert os.path.exists(path)


async def test_start_serving_later(loop: Loop, path: str) -> None:
    async with serving(loop, path, start_serving=False) as (server, arrived):
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, path)
        await server.start_serving()
        transport, client = await loop.create_unix_connection(Recorder, path)
        server_side = await asyncio.wait_for(arrived.get(), PATIENCE)
        transport.close()
        await client.until_lost()
        await server_side.until_lost()


async def test_socket_and_path_exclude_each_other(loop: Loop, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        for attempt in (
            loop.create_unix_server(Recorder, path, sock=sock),
            loop.create_unix_connection(Recorder, path, sock=sock),
        ):
            with pytest.raises(ValueError, match="path and sock can not be specified"):
                await attempt
    with pytest.raises(ValueError, match="path was not specified, and no sock specified"):
        await loop.create_unix_server(Recorder)
    with pytest.raises(ValueError, match="no path and sock were specified"):
        await loop.create_unix_connection(Recorder)


@pytest.mark.parametrize(
    ("family", "type_"),
    [(socket.AF_INET, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM)],
)
async def test_wrong_kind_of_socket(loop: Loop, family: int, type_: int) -> None:
    with socket.socket(family, type_) as sock:
        for attempt in (
            loop.create_unix_server(Recorder, sock=sock),
            loop.create_unix_connection(Recorder, sock=sock),
        ):
            with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected, got"):
                await attempt


async def test_arguments_of_tls_without_tls(loop: Loop, path: str) -> None:
    with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
        await loop.create_unix_connection(Recorder, path, server_hostname="x")
    with pytest.raises(ValueError, match="you have to pass server_hostname when using ssl"):
        await loop.create_unix_connection(Recorder, path, ssl=True)  # type: ignore[arg-type, unused-ignore]
    with pytest.raises(ValueError, match="ssl_handshake_timeout is only meaningful"):
        await loop.create_unix_connection(Recorder, path, ssl_handshake_timeout=1)
    with pytest.raises(ValueError, match="ssl_handshake_timeout is only meaningful"):
        await loop.create_unix_server(Recorder, path, ssl_handshake_timeout=1)
    with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
        await loop.create_unix_server(Recorder, path, ssl=True)  # type: ignore[arg-type]


async def test_no_path_at_all(loop: Loop) -> None:
    with pytest.raises(TypeError):
        await loop.create_unix_connection(Recorder, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await loop.create_unix_server(Recorder, 5)  # type: ignore[arg-type]


async def test_half_closed(loop: Loop, path: str) -> None:
    async with serving(loop, path) as (_, arrived):
        transport, client = await loop.create_unix_connection(Recorder, path)
        server_side = await asyncio.wait_for(arrived.get(), PATIENCE)
        server_side.keep_open = True
        transport.write(b"all")
        transport.write_eof()
        await server_side.until_called("eof_received")
        server_side.transport.write(b"got it")
        assert await client.until_received(6) == b"got it"
        server_side.transport.close()
        await client.until_lost()
        await server_side.until_lost()


async def test_much_data(loop: Loop, path: str) -> None:
    data = bytes(range(256)) * 8192
    async with serving(loop, path) as (_, arrived):
        transport, client = await loop.create_unix_connection(Recorder, path)
        server_side = await asyncio.wait_for(arrived.get(), PATIENCE)
        server_side.transport.pause_reading()
        transport.write(data)
        assert transport.get_write_buffer_size() > 0
        assert "pause_writing" in client.calls
        server_side.transport.resume_reading()
        assert await server_side.until_received(len(data)) == data
        await client.until_called("resume_writing")
        transport.close()
        await client.until_lost()
        await server_side.until_lost()


async def test_pair_of_sockets(loop: Loop) -> None:
    near, far = socket.socketpair()
    transport, client = await loop.create_unix_connection(Recorder, sock=near)
    assert transport.get_extra_info("peername") == ""
    with far:
        far.sendall(b"hello")
        assert await client.until_received(5) == b"hello"
    await client.until_lost()


async def test_cancelled_connections_leave_nothing(loop: Loop, path: str) -> None:
    async with serving(loop, path) as (_, arrived):
        for ticks in range(4):
            task = asyncio.ensure_future(loop.create_unix_connection(Recorder, path))
            await pause(ticks)
            task.cancel()
            try:
                transport, client = await task
            except asyncio.CancelledError:
                continue
            transport.close()
            await client.until_lost()
        await pause(5)
        while not arrived.empty():
            await arrived.get_nowait().until_lost()


async def test_streams(loop: Loop, path: str) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(echo, path)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"line\n")
    assert await reader.readline() == b"line\n"
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
