"""An echo server on a protocol, with `oxlip.run` in the place of `asyncio.run`.

    python examples/echo.py                 then, in another terminal: nc 127.0.0.1 8080

HOST and PORT say where it listens; OXLIP_DRIVER chooses the driver.
"""

from __future__ import annotations

import asyncio
import os

import oxlip


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    # A peer that sends faster than it reads is not read from until it has caught up.
    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


async def main() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, oxlip.EventLoop)
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080"))
    server = await loop.create_server(Echo, host, port)
    where = server.sockets[0].getsockname()
    print(f"echoing on {where[0]} port {where[1]}, driver {loop.driver}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        oxlip.run(main())
    except KeyboardInterrupt:
        pass
