"""TLS connections whose records the kernel makes: `ssl.OP_ENABLE_KTLS` (docs/tls.md).

What a connection does is the same with and without, and so is every test here but the first, which
sees whether the kernel that it runs on has taken over where it can. `make test-kernel-tls` runs
them on one that can.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from support import loops, tls
from support.protocols import Recorder
from support.sockets import PATIENCE, connected

BIG = bytes(range(256)) * 12_000
VERSIONS = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)
SIDES = pytest.mark.parametrize("is_server", [True, False], ids=["server", "client"])


def asking(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A context that wants the kernel to make the records, with a cipher that it knows."""
    context.options |= tls.ENABLE_KTLS
    context.minimum_version = context.maximum_version = version
    return context


def connection(
    version: ssl.TLSVersion,
    is_server: bool,
    protocol: Recorder | None = None,
    *,
    tickets: int = 2,
    **options: float,
) -> contextlib.AbstractAsyncContextManager[tuple[asyncio.Transport, Recorder, tls.TlsPeer]]:
    """The loop's side asks for the kernel, the peer's does not."""
    server, client = tls.server_context(), tls.client_context()
    asking(server if is_server else client, version)
    server.num_tickets = tickets
    return tls.connection(
        protocol or Recorder(), server=server, client=client, is_server=is_server, **options
    )


async def ends_properly(protocol: Recorder, peer: tls.TlsPeer) -> None:
    """The loop's side has closed: its farewell is the next that the peer reads, and is answered."""
    peer.sock.suppress_ragged_eofs = False  # An end without a farewell is an error.
    assert await asyncio.to_thread(peer.sock.recv, 1) == b""
    await peer.part()
    await protocol.until_lost()
    assert protocol.error is None


def kernel_can() -> bool:
    """Whether the kernel has TLS."""
    with contextlib.ExitStack() as stack:
        sock, other = connected()
        stack.enter_context(sock)
        stack.enter_context(other)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, 31, b"tls")  # TCP_ULP
        except OSError:
            return False
    return True


def takes_over(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the kernel makes records for connections of this loop that ask for it."""
    if not isinstance(loop, _our_loops()) or ssl.OPENSSL_VERSION_INFO < (3,):
        return False
    from oxlip import _native

    return _native.tls_codec()["codec"] == "libssl" and kernel_can()


def _our_loops() -> tuple[type, ...]:
    if loops.STOCK_ONLY:
        return ()
    import oxlip

    return (oxlip.EventLoop,)


@VERSIONS
@SIDES
async def test_the_kernel_takes_over_where_it_can(
    loop: asyncio.AbstractEventLoop, version: ssl.TLSVersion, is_server: bool
) -> None:
    async with connection(version, is_server) as (transport, _, _):
        expected = True if takes_over(loop) else None
        assert transport.get_extra_info("kernel_tls") is expected
    if not tls.KERNEL:
        async with tls.connection(Recorder()) as (transport, _, _):  # Nobody has asked.
            assert transport.get_extra_info("kernel_tls") is None


@VERSIONS
@SIDES
async def test_bytes_of_every_size(
    loop: asyncio.AbstractEventLoop, version: ssl.TLSVersion, is_server: bool
) -> None:
    async with connection(version, is_server) as (transport, protocol, peer):
        for size in (1, 1000, 16_384, 16_385, len(BIG)):
            transport.write(BIG[: size // 2])
            transport.writelines([BIG[size // 2 : size - 1], BIG[size - 1 : size]])
            assert await peer.exactly(size) == BIG[:size]
            protocol.data.clear()
            await asyncio.gather(
                peer.send_all(BIG[:size]),
                protocol.until(lambda size=size: len(protocol.data) == size),
            )
            assert protocol.data == BIG[:size]


@VERSIONS
@SIDES
async def test_the_farewell_is_behind_what_was_written(
    loop: asyncio.AbstractEventLoop, version: ssl.TLSVersion, is_server: bool
) -> None:
    # More than the system takes at once: the farewell, which is no data, has to wait for it.
    async with connection(version, is_server) as (transport, protocol, peer):
        transport.write(BIG)
        transport.close()
        assert await peer.exactly(len(BIG)) == BIG
        await ends_properly(protocol, peer)


@VERSIONS
@SIDES
async def test_the_peers_farewell_is_answered(
    loop: asyncio.AbstractEventLoop, version: ssl.TLSVersion, is_server: bool
) -> None:
    async with connection(version, is_server) as (transport, protocol, peer):
        transport.write(b"hello")
        assert await peer.exactly(5) == b"hello"
        peer.send(b"last words")
        await peer.part()
        await protocol.until_lost()
        assert protocol.data == b"last words"
        assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
        assert protocol.error is None


async def test_tickets_arrive(loop: asyncio.AbstractEventLoop) -> None:
    # They follow the handshake as records of their own type.
    async with connection(ssl.TLSVersion.TLSv1_3, True) as (transport, _, peer):
        transport.write(b"hello")
        assert await peer.exactly(5) == b"hello"
        session = peer.sock.session
        assert session is not None and session.has_ticket


@pytest.mark.ours  # asyncio keeps the alert to itself
@VERSIONS
@SIDES
async def test_records_that_are_none(
    loop: asyncio.AbstractEventLoop, version: ssl.TLSVersion, is_server: bool
) -> None:
    # OpenSSL's alert says what was wrong.
    async with connection(version, is_server) as (_, protocol, peer):
        peer.send_raw(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        await protocol.until_lost()
        assert isinstance(protocol.error, ssl.SSLError)
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            await asyncio.to_thread(peer.sock.recv, 1)


@VERSIONS
async def test_no_descriptor_is_left_open(
    loop: asyncio.AbstractEventLoop, version: ssl.TLSVersion
) -> None:
    async def once(is_server: bool, end: str) -> None:
        async with connection(version, is_server) as (transport, protocol, peer):
            transport.write(BIG)
            getattr(transport, end)()
            if end == "close":
                assert await peer.exactly(len(BIG)) == BIG
                await peer.part()
            await protocol.until_lost()

    await once(True, "close")
    before = len(os.listdir("/dev/fd"))
    for is_server in (True, False):
        for end in ("close", "abort"):
            await once(is_server, end)
    await asyncio.sleep(0)
    assert len(os.listdir("/dev/fd")) == before


@VERSIONS
async def test_a_peer_that_does_not_read_at_the_end(
    loop: asyncio.AbstractEventLoop, version: ssl.TLSVersion
) -> None:
    # The farewell waits for room that never comes; the shutdown's time-out ends that.
    async with connection(version, True, ssl_shutdown_timeout=0.2) as (transport, protocol, _):
        transport.write(BIG)
        transport.close()
        await protocol.until_lost()
        assert isinstance(protocol.error, TimeoutError | asyncio.TimeoutError)


@VERSIONS
@SIDES
async def test_a_file_is_sent(
    loop: asyncio.AbstractEventLoop, version: ssl.TLSVersion, is_server: bool, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    async with connection(version, is_server) as (transport, protocol, peer):
        transport.write(BIG)  # more than the system takes at once
        with path.open("rb") as file:
            fallback = not takes_over(loop)
            sending = asyncio.ensure_future(loop.sendfile(transport, file, fallback=fallback))
            assert await peer.exactly(len(BIG)) == BIG
            reading = asyncio.ensure_future(peer.exactly(len(BIG)))
            assert await sending == len(BIG)
            assert file.tell() == len(BIG)
        assert await reading == BIG  # with nothing behind it that would push it out
        transport.write(b" after")
        transport.close()
        assert await peer.exactly(6) == b" after"
        await ends_properly(protocol, peer)


async def test_close_while_a_file_is_sent(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    # The farewell is behind the file. asyncio, which reads and writes, finds the transport closed.
    path = tmp_path / "file"
    path.write_bytes(BIG)
    async with connection(ssl.TLSVersion.TLSv1_3, True) as (transport, protocol, peer):
        if not takes_over(loop):
            pytest.skip("the kernel does not encrypt")
        with path.open("rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(transport, file, fallback=False))
            begin = await peer.exactly(1)
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                transport.write(b"between")
            transport.close()
            assert begin + await peer.exactly(len(BIG) - 1) == BIG
            assert await sending == len(BIG)
        await ends_properly(protocol, peer)


@pytest.mark.ours  # asyncio forgets how to write then, before 3.14
@VERSIONS
async def test_the_peer_reads_slowly_after_its_farewell(
    loop: asyncio.AbstractEventLoop, version: ssl.TLSVersion
) -> None:
    # Nothing of what was written is lost with the descriptor.
    async with connection(version, True) as (transport, protocol, peer):
        peer.begin_to_part()
        transport.write(BIG)  # before anything is read
        received = await peer.exactly(len(BIG) - 100_000)
        await protocol.until_called("eof_received")
        for _ in range(100):
            await asyncio.sleep(0)
        received += await peer.exactly(100_000)
        assert received == BIG
        await protocol.until_lost()
        assert protocol.error is None


async def test_data_behind_a_record_that_waits(loop: asyncio.AbstractEventLoop) -> None:
    # The server's tickets do not fit: they are for the socket alone, and data must not pass them.
    data = bytearray(BIG[:500_000])

    class Eager(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(data)
            self.transport.write(memoryview(data))

    version = ssl.TLSVersion.TLSv1_3
    async with connection(version, True, Eager(), tickets=200) as (_, protocol, peer):
        expected = bytes(data) * 2
        data[:] = b"!" * len(data)  # It has been taken, however it leaves.
        assert await peer.exactly(len(expected)) == expected
        peer.send(b"thanks")
        await protocol.until(lambda: protocol.data == b"thanks")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
async def test_a_peer_that_changes_the_keys(loop: asyncio.AbstractEventLoop) -> None:
    # The kernel (before 6.14) or OpenSSL (3.0) cannot follow: then the connection ends with
    # an error that says so, not with records that the peer cannot read.
    protocol = Recorder()
    context = asking(tls.server_context(), ssl.TLSVersion.TLSv1_3)
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0, ssl=context)
    address = "{}:{}".format(*server.sockets[0].getsockname())
    peer = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert peer.stdin is not None and peer.stdout is not None
    await protocol.until_called("connection_made")
    peer.stdin.write(b"K\n")  # Its command for: new keys, and yours as well.
    await asyncio.wait_for(peer.stdout.readuntil(b"KEYUPDATE\n"), PATIENCE)
    peer.stdin.write(b"hello\n")
    await protocol.until(lambda: protocol.data == b"hello\n" or "connection_lost" in protocol.calls)
    protocol.transport.write(b"THE ANSWER\n")
    shown = asyncio.ensure_future(peer.stdout.readuntil(b"THE ANSWER\n"))
    await asyncio.wait({shown}, timeout=PATIENCE / 2)
    assert shown.done()
    if shown.exception() is not None:
        await protocol.until_lost()
        assert takes_over(loop)
        assert isinstance(protocol.error, OSError)
    protocol.transport.close()
    peer.stdin.close()
    await asyncio.wait_for(peer.communicate(), PATIENCE)
    await protocol.until_lost()
    server.close()
