"""What `oxlip bench` prints: a few figures of asyncio and of oxlip, side by side in one process.

It shows whether a build does what it should on this machine, in a few seconds and with nothing
but the standard library. Client and server share one loop and one core here, so it says little
about a server under load. The repository's benchmarks (`make bench`) measure that, and compare
with uvloop.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from ._loop import EventLoop

Case = Callable[[], Awaitable[int]]

ROUNDS = 5


async def call_soon() -> int:
    """Callbacks, each of which schedules the next."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = 50_000

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    count = left
    loop.call_soon(step)
    await done
    return count


async def timers() -> int:
    """Time-outs that are set and cancelled, as around every request of a server."""
    loop = asyncio.get_running_loop()
    count = 50_000
    for start in range(0, count, 500):
        for handle in [loop.call_later(60 + i, print) for i in range(start, start + 500)]:
            handle.cancel()
        await asyncio.sleep(0)
    return count


async def echo() -> int:
    """1 KiB there and back over loopback TCP, with streams at both ends."""
    message = b"x" * 1024
    count = 2_000
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
        await writer.wait_closed()
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(count):
        writer.write(message)
        await reader.readexactly(len(message))
    writer.close()
    await writer.wait_closed()
    await served.wait()
    server.close()
    await server.wait_closed()
    return count


def cpu_time(case: Case, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> float:
    """Microseconds of processor time for one operation."""
    loop = new_loop()
    try:
        started = time.process_time_ns()
        count = loop.run_until_complete(_awaited(case))
        return (time.process_time_ns() - started) / 1000 / count
    finally:
        loop.close()


async def _awaited(case: Case) -> int:
    return await case()


def main() -> None:
    """Alternates the two loops, and prints the median of the rounds."""
    print(f"processor time of one operation in µs, median of {ROUNDS} rounds in one process")
    print(f"{'':12}{'asyncio':>10}{'oxlip':>10}{'ratio':>8}")
    cases: tuple[Case, ...] = (call_soon, timers, echo)
    for case in cases:
        figures: dict[Callable[[], asyncio.AbstractEventLoop], list[float]] = {
            asyncio.SelectorEventLoop: [],
            EventLoop: [],
        }
        for _ in range(ROUNDS):
            for new_loop, measured in figures.items():
                measured.append(cpu_time(case, new_loop))
        theirs, ours = (statistics.median(measured) for measured in figures.values())
        name = getattr(case, "__name__", "")
        print(f"{name:12}{theirs:10.2f}{ours:10.2f}{theirs / ours:8.2f}")
