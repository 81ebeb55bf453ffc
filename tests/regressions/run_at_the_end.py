"""A program: an object that lives as long as the interpreter uses its loop when it is freed.

    run_at_the_end.py KIND

Nothing can be imported there any more, not even what is imported already.
"""

from __future__ import annotations

import asyncio
import sys

from support import loops


class Client:
    def __init__(self) -> None:
        self.loop = loops.factory(sys.argv[1])()

    def __del__(self) -> None:
        self.loop.call_soon(print, "soon")
        shown = repr(self.loop.call_later(0, print))
        print("TimerHandle" in shown, self.loop.run_until_complete(self.close()))
        self.loop.close()

    async def close(self, sleep=asyncio.sleep, gather=asyncio.gather) -> str:  # type: ignore[no-untyped-def]
        future = self.loop.create_future()
        self.loop.call_later(0.001, future.set_result, None)
        await future
        await gather(sleep(0.001), self.loop.create_task(sleep(0)))
        return "closed"


client = Client()
