"""Certificates made anew for each run, contexts, and peers that speak TLS.

Nothing that expires lies in the repository: an authority of trustme's signs what the tests need.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import trustme

from support.protocols import Calls
from support.sockets import PATIENCE, Peer, connected

HOST = "server.example"
PASSWORD = "correct horse"
ENABLE_KTLS = 1 << 3
"""`ssl.OP_ENABLE_KTLS`, which Python has since 3.12: the kernel may make the records."""
KERNEL = os.environ.get("OXLIP_TESTS_KERNEL_TLS") == "1"
"""Every connection of `connection()` asks for that, on the loop's side."""


@functools.cache
def authority() -> trustme.CA:
    """Whom both sides trust."""
    return trustme.CA()


@functools.cache
def certificate(name: str) -> trustme.LeafCert:
    return authority().issue_cert(name, "127.0.0.1")


def server_context(name: str = HOST, **options: bool) -> ssl.SSLContext:
    """A server's context; `client_certificate=True` demands one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(name).configure_cert(context)
    if options.get("client_certificate"):
        authority().configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(name: str | None = None) -> ssl.SSLContext:
    """A client's context that trusts the authority, with the certificate of `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    if name is not None:
        certificate(name).configure_cert(context)
    return context


def encrypted_key() -> ssl.SSLContext:
    """A server's context whose key was in a file that needs `PASSWORD`."""
    from cryptography.hazmat.primitives import serialization

    leaf = certificate(HOST)
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    protected = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSWORD.encode()),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "key.pem")
        path.write_bytes(protected + b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        context.load_cert_chain(path, password=PASSWORD)
    return context


class TlsPeer(Peer):
    """A blocking socket of the ssl module, whose calls run in a thread."""

    sock: ssl.SSLSocket

    def vanish(self) -> None:
        """Ends the stream without the farewell of TLS."""
        self.shut_down(socket.SHUT_WR)

    def shut_down(self, how: int) -> None:
        """shutdown(2), which the ssl module makes the end of TLS on this side, too."""
        with self.raw() as raw:
            raw.shutdown(how)

    def raw(self) -> socket.socket:
        """The socket below, which is still the peer's own."""
        return socket.socket(fileno=socket.dup(self.sock.fileno()))

    async def part(self) -> None:
        """Says farewell and waits for the other's."""
        await asyncio.to_thread(self.sock.unwrap)

    def begin_to_part(self) -> None:
        """Says farewell and does not wait: on the loop's own thread, so that nothing can arrive
        meanwhile, which unwrap() does not go well with."""
        self.sock.setblocking(False)
        try:
            self.sock.unwrap()
        except ssl.SSLError:
            pass
        self.sock.settimeout(PATIENCE)

    def send_raw(self, data: bytes) -> None:
        """Bytes that are no records."""
        with self.raw() as raw:
            raw.sendall(data)


P = TypeVar("P", bound=Calls)


async def handshake(
    sock: socket.socket, context: ssl.SSLContext, *, server_side: bool, hostname: str = HOST
) -> TlsPeer:
    """Shakes hands on a blocking socket, in a thread."""
    name = None if server_side else hostname

    def shake() -> ssl.SSLSocket:
        return context.wrap_socket(sock, server_side=server_side, server_hostname=name)

    return TlsPeer(await asyncio.to_thread(shake))


@asynccontextmanager
async def connection(
    protocol: P,
    *,
    server: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
    is_server: bool = False,
    **options: float,
) -> AsyncIterator[tuple[asyncio.Transport, P, TlsPeer]]:
    """A TLS connection of the running loop to a peer; both are closed at the end.

    The loop has the client's end, or with `is_server` the server's.
    """
    near, far = connected()
    loop = asyncio.get_running_loop()
    server = server or server_context()
    client = client or client_context()
    if KERNEL:
        (server if is_server else client).options |= ENABLE_KTLS
    with near, far:
        theirs = asyncio.ensure_future(
            handshake(far, client if is_server else server, server_side=not is_server)
        )
        try:
            if is_server:
                transport, protocol = await loop.connect_accepted_socket(
                    lambda: protocol, near, ssl=server, **options
                )
            else:
                transport, protocol = await loop.create_connection(
                    lambda: protocol, sock=near, ssl=client, server_hostname=HOST, **options
                )
        except BaseException:
            # Nobody shakes hands with the peer any more.
            near.close()
            (result,) = await asyncio.gather(theirs, return_exceptions=True)
            if isinstance(result, TlsPeer):
                result.close()
            raise
        peer = await asyncio.wait_for(theirs, PATIENCE)
        try:
            yield transport, protocol, peer
        finally:
            peer.close()
            if "connection_lost" not in protocol.calls:
                transport.abort()
                await protocol.until_lost()
