"""A program: an object that lives as long as the interpreter uses asyncio when it is freed.

    install_at_the_end.py KIND

What stands behind asyncio's names after `oxlip.install()` is used there for the first time, where
nothing can be imported any more.
"""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType

from support import loops

if loops.is_ours(sys.argv[1]):
    import oxlip

    oxlip.install()


class Client:
    def __init__(self) -> None:
        # The names of this module are gone by then.
        self.asyncio = asyncio
        self.has_groups = sys.version_info >= (3, 11)
        self.loop = loops.factory(sys.argv[1])()

    def __del__(self) -> None:
        print(self.loop.run_until_complete(self.close(self.asyncio)))
        self.loop.close()

    async def close(self, asyncio: ModuleType) -> str:
        condition, semaphore = asyncio.Condition(), asyncio.BoundedSemaphore()
        queue, event, lock = asyncio.Queue(1), asyncio.Event(), asyncio.Lock()
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
