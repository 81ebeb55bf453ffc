"""A program: tasks that wait for each other and for the loop, until its input ends.

waiting_tasks.py KIND [installed]
"""

from __future__ import annotations

import asyncio
import sys
import warnings

from support import loops


async def until_input_ends() -> None:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(0, ended.set_result, None)
    print("ready", flush=True)
    await ended
    loop.remove_reader(0)


async def leaf(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def branch() -> None:
    await asyncio.gather(
        asyncio.create_task(leaf(3600), name="sleeper"),
        asyncio.create_task(asyncio.wait_for(leaf(3600), 3600), name="limited"),
    )


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        waiting = [
            group.create_task(branch(), name="branch"),
            group.create_task(leaf(1800), name="leaf"),
        ]
        for _ in range(3):
            await asyncio.sleep(0)
        await until_input_ends()
        for task in waiting:
            task.cancel()


if __name__ == "__main__":
    if sys.argv[2:] == ["installed"]:
        import oxlip

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            oxlip.install()
    with asyncio.Runner(loop_factory=loops.factory(sys.argv[1])) as runner:
        runner.run(main())
