"""A program: an object that lives as long as the interpreter uses asyncio when it is freed.

    primitives_at_the_end.py KIND MODE

What stands behind asyncio's names after `oxlip.install()`, or the same classes as oxlip's (MODE
"imported"), is used there for the first time, where nothing can be imported any more.
"""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType

from support import loops

kind, mode = sys.argv[1:]
primitives: ModuleType = asyncio

if loops.is_ours(kind):
    import oxlip

    if mode == "imported":
        primitives = oxlip
    else:
        oxlip.install()


class Client:
    def __init__(self) -> None:
        # The names of this module are gone by then.
        self.asyncio, self.primitives = asyncio, primitives
        self.has_groups = sys.version_info >= (3, 11)
        self.loop = loops.factory(kind)()

    def __del__(self) -> None:
        print(self.loop.run_until_complete(self.close(self.asyncio, self.primitives)))
        self.loop.close()

    async def close(self, asyncio: ModuleType, primitives: ModuleType) -> str:
        condition, semaphore = primitives.Condition(), primitives.BoundedSemaphore()
        queue, event, lock = primitives.Queue(1), primitives.Event(), primitives.Lock()
        waiting = [
            asyncio.create_task(queue.get()),
            asyncio.ensure_future(event.wait()),
            asyncio.create_task(self.take(lock)),
        ]
        async with condition, semaphore, lock:
            condition.notify_all()
            await asyncio.sleep(0)
            queue.put_nowait(5)
            event.set()
        results = await asyncio.wait_for(asyncio.gather(*waiting), 10)
        try:
            queue.get_nowait()
        except asyncio.QueueEmpty:
            results.append("empty")
        try:
            await asyncio.wait_for(queue.get(), 0.001)
        except asyncio.TimeoutError:
            results.append("late")
        done, _ = await asyncio.wait([asyncio.create_task(asyncio.sleep(0))])
        assert "Task finished" in repr(done)
        if self.has_groups:
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return str(results)

    async def take(self, lock: asyncio.Lock) -> str:
        async with lock:
            return "taken"


client = Client()
