"""TLS connections: bytes both ways, what is known about them, and what contexts can do."""

from __future__ import annotations

import asyncio
import random
import ssl
from pathlib import Path
from typing import Any

import pytest
from support import tls
from support.protocols import BufferedRecorder, Recorder
from support.sockets import PATIENCE
from support.tls import HOST

BIG = random.Random(1).randbytes(3 << 20)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def limited(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("is_server", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
async def test_bytes_both_ways(
    loop: asyncio.AbstractEventLoop, version: ssl.TLSVersion, is_server: bool
) -> None:
    client = limited(tls.client_context(), version)
    async with tls.connection(Recorder(), client=client, is_server=is_server) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(b"hello")
        transport.writelines([b"", b" ", bytearray(b"wor"), memoryview(b"ld")])
        assert await peer.exactly(11) == b"hello world"
        peer.send(b"answer")
        assert await protocol.until_received(6) == b"answer"
        assert protocol.calls[0] == "connection_made"
        await asyncio.gather(peer.part(), protocol.until_lost())
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
        assert protocol.error is None


@pytest.mark.parametrize("size", [1, 100, 16384, 100_000])
async def test_buffered_protocol(loop: asyncio.AbstractEventLoop, size: int) -> None:
    data = BIG[: 300 * min(size, 1000)]
    recorder = BufferedRecorder(size)
    # Into a bytearray asyncio decrypts no more than one record: it slices what it was given.
    recorder.buffer = memoryview(recorder.buffer)
    async with tls.connection(recorder) as (_, protocol, peer):
        await asyncio.gather(peer.send_all(data), protocol.until_received(len(data)))
        assert bytes(protocol.data) == data


@pytest.mark.parametrize("is_server", [False, True])
async def test_large_transfers(loop: asyncio.AbstractEventLoop, is_server: bool) -> None:
    async with tls.connection(Recorder(), is_server=is_server) as (transport, protocol, peer):
        transport.write(BIG)
        assert await peer.exactly(len(BIG)) == BIG
        await peer.send_all(BIG)
        assert await protocol.until_received(len(BIG)) == BIG
        transport.write(bytearray(BIG))
        view = memoryview(BIG)
        transport.writelines([view[at : at + 100_000] for at in range(0, len(BIG), 100_000)])
        assert await peer.exactly(2 * len(BIG)) == BIG * 2


@pytest.mark.parametrize("version", VERSIONS)
async def test_messages_of_many_sizes(
    loop: asyncio.AbstractEventLoop, version: ssl.TLSVersion
) -> None:
    """Around the sizes between which they are decrypted where they stay."""
    sizes = [8000, 8191, 8192, 8193, 16_384, 60_000, 122_600, 122_880, 123_000, 1, 200_000, 70_000]
    client = limited(tls.client_context(), version)
    async with tls.connection(Recorder(), client=client) as (_, protocol, peer):
        for size in sizes * 2:
            before = len(protocol.data)
            await peer.send_all(BIG[before : before + size])
            await protocol.until_received(before + size)
        assert protocol.data == BIG[: 2 * sum(sizes)]


async def test_a_buffer_that_changes_after_the_write(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (transport, _, peer):
        data = bytearray(b"before")
        transport.write(data)
        data[:] = b"after!"
        assert await peer.exactly(6) == b"before"


async def test_extra_info(loop: asyncio.AbstractEventLoop) -> None:
    client = tls.client_context()
    async with tls.connection(Recorder(), client=client) as (transport, protocol, peer):
        info = transport.get_extra_info
        assert isinstance(info("ssl_object"), ssl.SSLObject)
        assert info("sslcontext") is client
        assert ("DNS", HOST) in info("peercert")["subjectAltName"]
        assert info("cipher") == peer.sock.cipher()
        assert info("compression") is None
        assert info("peername") == peer.sock.getsockname()
        assert info("sockname") == peer.sock.getpeername()
        assert info("socket").fileno() >= 0
        assert info("nonsense") is None
        assert info("nonsense", 3) == 3
        assert isinstance(transport, asyncio.Transport)
        assert "ssl" in type(transport).__name__.lower()
        # For the code that knows asyncio's own, such as aiohttp's tests.
        assert transport._ssl_protocol._sslcontext is client  # type: ignore[attr-defined]
        assert transport.get_protocol() is protocol
        assert transport.can_write_eof() is False
        with pytest.raises(NotImplementedError):
            transport.write_eof()
        transport.abort()
        await protocol.until_lost()
        assert info("peername", "gone") == "gone"
        assert info("sslcontext") is client


async def test_application_protocols(loop: asyncio.AbstractEventLoop) -> None:
    server, client = tls.server_context(), tls.client_context()
    server.set_alpn_protocols(["h2", "http/1.1"])
    client.set_alpn_protocols(["http/1.1"])
    async with tls.connection(Recorder(), server=server, client=client) as (transport, _, peer):
        ssl_object = transport.get_extra_info("ssl_object")
        assert ssl_object.selected_alpn_protocol() == "http/1.1"
        assert peer.sock.selected_alpn_protocol() == "http/1.1"


async def test_client_certificate(loop: asyncio.AbstractEventLoop) -> None:
    server = tls.server_context(client_certificate=True)
    client = tls.client_context("client.example")
    async with tls.connection(Recorder(), server=server, client=client, is_server=True) as (
        transport,
        _,
        _,
    ):
        names = transport.get_extra_info("peercert")["subjectAltName"]
        assert ("DNS", "client.example") in names


async def test_the_server_chooses_a_context_by_name(loop: asyncio.AbstractEventLoop) -> None:
    default, other = tls.server_context("other.example"), tls.server_context()
    asked: list[Any] = []

    def choose(connection: Any, name: str, context: ssl.SSLContext) -> None:
        asked.append((name, context is default))
        connection.context = other

    default.sni_callback = choose
    async with tls.connection(Recorder(), server=default, is_server=True) as (transport, _, peer):
        assert asked == [(HOST, True)]
        certificate: Any = peer.sock.getpeercert()
        assert ("DNS", HOST) in certificate["subjectAltName"]
        assert transport.get_extra_info("sslcontext") is default
        transport.write(b"hello")
        assert await peer.exactly(5) == b"hello"


@pytest.mark.parametrize("version", VERSIONS)
async def test_session_resumption(loop: asyncio.AbstractEventLoop, version: ssl.TLSVersion) -> None:
    context = limited(tls.client_context(), version)
    server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=tls.server_context())
    address = server.sockets[0].getsockname()

    class Remembering(ssl.SSLObject):
        """asyncio gives no session to `wrap_bio`: a program's own class does."""

        def do_handshake(self) -> None:
            if session is not None and not self.session:
                self.session = session
            super().do_handshake()

    context.sslobject_class = Remembering
    session: Any = None
    reused = []
    for _ in range(2):
        protocol = Recorder()
        transport, _ = await loop.create_connection(
            lambda protocol=protocol: protocol, *address, ssl=context, server_hostname=HOST
        )
        ssl_object = transport.get_extra_info("ssl_object")
        reused.append(ssl_object.session_reused)
        # With TLS 1.3 the ticket comes behind the handshake.
        while not (ssl_object.session and ssl_object.session.has_ticket):
            await asyncio.sleep(0.001)
        session = ssl_object.session
        transport.close()
        await protocol.until_lost()
    assert reused == [False, True]
    server.close()
    await server.wait_closed()


async def test_secrets_are_logged_for_who_asks(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    client = tls.client_context()
    client.keylog_filename = str(tmp_path / "keys")
    async with tls.connection(Recorder(), client=client):
        pass
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


async def test_encrypted_key(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder(), server=tls.encrypted_key(), is_server=True) as (
        transport,
        _,
        peer,
    ):
        transport.write(b"hello")
        assert await peer.exactly(5) == b"hello"


async def test_message_callback(loop: asyncio.AbstractEventLoop) -> None:
    # A private hook of the ssl module, which runs Python code inside each read and write.
    client = tls.client_context()
    seen = []
    client._msg_callback = lambda *args: seen.append(args[1])  # type: ignore[attr-defined]
    async with tls.connection(Recorder(), client=client) as (transport, protocol, peer):
        before = len(seen)
        transport.write(b"hello")
        assert await peer.exactly(5) == b"hello"
        peer.send(b"answer")
        await protocol.until_received(6)
        # OpenSSL tells of no record that the kernel makes.
        in_kernel = transport.get_extra_info("kernel_tls")
        assert set(seen[before:]) == ({"read"} if in_kernel else {"read", "write"})


async def test_server(loop: asyncio.AbstractEventLoop) -> None:
    protocols = []

    def make() -> Recorder:
        protocols.append(Recorder())
        return protocols[-1]

    server = await loop.create_server(make, "127.0.0.1", 0, ssl=tls.server_context())
    address = server.sockets[0].getsockname()

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection(
            *address, ssl=tls.client_context(), server_hostname=HOST
        )
        writer.write(b"%d\n" % number)
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""

    await asyncio.gather(*map(one, range(10)))
    for protocol in protocols:
        await protocol.until_lost()
    assert sorted(bytes(protocol.data) for protocol in protocols) == [
        b"%d\n" % number for number in range(10)
    ]
    server.close()
    await asyncio.wait_for(server.wait_closed(), PATIENCE)


async def test_streams(loop: asyncio.AbstractEventLoop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line[::-1])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.server_context())
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=tls.client_context(), server_hostname="127.0.0.1"
    )
    for number in range(50):
        line = b"%d\n" % number
        writer.write(line)
        assert await reader.readexactly(len(line)) == line[::-1]
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_a_class_of_the_programs_is_asked(loop: asyncio.AbstractEventLoop) -> None:
    class Counting(ssl.SSLObject):
        reads = writes = 0

        def read(self, *args: Any) -> Any:
            type(self).reads += 1
            return super().read(*args)

        def write(self, data: Any) -> int:
            type(self).writes += 1
            return super().write(data)

    client = tls.client_context()
    client.sslobject_class = Counting
    async with tls.connection(Recorder(), client=client) as (transport, protocol, peer):
        transport.write(b"hello")
        assert await peer.exactly(5) == b"hello"
        peer.send(b"answer")
        await protocol.until_received(6)
        assert Counting.reads > 0
        assert Counting.writes == 1
