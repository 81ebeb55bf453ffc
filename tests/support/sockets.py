"""Real sockets over loopback that stand opposite the loop under test.

`Peer` is a plain blocking socket, used through a thread, so that what a test sees of the wire does
not pass through the loop it is testing.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from support import patience

# No peer waits longer: a test that needs more has failed.
PATIENCE = 10.0 * patience.FACTOR
SMALL = 65536


def listening(family: int = socket.AF_INET, backlog: int = 100) -> socket.socket:
    """A blocking listener on a free loopback port."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind((loopback(family), 0))
    sock.listen(backlog)
    sock.settimeout(PATIENCE)
    return sock


def loopback(family: int = socket.AF_INET) -> str:
    return "::1" if family == socket.AF_INET6 else "127.0.0.1"


def connected() -> tuple[socket.socket, socket.socket]:
    """The two ends of one TCP connection, blocking; the first is the accepted one.

    Their buffers in the kernel are small, so that megabytes never fit, and nothing that is sent
    waits for what is sent next.
    """
    with listening() as listener:
        client = socket.create_connection(listener.getsockname(), PATIENCE)
        accepted, _ = listener.accept()
    accepted.settimeout(PATIENCE)
    for sock in (accepted, client):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    return accepted, client


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """`connected()`, both non-blocking, closed at the end."""
    first, second = connected()
    first.setblocking(False)
    second.setblocking(False)
    with first, second:
        yield first, second


def unused_port(family: int = socket.AF_INET) -> int:
    """A port that nobody listens on, nor will: the system gives out higher ones by itself."""
    for port in random.sample(range(10_000, 32_000), 100):
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            try:
                sock.bind((loopback(family), port))
            except OSError:
                continue
        return port
    raise AssertionError("a hundred ports are all in use")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def fill(sock: socket.socket) -> int:
    """Sends into a non-blocking socket until it takes no more; how much it took."""
    total = 0
    while True:
        try:
            total += sock.send(b"\0" * 65536)
        except BlockingIOError:
            return total


def in_transit(sender: socket.socket, receiver: socket.socket) -> bool:
    """Whether bytes are on their way between the two ends of a connection, as far as the system
    tells: `struct tcp_info` of Linux does, of sockets that are open."""
    if sys.platform != "linux" or sender.fileno() < 0 or receiver.fileno() < 0:
        return False
    sent = sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 216)
    received = receiver.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 216)
    if len(sent) < 216:
        return False  # before Linux 4.19
    (waiting,) = struct.unpack_from("I", sent, 144)  # tcpi_notsent_bytes
    left, again = struct.unpack_from("QQ", sent, 200)  # tcpi_bytes_sent, tcpi_bytes_retrans
    (arrived,) = struct.unpack_from("Q", received, 128)  # tcpi_bytes_received
    return bool(waiting > 0 or left - again > arrived)


class Peer:
    """The far end of a connection: a blocking socket whose calls run in a thread."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)

    async def exactly(self, size: int) -> bytes:
        """That many bytes."""
        return await asyncio.to_thread(self._exactly, size)

    async def to_end(self) -> bytes:
        """Everything until the other side has ended its stream."""
        return await asyncio.to_thread(self._to_end)

    def send(self, data: bytes) -> None:
        """Small data only: it must fit the socket's buffer, since this blocks the caller."""
        self.sock.sendall(data)

    async def send_all(self, data: bytes) -> None:
        await asyncio.to_thread(self.sock.sendall, data)

    def end(self) -> None:
        """Half-closes: the loop's side sees the end of the stream."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Closes with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def _exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            data = self.sock.recv(min(size - len(received), 1 << 20))
            if not data:
                raise EOFError(f"{len(received)} of {size} bytes, then the end")
            received += data
        return bytes(received)

    def _to_end(self) -> bytes:
        received = bytearray()
        while data := self.sock.recv(1 << 20):
            received += data
        return bytes(received)
