"""Handshakes that fail: a clear exception on our side, and nothing left behind."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support import tls
from support.protocols import Recorder
from support.sockets import PATIENCE, Peer, connected, listening
from support.tls import HOST

BRIEF = 0.05


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[list[Recorder], tuple[str, int]]]:
    """A TLS server, and the protocols that its factory has made."""
    loop = asyncio.get_running_loop()
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = await loop.create_server(
        make, "127.0.0.1", 0, ssl=options.pop("ssl", None) or tls.server_context(), **options
    )
    try:
        yield made, server.sockets[0].getsockname()
    finally:
        server.close()
        await asyncio.wait_for(server.wait_closed(), PATIENCE)


def dial(address: tuple[str, int]) -> Peer:
    return Peer(socket.create_connection(address, PATIENCE))


async def test_untrusted_certificate(
    loop: asyncio.AbstractEventLoop, contexts: list[dict[str, Any]]
) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    protocol = Recorder()
    async with serving() as (made, address):
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await loop.create_connection(
                lambda: protocol, *address, ssl=client, server_hostname=HOST
            )
        assert caught.value.reason == "CERTIFICATE_VERIFY_FAILED"
    assert protocol.calls == made[0].calls == []


async def test_certificate_for_another_name(loop: asyncio.AbstractEventLoop) -> None:
    async with serving() as (_, address):
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            await loop.create_connection(
                Recorder, *address, ssl=tls.client_context(), server_hostname="wrong.example"
            )


async def test_missing_client_certificate(loop: asyncio.AbstractEventLoop) -> None:
    server = tls.server_context(client_certificate=True)
    near, far = connected()
    client = tls.client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # which tells the client in the handshake
    theirs = asyncio.ensure_future(tls.handshake(far, client, server_side=False))
    with near, far:
        with pytest.raises(ssl.SSLError) as caught:
            await loop.connect_accepted_socket(Recorder, near, ssl=server)
        assert caught.value.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        with pytest.raises(OSError):
            await theirs


@pytest.mark.ours
async def test_the_peer_is_told_what_was_wrong(loop: asyncio.AbstractEventLoop) -> None:
    # asyncio drops OpenSSL's alert with the connection.
    near, far = connected()
    with near, far:
        theirs = asyncio.ensure_future(tls.handshake(far, tls.server_context(), server_side=True))
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(
                Recorder,
                sock=near,
                ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                server_hostname=HOST,
            )
        with pytest.raises(ssl.SSLError) as caught:
            await theirs
        assert caught.value.reason == "TLSV1_ALERT_UNKNOWN_CA"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP_REQUEST"),
        (b"\x00" * 100, "WRONG_VERSION_NUMBER"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "WRONG_VERSION_NUMBER"),
        (b"\x16\x03\x01\x00\x05hello", "UNEXPECTED_MESSAGE"),
    ],
)
async def test_no_tls_on_a_tls_port(
    loop: asyncio.AbstractEventLoop, contexts: list[dict[str, Any]], request_: bytes, reason: str
) -> None:
    async with serving() as (made, address):
        peer = dial(address)
        peer.send(request_)
        try:
            await peer.to_end()
        except ConnectionResetError:
            pass
        peer.close()
        assert made[0].calls == []
    assert contexts == []
    near, far = connected()
    with near, far:
        far.sendall(request_)
        with pytest.raises(ssl.SSLError) as caught:
            await loop.connect_accepted_socket(Recorder, near, ssl=tls.server_context())
        assert caught.value.reason == reason


async def test_a_server_that_speaks_no_tls(loop: asyncio.AbstractEventLoop) -> None:
    near, far = connected()
    with near, far:
        far.sendall(b"220 ready\r\n")
        with pytest.raises(ssl.SSLError) as caught:
            await loop.create_connection(
                Recorder, sock=near, ssl=tls.client_context(), server_hostname=HOST
            )
        assert caught.value.reason == "WRONG_VERSION_NUMBER"


@pytest.mark.parametrize("reset", [False, True])
async def test_the_peer_goes_away(loop: asyncio.AbstractEventLoop, reset: bool) -> None:
    near, far = connected()
    peer = Peer(far)
    with near:
        connecting = asyncio.ensure_future(
            loop.create_connection(
                Recorder, sock=near, ssl=tls.client_context(), server_hostname=HOST
            )
        )
        assert len(await peer.exactly(100)) == 100
        if reset:
            peer.reset()
        else:
            peer.close()
        with pytest.raises(ConnectionResetError):
            await connecting


async def test_a_peer_that_stays_silent(loop: asyncio.AbstractEventLoop) -> None:
    near, far = connected()
    with near, far:
        with pytest.raises(ConnectionAbortedError) as caught:
            await loop.create_connection(
                Recorder,
                sock=near,
                ssl=tls.client_context(),
                server_hostname=HOST,
                ssl_handshake_timeout=BRIEF,
            )
        assert str(caught.value) == (
            "SSL handshake is taking longer than 0.05 seconds: aborting the connection"
        )
        assert await Peer(far).to_end()


async def test_silent_clients_of_a_server(
    loop: asyncio.AbstractEventLoop, contexts: list[dict[str, Any]]
) -> None:
    async with serving(ssl_handshake_timeout=BRIEF) as (made, address):
        peers = [dial(address) for _ in range(5)]
        for peer in peers:
            assert await peer.to_end() == b""
            peer.close()
    assert len(made) == 5
    assert contexts == []


async def test_debug_mode_reports_what_no_caller_sees(
    loop: asyncio.AbstractEventLoop,
    contexts: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop.set_debug(True)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        async with serving() as (made, address):
            peer = dial(address)
            peer.send(b"GET / HTTP/1.1\r\n\r\n")
            try:
                await peer.to_end()
            except ConnectionResetError:
                pass
            peer.close()
            while not contexts:
                await asyncio.sleep(0)
    (context,) = contexts
    contexts.clear()
    assert context["message"] == "Error on transport creation for incoming connection"
    assert isinstance(context["exception"], ssl.SSLError)
    assert context["protocol"] is made[0]
    assert context["transport"].is_closing()
    messages = " ".join(record.getMessage() for record in caplog.records)
    assert "starts SSL handshake" in messages
    assert "SSL handshake failed" in messages


async def test_debug_mode_tells_how_long_it_took(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        async with tls.connection(Recorder()):
            pass
    assert "SSL handshake took" in " ".join(record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 5, 8])
async def test_cancelled_at_every_stage(loop: asyncio.AbstractEventLoop, ticks: int) -> None:
    near, far = connected()
    peer = Peer(far)
    protocol = Recorder()
    connecting = asyncio.ensure_future(
        loop.create_connection(
            lambda: protocol, sock=near, ssl=tls.client_context(), server_hostname=HOST
        )
    )
    for _ in range(ticks):
        await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    near.close() if ticks == 0 else None
    # Ours is closed: the peer sees the end.
    await peer.to_end()
    peer.close()
    assert protocol.calls == []


async def test_cancelled_while_the_peer_is_silent(loop: asyncio.AbstractEventLoop) -> None:
    with listening() as listener:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(
                loop.create_connection(
                    Recorder,
                    *listener.getsockname(),
                    ssl=tls.client_context(),
                    server_hostname=HOST,
                ),
                BRIEF,
            )


async def test_a_protocol_that_fails_to_begin(
    loop: asyncio.AbstractEventLoop, contexts: list[dict[str, Any]]
) -> None:
    class Failing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise LookupError("on purpose")

    protocol = Failing()
    with pytest.raises(LookupError):
        async with tls.connection(protocol):
            pass
    await protocol.until_lost()
    assert isinstance(protocol.error, LookupError)
    assert [type(context["exception"]) for context in contexts] == [LookupError]
    contexts.clear()


async def test_writing_in_connection_made(loop: asyncio.AbstractEventLoop) -> None:
    class Eager(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"first")
            self.transport.writelines([b"second", b"third"])

    async with tls.connection(Eager()) as (_, _, peer):
        assert await peer.exactly(16) == b"firstsecondthird"


async def test_closing_in_connection_made(loop: asyncio.AbstractEventLoop) -> None:
    class Brief(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"bye")
            self.transport.close()

    async with tls.connection(Brief()) as (transport, protocol, peer):
        assert await peer.exactly(3) == b"bye"
        assert transport.is_closing()
        await asyncio.gather(peer.part(), protocol.until_lost())
        assert protocol.error is None
