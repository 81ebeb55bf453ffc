"""What pipes and children cost this process: CPU nanoseconds per operation.

`python benches/pipes.py --loop NAME` prints one line of JSON, as scheduling.py does. It is run by
hand and is no part of `make bench`, since not every contestant has pipes. What a child itself takes
is not in the figure.
"""

import argparse
import asyncio
import json
import os
import subprocess
from typing import Any

from loops import new_loop
from scheduling import BATCH, Case, measure

MESSAGE = b"x" * 64


class Back(asyncio.Protocol):
    """Answers what it reads by writing into the next pipe, until enough has come round."""

    def __init__(self, count: int, done: asyncio.Future[None]) -> None:
        self.left = count
        self.done = done
        self.next: Any = None

    def data_received(self, data: bytes) -> None:
        self.left -= 1
        if self.left > 0:
            self.next.write(data)
        elif not self.done.done():
            self.done.set_result(None)


async def echo(count: int) -> int:
    """A small message through a pipe, whose reader writes it into the same pipe again."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    read, write = os.pipe()
    back = Back(count, done)
    reader, _ = await loop.connect_read_pipe(lambda: back, open(read, "rb", buffering=0))
    writer, _ = await loop.connect_write_pipe(
        asyncio.BaseProtocol,
        open(write, "wb", buffering=0),
    )
    back.next = writer
    writer.write(MESSAGE)
    await done
    writer.close()
    reader.close()
    await asyncio.sleep(0)
    return count


async def child(count: int) -> int:
    """Children that end at once, ten at a time, with what they say."""

    async def one() -> None:
        process = await asyncio.create_subprocess_exec(
            "echo", "hello", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        await process.communicate()

    rounds = max(1, count // BATCH // 10)
    for _ in range(rounds):
        await asyncio.gather(*(one() for _ in range(10)))
    return rounds * 10


CASES: dict[str, Case] = {"echo": echo, "child": child}


def main() -> None:
    """Measures the cases asked for."""
    parser = argparse.ArgumentParser(description="CPU nanoseconds per operation on pipes.")
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
