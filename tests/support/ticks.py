"""Running a loop for a counted number of ticks."""

from __future__ import annotations

import asyncio


def turn(loop: asyncio.AbstractEventLoop, ticks: int = 1) -> None:
    """Runs the callbacks that are ready now; with `ticks`, as many batches."""
    for _ in range(ticks):
        loop.call_soon(loop.stop)
        loop.run_forever()


async def pause(ticks: int = 1) -> None:
    """Lets that many ticks pass, from within a task."""
    for _ in range(ticks):
        await asyncio.sleep(0)
