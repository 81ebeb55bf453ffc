"""A chat room with live figures of the server: an aiohttp program that knows nothing of oxlip.

    python examples/webapp.py               on asyncio's own loop
    oxlip run examples/webapp.py            on oxlip's
    make run                                the same, after building it

HOST and PORT say where it listens. Open the address in two browser windows.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

PAGE = Path(__file__).with_suffix(".html")
LONGEST_LINE = 500
REPORT_EVERY = 0.5


class Room:
    """Who is here, what is sent to all, and what is counted."""

    def __init__(self) -> None:
        self.members: dict[web.WebSocketResponse, str] = {}
        self.received = 0
        self.sent = 0
        self.opened = time.monotonic()
        self._numbers = itertools.count(1)

    def enter(self, socket: web.WebSocketResponse) -> str:
        name = f"guest {next(self._numbers)}"
        self.members[socket] = name
        return name

    async def send(self, socket: web.WebSocketResponse, kind: str, **fields: Any) -> None:
        try:
            await socket.send_json({"kind": kind, **fields})
        except ConnectionError:
            self.members.pop(socket, None)
        else:
            self.sent += 1

    async def tell_all(self, kind: str, **fields: Any) -> None:
        await asyncio.gather(*(self.send(member, kind, **fields) for member in [*self.members]))

    async def report(self) -> None:
        """Tells everybody, twice a second, how the server is doing."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(REPORT_EVERY)
            late = loop.time() - before - REPORT_EVERY
            await self.tell_all(
                "stats",
                here=len(self.members),
                received=self.received,
                sent=self.sent,
                uptime=time.monotonic() - self.opened,
                late=late * 1e6,
                cpu=time.process_time(),
            )


ROOM = web.AppKey("room", Room)


async def page(request: web.Request) -> web.Response:
    return web.Response(text=PAGE.read_text(encoding="utf-8"), content_type="text/html")


async def live(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(heartbeat=30)
    await socket.prepare(request)
    room = request.app[ROOM]
    name = room.enter(socket)
    loop = asyncio.get_running_loop()
    await room.send(
        socket,
        "welcome",
        name=name,
        loop=f"{type(loop).__module__}.{type(loop).__qualname__}",
        driver=getattr(loop, "driver", ""),
    )
    await room.tell_all("note", text=f"{name} came in")
    try:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            room.received += 1
            try:
                said = json.loads(message.data)
                kind, value = said["kind"], said["value"]
            except (ValueError, TypeError, KeyError):
                continue
            if kind == "ping":
                await room.send(socket, "pong", value=value)
            elif kind == "say":
                await room.tell_all("say", name=name, text=str(value)[:LONGEST_LINE])
    finally:
        room.members.pop(socket, None)
        await room.tell_all("note", text=f"{name} left")
    return socket


async def reports(app: web.Application) -> AsyncIterator[None]:
    """Runs beside the server from its start to its end."""
    task = asyncio.create_task(app[ROOM].report())
    yield
    task.cancel()


async def close_sockets(app: web.Application) -> None:
    for socket in [*app[ROOM].members]:
        await socket.close(code=1001, message=b"the server ends")


def application() -> web.Application:
    app = web.Application()
    app[ROOM] = Room()
    app.add_routes([web.get("/", page), web.get("/live", live)])
    app.cleanup_ctx.append(reports)
    app.on_shutdown.append(close_sockets)
    return app


if __name__ == "__main__":
    web.run_app(
        application(),
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ.get("PORT", "8080")),
    )
