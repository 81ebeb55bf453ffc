"""How late timers fire: sleeps of a few lengths, on asyncio's loop and on oxlip's.

python examples/timers.py
"""

from __future__ import annotations

import asyncio
import statistics

import oxlip

LENGTHS = (0.0001, 0.001, 0.005)
SLEEPS = 50


async def lateness(length: float) -> list[float]:
    """By how many microseconds each of some sleeps was longer than asked. Never negative."""
    loop = asyncio.get_running_loop()
    late = []
    for _ in range(SLEEPS):
        before = loop.time()
        await asyncio.sleep(length)
        late.append((loop.time() - before - length) * 1e6)
    return late


def measure(loop: asyncio.AbstractEventLoop) -> None:
    try:
        for length in LENGTHS:
            late = loop.run_until_complete(lateness(length))
            print(
                f"{type(loop).__module__:22}{length * 1000:6.1f} ms: late by"
                f" {statistics.median(late):7.1f} µs (median), {max(late):7.1f} µs (worst)"
            )
    finally:
        loop.close()


if __name__ == "__main__":
    measure(asyncio.SelectorEventLoop())
    measure(oxlip.new_event_loop())
