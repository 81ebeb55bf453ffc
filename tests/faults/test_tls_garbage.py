"""Bytes on the wire that are changed, cut off or made up, at every stage of a TLS connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import threading
from typing import Any

import pytest
from support import tls
from support.protocols import Recorder
from support.sockets import PATIENCE, Peer, connected

Loop = asyncio.AbstractEventLoop
MESSAGE = b"a message of some length, which is encrypted" * 40
# What a client sends in a handshake and what follows is a little longer than this.
LENGTH = 2600


class Spoiler:
    """Passes on what a client sends to us until `at`, and there does something to it."""

    def __init__(self, how: str, at: int, chance: random.Random) -> None:
        self.how, self.at, self.chance = how, at, chance
        self.near, inner = connected()
        outer, self.client = connected()
        self.between = [inner, outer]
        self.threads = [
            threading.Thread(target=self.copy, args=(outer, inner, True)),
            threading.Thread(target=self.copy, args=(inner, outer, False)),
        ]
        for thread in self.threads:
            thread.start()

    def copy(self, source: socket.socket, sink: socket.socket, spoil: bool) -> None:
        passed = 0
        try:
            while data := source.recv(1 << 16):
                if spoil and passed <= self.at < passed + len(data):
                    data = self.spoil(data, self.at - passed)
                passed += len(data)
                sink.sendall(data)
                if spoil and self.how == "cut" and passed >= self.at:
                    break
        except OSError:
            pass
        # After a reset too, which may have taken the alert with it: else the client waits for more.
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def spoil(self, data: bytes, at: int) -> bytes:
        if self.how == "cut":
            return data[:at]
        if self.how == "flip":
            return data[:at] + bytes([data[at] ^ (1 << self.chance.randrange(8))]) + data[at + 1 :]
        if self.how == "insert":
            return data[:at] + self.chance.randbytes(self.chance.randrange(1, 400)) + data[at:]
        return data[:at] + data[at + 1 :]

    def end(self) -> None:
        for sock in (self.near, self.client):
            sock.close()
        for thread in self.threads:
            thread.join(PATIENCE)
        for sock in self.between:
            sock.close()


async def converse(loop: Loop, spoiler: Spoiler) -> BaseException | None:
    """Serves one client behind the spoiler; what our side of it was told."""

    def talk() -> None:
        try:
            sock = tls.client_context().wrap_socket(spoiler.client, server_hostname=tls.HOST)
            with sock:
                sock.sendall(MESSAGE)
                sock.recv(1 << 16)
                sock.unwrap().close()
        except (OSError, ValueError):
            spoiler.client.close()

    client = asyncio.ensure_future(asyncio.to_thread(talk))
    protocol = Recorder()
    error: BaseException | None = None
    try:
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            spoiler.near,
            ssl=tls.server_context(),
            ssl_handshake_timeout=0.2,
            ssl_shutdown_timeout=0.2,
        )
    except OSError as caught:
        error = caught
        assert protocol.calls == []
    else:
        try:
            await asyncio.wait_for(protocol.until(lambda: transport.is_closing()), 0.2)
        except asyncio.TimeoutError:
            pass
        transport.close()
        await protocol.until_lost()
        error = protocol.error
        assert MESSAGE.startswith(bytes(protocol.data))
        assert protocol.calls.count("connection_lost") == 1
    await client
    return error


@pytest.mark.parametrize("how", ["cut", "flip", "insert", "drop"])
async def test_at_many_places(loop: Loop, contexts: list[dict[str, Any]], how: str) -> None:
    chance = random.Random(how)
    places = [0, 1, 2, 3, 4, 5, 6, *(chance.randrange(LENGTH) for _ in range(12))]
    failed = 0
    for at in places:
        spoiler = Spoiler(how, at, chance)
        try:
            error = await asyncio.wait_for(converse(loop, spoiler), PATIENCE)
        finally:
            await asyncio.to_thread(spoiler.end)
        assert error is None or isinstance(error, (OSError, asyncio.TimeoutError)), error
        failed += error is not None
    assert failed
    assert contexts == []


async def test_random_bytes_to_a_server(loop: Loop, contexts: list[dict[str, Any]]) -> None:
    chance = random.Random(7)
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = await loop.create_server(
        make, "127.0.0.1", 0, ssl=tls.server_context(), ssl_handshake_timeout=0.1
    )
    for _ in range(30):
        with socket.create_connection(server.sockets[0].getsockname(), PATIENCE) as sock:
            sock.sendall(chance.choice([b"", b"\x16\x03\x01"]) + chance.randbytes(300))
            try:
                await Peer(sock).to_end()
            except ConnectionResetError:
                pass
    assert [protocol.calls for protocol in made] == [[]] * 30
    assert contexts == []
    server.close()
    await asyncio.wait_for(server.wait_closed(), PATIENCE)


async def test_many_connections_at_once(loop: Loop) -> None:
    """Handshakes that are finished, cancelled, reset and left alone, all at the same time."""
    server = await loop.create_server(
        Recorder, "127.0.0.1", 0, ssl=tls.server_context(), ssl_handshake_timeout=PATIENCE
    )
    address = server.sockets[0].getsockname()
    context = tls.client_context()

    async def one(number: int) -> str:
        protocol = Recorder()
        connecting = asyncio.ensure_future(
            loop.create_connection(
                lambda: protocol, *address, ssl=context, server_hostname=tls.HOST
            )
        )
        if number % 3 == 0:
            for _ in range(number % 17):
                await asyncio.sleep(0)
            connecting.cancel()
        try:
            transport, _ = await connecting
        except asyncio.CancelledError:
            return "cancelled"
        transport.write(MESSAGE)
        if number % 3 == 1:
            transport.abort()
        else:
            transport.close()
        await protocol.until_lost()
        return type(protocol.error).__name__

    outcomes = await asyncio.gather(*map(one, range(90)))
    assert outcomes.count("NoneType") >= 60
    assert set(outcomes) <= {"NoneType", "cancelled"}
    server.close()
    await asyncio.wait_for(server.wait_closed(), PATIENCE)


def test_contexts_are_free_after_use(new_loop: Any) -> None:
    """cpython#109534: connections that failed kept everything alive."""
    import gc
    import weakref

    loop = new_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server = tls.server_context()

    async def fail(context: ssl.SSLContext) -> None:
        near, far = connected()
        with near, far:
            theirs = asyncio.ensure_future(tls.handshake(far, server, server_side=True))
            with pytest.raises(ssl.SSLCertVerificationError):
                await loop.create_connection(
                    Recorder, sock=near, ssl=context, server_hostname=tls.HOST
                )
            await asyncio.gather(theirs, return_exceptions=True)

    for _ in range(5):
        loop.run_until_complete(fail(context))
    seen = weakref.ref(context)
    del context
    gc.collect()
    assert seen() is None
