"""A program: an object that lives as long as the interpreter uses its loop when it is freed.

    run_at_the_end.py KIND

Nothing can be imported there any more, not even what is imported already.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from support import loops


class Client:
    def __init__(self) -> None:
        self.loop = loops.factory(sys.argv[1])()

    def __del__(self) -> None:
        self.loop.call_soon(print, "soon")
        shown = repr(self.loop.call_later(0, print))
        print("TimerHandle" in shown, self.loop.run_until_complete(self.close()))
        print(self.loop.run_until_complete(self.talk()))
        self.loop.close()

    async def close(self, sleep=asyncio.sleep, gather=asyncio.gather) -> str:  # type: ignore[no-untyped-def]
        future = self.loop.create_future()
        self.loop.call_later(0.001, future.set_result, None)
        await future
        await gather(sleep(0.001), self.loop.create_task(sleep(0)))
        return "closed"

    async def talk(self, protocol: Any = asyncio.Protocol) -> str:
        accepted = self.loop.create_future()

        class Peer(protocol):  # type: ignore[misc]
            def connection_made(self, transport: asyncio.Transport) -> None:
                accepted.set_result(transport)

        server = await self.loop.create_server(Peer, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        ours, _ = await self.loop.create_connection(protocol, *address)
        theirs = await accepted
        names = [end.get_extra_info("socket").getsockname() for end in (ours, theirs)]
        ours.abort()
        theirs.abort()
        server.close()
        return "connected" if names[1] == address != names[0] else str(names)


client = Client()
