"""A program that ends, forks or closes its loop while a file is written."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import warnings
from typing import Any

import oxlip
from support import loops

kind, what, path, buffering, size = sys.argv[1:]
data = b"x" * int(size)


async def begun() -> tuple[Any, Any]:
    f = await oxlip.open(path, "ab", int(buffering))
    task = asyncio.ensure_future(f.write(data))
    if what != "close at once":
        await asyncio.sleep(0)
    return f, task


async def ended(f: Any, task: Any) -> None:
    try:
        await task
    except OSError:
        pass
    await f.close()


warnings.simplefilter("ignore")
loop = loops.factory(kind)()
f, task = loop.run_until_complete(begun())
if what == "exit":
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    sys.exit()
if what.startswith("close"):
    # Not to report that the task is lost: it is.
    task._log_destroy_pending = False
    loop.close()
    del f, task, loop
    gc.collect()
if what == "fork":
    child = os.fork()
    if child:
        # One after the other: asyncio's loop shares its waker with the parent's.
        _, status = os.waitpid(child, 0)
        assert status == 0
    loop.run_until_complete(asyncio.wait_for(ended(f, task), 10))
    if child == 0:
        os._exit(0)
    loop.close()
