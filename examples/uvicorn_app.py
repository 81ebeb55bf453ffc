"""A bare ASGI application under uvicorn, which makes its loop by a factory.

    python examples/uvicorn_app.py

uvicorn's command line can be told the same: `uvicorn --loop oxlip:new_event_loop uvicorn_app:app`,
or left alone: `oxlip run -m uvicorn uvicorn_app:app`. HOST and PORT say where it listens.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Message = dict[str, Any]


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    loop = asyncio.get_running_loop()
    body = f"served by {type(loop).__module__}, driver {getattr(loop, 'driver', 'asyncio')}\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


if __name__ == "__main__":
    uvicorn.run(
        app,
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ.get("PORT", "8080")),
        loop="oxlip:new_event_loop",
        lifespan="off",
    )
