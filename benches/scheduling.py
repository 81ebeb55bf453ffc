"""What the loop's own operations cost, without any I/O: CPU nanoseconds per operation.

`python benches/scheduling.py --loop NAME` runs every case in this process and prints one line of
JSON. The runner starts one such process per contestant and round. The CPU time of all threads
counts; the first runs of a case are not in the figure.
"""

import argparse
import asyncio
import gc
import json
import statistics
import threading
import time
from collections.abc import Callable, Coroutine

from loops import new_loop

BATCH = 100
SAMPLES = 3

# Does about so many operations, and says how many it did.
Case = Callable[[int], Coroutine[None, None, int]]


def nothing() -> None:
    """The callback of the cases."""


async def nothing_soon() -> None:
    """The coroutine of the cases."""


async def call_soon(count: int) -> int:
    """Callbacks scheduled a hundred at a time: what one costs once the tick is paid for."""
    loop = asyncio.get_running_loop()
    for _ in range(count // BATCH):
        for _ in range(BATCH):
            loop.call_soon(nothing)
        await asyncio.sleep(0)
    return count // BATCH * BATCH


async def tick(count: int) -> int:
    """A callback that schedules itself: what a whole tick costs."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def again() -> None:
        nonlocal left
        left -= 1
        if left > 0:
            loop.call_soon(again)
        else:
            done.set_result(None)

    loop.call_soon(again)
    await done
    return count


async def call_later_cancel(count: int) -> int:
    """Timers that are cancelled before they are due, as those of requests that end in time are."""
    loop = asyncio.get_running_loop()
    for _ in range(count // BATCH):
        handles = [loop.call_later(60, nothing) for _ in range(BATCH)]
        for handle in handles:
            handle.cancel()
        await asyncio.sleep(0)
    return count // BATCH * BATCH


async def sleep_zero(count: int) -> int:
    """A hundred tasks that give way to each other."""

    async def give_way() -> None:
        for _ in range(count // BATCH):
            await asyncio.sleep(0)

    await asyncio.wait([asyncio.ensure_future(give_way()) for _ in range(BATCH)])
    return count // BATCH * BATCH


async def task_spawn(count: int) -> int:
    """Tasks whose coroutine ends at once, awaited one by one."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.create_task(nothing_soon())
    return count


async def gather(count: int) -> int:
    """`gather` of a hundred coroutines; one operation is one of them."""
    for _ in range(count // BATCH):
        await asyncio.gather(*[nothing_soon() for _ in range(BATCH)])
    return count // BATCH * BATCH


async def ping_pong(count: int) -> int:
    """Two tasks that wake each other by futures; one operation is there and back."""
    loop = asyncio.get_running_loop()
    ping: asyncio.Future[None] = loop.create_future()
    pong: asyncio.Future[None] = loop.create_future()

    async def returner() -> None:
        nonlocal ping
        for _ in range(count):
            await ping
            ping = loop.create_future()
            pong.set_result(None)

    task = asyncio.ensure_future(returner())
    for _ in range(count):
        pong = loop.create_future()
        ping.set_result(None)
        await pong
    await task
    return count


async def threadsafe(count: int) -> int:
    """Callbacks that another thread schedules as fast as it can."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def schedule() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=schedule)
    thread.start()
    await done
    thread.join()
    return count


CASES: dict[str, Case] = {
    "call_soon": call_soon,
    "tick": tick,
    "call_later_cancel": call_later_cancel,
    "sleep_zero": sleep_zero,
    "task_spawn": task_spawn,
    "gather": gather,
    "ping_pong": ping_pong,
    "threadsafe": threadsafe,
}


def measure(loop: asyncio.AbstractEventLoop, case: Case, seconds: float) -> float:
    """CPU nanoseconds of one operation: the median of runs of about so many CPU seconds each."""

    def sample(count: int) -> tuple[int, int]:
        gc.collect()
        start = time.process_time_ns()
        done = loop.run_until_complete(case(count))
        return time.process_time_ns() - start, done

    count = 10 * BATCH
    elapsed, _ = sample(count)
    # A short run is no good guess for a long one: grow towards the wanted length.
    while elapsed < seconds * 0.5e9:
        count = int(count * min(10.0, seconds * 1.1e9 / max(elapsed, 1)))
        elapsed, _ = sample(count)
    return statistics.median(
        elapsed / done for elapsed, done in (sample(count) for _ in range(SAMPLES))
    )


def main() -> None:
    """Measures the cases asked for."""
    parser = argparse.ArgumentParser(description="CPU nanoseconds per scheduling operation.")
    parser.add_argument("--loop", default="asyncio", help="a loop's name in loops.py")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--seconds", type=float, default=0.15, help="of one sample")
    args = parser.parse_args()

    loop = new_loop(args.loop)
    try:
        asyncio.set_event_loop(loop)
        costs = {name: measure(loop, CASES[name], args.seconds) for name in args.cases}
    finally:
        loop.close()
    print(json.dumps(costs))


if __name__ == "__main__":
    main()
