"""Cases without a client: the measured process runs them itself, and measures them.

What scheduling.py and pipes.py share. `main()` prints one line of JSON for each case as soon as it
has its figure, `{"case": NAME, "cost": FIGURE}` or with an `"error"` in the place of the cost: when
a case ends the process, or its time is up, the reader knows which one it was, and has the others.

The cost is the CPU time of one operation, of all threads of this process. The first runs of a case
are not in it.
"""

import argparse
import asyncio
import gc
import json
import signal
import time
from collections.abc import Callable, Coroutine, Mapping

from loops import new_loop

BATCH = 100
SAMPLES = 4
# A case that takes longer ends the process.
CASE_SECONDS = 30

# Does about so many operations, and says how many it did.
Case = Callable[[int], Coroutine[None, None, int]]
# Makes what is to be there during a case, and not in its figure.
Preparation = Callable[[], Coroutine[None, None, list[asyncio.TimerHandle]]]


def measure(loop: asyncio.AbstractEventLoop, case: Case, seconds: float) -> float:
    """CPU nanoseconds of one operation: the cheapest of runs of about so many CPU seconds each."""

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
    # What else the machine does only ever adds.
    return min(elapsed / done for elapsed, done in (sample(count) for _ in range(SAMPLES)))


def main(
    cases: Mapping[str, Case],
    description: str,
    nanoseconds: float = 1,
    prepared: Mapping[str, Preparation] | None = None,
) -> None:
    """Measures the cases asked for; the figures are in units of so many nanoseconds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--loop", default="asyncio", help="a loop's name in loops.py")
    parser.add_argument("--cases", nargs="*", default=list(cases), choices=cases)
    parser.add_argument("--seconds", type=float, default=0.15, help="of one sample")
    args = parser.parse_args()

    loop = new_loop(args.loop)
    try:
        asyncio.set_event_loop(loop)
        for name in args.cases:
            # The default action of SIGALRM ends the process, whatever the loop is doing.
            signal.alarm(CASE_SECONDS)
            prepare = (prepared or {}).get(name)
            try:
                handles = loop.run_until_complete(prepare()) if prepare else []
                cost = measure(loop, cases[name], args.seconds)
                for handle in handles:
                    handle.cancel()
            except Exception as error:
                # Whatever a loop does not have is its own affair.
                tell(case=name, error=f"{type(error).__name__}: {error}")
            else:
                tell(case=name, cost=cost / nanoseconds)
    finally:
        loop.close()


def tell(**facts: object) -> None:
    """One line for the reader."""
    print(json.dumps(facts), flush=True)
