"""The measured servers: small programs, each on the loop that is named.

`python benches/servers.py CASE --loop NAME [--port N]` listens on 127.0.0.1, prints one line of
JSON with its port (and path) once it answers, and serves until it is killed. `--life` bounds that
in any case.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from loops import new_loop

BACKLOG = 4096
BODY_SIZE = 1024
BODY = b"x" * BODY_SIZE
READ_SIZE = 64 * 1024
BLOCKED_SECONDS = 0.002

Ready = Callable[..., None]
Case = Callable[[socket.socket, Ready], Awaitable[None]]


class Echo(asyncio.Protocol):
    """Sends back what arrives."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """Sends back what arrives, received into a buffer of its own."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = bytearray(READ_SIZE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(self.buffer[:nbytes])


class BlockingEcho(Echo):
    """Answers, and then keeps the loop from doing anything for a while."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        time.sleep(BLOCKED_SECONDS)


class MinimalHttp(asyncio.Protocol):
    """Answers every GET alike: as little HTTP as a keep-alive client accepts."""

    transport: asyncio.Transport
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % BODY_SIZE

    def __init__(self) -> None:
        self.partial = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.partial:
            data = self.partial + data
        *requests, self.partial = data.split(b"\r\n\r\n")
        for _ in requests:
            self.respond()

    def respond(self) -> None:
        self.transport.write(self.head + BODY)


class MinimalHttpInTwo(MinimalHttp):
    """The same with head and body written apart, as most servers do."""

    def respond(self) -> None:
        self.transport.write(self.head)
        self.transport.write(BODY)


def protocol(factory: Callable[[], asyncio.BaseProtocol]) -> Case:
    """A case that is `create_server` with this protocol, on a socket that the loop makes."""

    async def serve(sock: socket.socket, ready: Ready) -> None:
        loop = asyncio.get_running_loop()
        host, port = sock.getsockname()
        sock.close()
        server = await loop.create_server(factory, host, port, backlog=BACKLOG)
        ready()
        await for_ever()
        server.close()

    return serve


async def unix(sock: socket.socket, ready: Ready) -> None:
    """Echo on a Unix socket."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "echo")
        server = await loop.create_unix_server(Echo, path, backlog=BACKLOG)
        ready(unix=path)
        await for_ever()
        server.close()


async def tls(sock: socket.socket, ready: Ready) -> None:
    """Echo over TLS, with a certificate made for the occasion."""
    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, sock=sock, backlog=BACKLOG, ssl=context)
    ready()
    await for_ever()
    server.close()


class DatagramEcho(asyncio.DatagramProtocol):
    """Sends back each datagram."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's transports are no asyncio.Transport.
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class Sink(DatagramEcho):
    """Counts, and answers every 64th."""

    count = 0

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.count += 1
        if not self.count % 64:
            self.transport.sendto(b"64", addr)


class BatchSink(Sink):
    """The same, where the loop can hand over batches."""

    def datagrams_received(self, datagrams: list[tuple[bytes, Any]]) -> None:
        before = self.count // 64
        self.count += len(datagrams)
        for _ in range(self.count // 64 - before):
            self.transport.sendto(b"64", datagrams[-1][1])


def datagrams(factory: Callable[[], asyncio.DatagramProtocol]) -> Case:
    """A case that is `create_datagram_endpoint` with this protocol, on a port of that number."""

    async def serve(sock: socket.socket, ready: Ready) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(factory, local_addr=sock.getsockname())
        ready()
        await for_ever()
        transport.close()

    return serve


def streams(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> Case:
    """A case that is `asyncio.start_server` with this callback."""

    async def serve(sock: socket.socket, ready: Ready) -> None:
        server = await asyncio.start_server(answer, sock=sock, backlog=BACKLOG)
        ready()
        await for_ever()
        server.close()

    return serve


async def echo_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echoes whatever is there."""
    while data := await reader.read(READ_SIZE):
        writer.write(data)
        await writer.drain()
    writer.close()


async def echo_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echoes line by line."""
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def sock_methods(sock: socket.socket, ready: Ready) -> None:
    """Echoes with `sock_accept`, `sock_recv` and `sock_sendall`: no transport at all."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def echo(connection: socket.socket) -> None:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := await loop.sock_recv(connection, READ_SIZE):
                await loop.sock_sendall(connection, data)

    ready()
    while True:
        connection, _ = await loop.sock_accept(sock)
        task = loop.create_task(echo(connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def uvicorn(parts: int) -> Case:
    """An ASGI application under uvicorn with httptools; the body in so many messages."""
    chunk = BODY[: BODY_SIZE // parts]
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % BODY_SIZE)]

    async def application(
        scope: dict[str, Any], receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for left in range(parts, 0, -1):
            await send({"type": "http.response.body", "body": chunk, "more_body": left > 1})

    async def serve(sock: socket.socket, ready: Ready) -> None:
        from uvicorn import Config, Server

        config = Config(
            application,
            http="httptools",
            ws="none",
            lifespan="off",
            loop="none",
            log_level="warning",
            access_log=False,
            backlog=BACKLOG,
            # Longer than the other contestants' turns take.
            timeout_keep_alive=300,
        )
        server = Server(config)
        task = asyncio.ensure_future(server.serve(sockets=[sock]))
        while not (server.started or task.done()):
            await asyncio.sleep(0.005)
        ready()
        await task

    return serve


def aiohttp(parts: int) -> Case:
    """An aiohttp application; the body in one response object, or streamed in so many writes."""

    async def serve(sock: socket.socket, ready: Ready) -> None:
        from aiohttp import web

        chunk = BODY[: BODY_SIZE // parts]

        async def whole(request: web.Request) -> web.StreamResponse:
            return web.Response(body=BODY, content_type="text/plain")

        async def streamed(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            response.content_type = "text/plain"
            response.content_length = BODY_SIZE
            await response.prepare(request)
            for _ in range(parts):
                await response.write(chunk)
            await response.write_eof()
            return response

        application = web.Application()
        application.router.add_get("/", whole if parts == 1 else streamed)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.SockSite(runner, sock, backlog=BACKLOG).start()
        ready()
        await for_ever()

    return serve


async def tornado(sock: socket.socket, ready: Ready) -> None:
    """A Tornado application."""
    from tornado import httpserver, web

    class Handler(web.RequestHandler):
        def get(self) -> None:
            self.set_header("Content-Type", "text/plain")
            self.write(BODY)

        def compute_etag(self) -> None:
            """Not a hash of the body for each request."""

    application = web.Application([("/", Handler)], log_function=lambda handler: None)
    httpserver.HTTPServer(application).add_sockets([sock])
    ready()
    await for_ever()


CASES: dict[str, Case] = {
    "echo": protocol(Echo),
    "write-block": protocol(BlockingEcho),
    "unix": unix,
    "tls": tls,
    "buffered": protocol(BufferedEcho),
    "streams-read": streams(echo_read),
    "streams-readline": streams(echo_lines),
    "sock": sock_methods,
    "udp": datagrams(DatagramEcho),
    "udp-sink": datagrams(Sink),
    "udp-batch": datagrams(BatchSink),
    "http-1": protocol(MinimalHttp),
    "http-2": protocol(MinimalHttpInTwo),
    "uvicorn-1": uvicorn(1),
    "uvicorn-2": uvicorn(2),
    "aiohttp-1": aiohttp(1),
    "aiohttp-2": aiohttp(2),
    "tornado": tornado,
}


async def for_ever() -> None:
    """Never returns; cancellable."""
    await asyncio.get_running_loop().create_future()


def listen(port: int) -> socket.socket:
    """A listening, non-blocking socket on the loopback address."""
    # With the protocol named: asyncio sets TCP_NODELAY only where it says TCP.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def main() -> None:
    """Serves one case until killed."""
    parser = argparse.ArgumentParser(description="One server of the benchmark, until it is killed.")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--loop", default="asyncio", help="a loop's name in loops.py")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--life", type=int, default=300, help="end after so many seconds")
    args = parser.parse_args()

    # The default action of SIGALRM ends the process, whatever the loop is doing.
    signal.alarm(args.life)
    # A proper exit, at which an extension that counts for the compiler writes down its counts.
    signal.signal(signal.SIGUSR1, lambda number, frame: sys.exit())
    sock = listen(args.port)
    facts = {"port": sock.getsockname()[1], "pid": os.getpid()}
    loop = new_loop(args.loop)
    asyncio.set_event_loop(loop)

    def ready(**more: str) -> None:
        print(json.dumps(facts | more), flush=True)

    loop.run_until_complete(CASES[args.case](sock, ready))


if __name__ == "__main__":
    main()
