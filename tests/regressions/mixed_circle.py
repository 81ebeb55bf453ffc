"""A program: cancels one of many tasks, the loop's and asyncio's own, that wait for each other.

mixed_circle.py KIND circle|chain
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from support import loops

kind, shape = sys.argv[1:]
if loops.is_ours(kind):
    import oxlip

    oxlip.install()

PAIRS = 300


async def main() -> None:
    loop = asyncio.get_running_loop()
    waits_for: dict[int, Any] = {}

    async def wait(number: int) -> None:
        await waits_for[number]

    tasks: list[asyncio.Task[None]] = []
    for number in range(0, 2 * PAIRS if shape == "chain" else 2, 2):
        tasks.append(loop.create_task(wait(number)))
        tasks.append(asyncio.Task(wait(number + 1), loop=loop))
    last = loop.create_future() if shape == "chain" else tasks[0]
    for number, task in enumerate([*tasks[1:], last]):
        waits_for[number] = task
    for _ in range(3):
        await asyncio.sleep(0)
    try:
        print(tasks[0].cancel())
    except RecursionError:
        print("RecursionError")
    if shape == "chain":
        await asyncio.wait(tasks)
        print(all(task.cancelled() for task in tasks), last.cancelled())
    sys.stdout.flush()
    # Nothing ends a circle.
    os._exit(0)


loops.factory(kind)().run_until_complete(main())
