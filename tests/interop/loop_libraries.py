"""A program: libraries that reach into the loop, each doing on it what it is for.

loop_libraries.py KIND WHAT

WHAT is the name of a function below. What it prints must be the same on every loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from support import loops

Make = Callable[[], asyncio.AbstractEventLoop]


def run(make: Make, coroutine: Coroutine[Any, Any, Any]) -> Any:
    loop = make()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(coroutine)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def nest_asyncio(make: Make) -> None:
    """Loops that run within their own callbacks: `asyncio.run` inside of `asyncio.run`."""
    import nest_asyncio

    loop = make()
    asyncio.set_event_loop(loop)
    nest_asyncio.apply(loop)
    order: list[str] = []

    async def beside() -> None:
        for number in range(3):
            order.append(f"beside {number}")
            await asyncio.sleep(0)

    async def inner(depth: int) -> int:
        await asyncio.sleep(0.001)
        assert asyncio.current_task() is not None
        if depth:
            return asyncio.run(inner(depth - 1)) + 1
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"hello\n")
        order.append((await reader.readline()).decode().strip())
        writer.close()
        return 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    async def main() -> None:
        task = asyncio.ensure_future(beside())
        order.append(f"depth {loop.run_until_complete(inner(3))}")
        await task
        with contextlib.suppress(LookupError):
            loop.run_until_complete(failing())
        order.append(f"with a limit {await asyncio.wait_for(inner(1), 5)}")

    async def failing() -> None:
        raise LookupError

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    asyncio.run(main())
    server.close()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    print(order)


def asynkit(make: Make) -> None:
    """Coroutines that start at once, and the queue of what is ready, looked at and changed."""
    import asynkit
    from asynkit.loop.extensions import get_scheduling_loop

    order: list[object] = []

    async def note(name: str) -> str:
        order.append(f"{name} begins")
        await asyncio.sleep(0)
        order.append(f"{name} ends")
        return name

    async def main() -> None:
        eager = asynkit.eager(note("eager"))
        order.append("after eager")
        later = asyncio.create_task(note("later"), name="later")
        descended = await asynkit.create_task_descend(note("descended"))
        order.append(await descended)
        order.append(await eager)
        await later
        tasks = [asyncio.create_task(note(str(number)), name=str(number)) for number in range(5)]
        order.append(sorted(task.get_name() for task in asynkit.runnable_tasks()))
        asynkit.task_reinsert(tasks[4], 0)
        await asynkit.sleep_insert(1)
        order.append("inserted")
        await asynkit.task_switch(tasks[3])
        await asyncio.gather(*tasks)
        scheduling = get_scheduling_loop()
        handle = scheduling.call_pos(0, order.append, "first")
        scheduling.queue_remove(handle)
        asyncio.get_running_loop().call_soon(order.append, "second")
        scheduling.call_pos(0, order.append, "first after all")
        order.append(scheduling.queue_len())
        await asyncio.sleep(0)

    run(make, main())
    print(order)


def aiocop(make: Make) -> None:
    """Callbacks that hold the loop up are reported, with what they did."""
    import aiocop

    reported: list[list[str]] = []

    def report(event: Any) -> None:
        if event.exceeded_threshold:
            reported.append(
                [str(each["event"]).partition("(")[0] for each in event.blocking_events]
            )

    async def quick() -> None:
        await asyncio.sleep(0)

    async def slow() -> None:
        await asyncio.sleep(0)
        time.sleep(0.06)
        await asyncio.sleep(0)

    async def main() -> None:
        aiocop.detect_slow_tasks(threshold_ms=50, on_slow_task=report, cpu_sampling=False)
        aiocop.activate()
        loop = asyncio.get_running_loop()
        await asyncio.gather(quick(), slow(), quick())
        done = loop.create_future()
        loop.call_later(0.001, time.sleep, 0.06)
        loop.call_soon_threadsafe(loop.call_later, 0.002, done.set_result, None)
        await done
        aiocop.deactivate()
        time.sleep(0.06)

    aiocop.patch_audit_functions()
    aiocop.start_blocking_io_detection(trace_depth=5)
    run(make, main())
    print(reported)


def looptime(make: Make) -> None:
    """Hours that pass at once, beside real connections and threads."""
    import looptime

    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        seen: list[object] = []

        def note(what: object) -> None:
            seen.append((what, round(loop.time() - began)))

        loop.call_at(loop.time() + 50, note, "a timer")
        cancelled = loop.call_later(60, note, "never")
        loop.call_later(55, cancelled.cancel)
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(1800))
        note("slept")
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(loop.create_future(), 7200)
        note("waited")
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        seen.append(await reader.read())
        writer.close()
        server.close()
        note("talked")
        await asyncio.sleep(1)
        note("over")
        return seen

    loop = make()
    patched = looptime.patch_event_loop(loop, start=100)
    print(isinstance(loop, asyncio.BaseEventLoop), patched is loop)
    began = time.monotonic()
    print(loop.run_until_complete(main()), loop.time())
    assert time.monotonic() - began < 10
    loop.close()


if __name__ == "__main__":
    globals()[sys.argv[2]](loops.factory(sys.argv[1]))
