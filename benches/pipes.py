"""What pipes and children cost this process: CPU microseconds per operation.

`python benches/pipes.py --loop NAME` runs every case in this process; see inprocess.py. What a
child itself takes is not in the figure.
"""

import asyncio
import os
import subprocess
from typing import Any

from inprocess import BATCH, Case, main

MESSAGE = b"x" * 64
BLOCK = b"x" * 64 * 1024


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


async def pipe_echo(count: int) -> int:
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


async def spawn(count: int) -> int:
    """Children that do nothing, one after the other, until each has ended."""
    rounds = max(1, count // BATCH)
    for _ in range(rounds):
        process = await asyncio.create_subprocess_exec("true", stdin=subprocess.DEVNULL)
        if await process.wait():
            raise ChildProcessError("true did not succeed")
    return rounds


async def child_pipes(count: int) -> int:
    """Blocks of 64 KiB through a child that copies its input to its output."""
    process = await asyncio.create_subprocess_exec(
        "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    writer, reader = process.stdin, process.stdout
    assert writer is not None and reader is not None

    async def write() -> None:
        for _ in range(count):
            writer.write(BLOCK)
            await writer.drain()
        writer.close()

    task = asyncio.ensure_future(write())
    received = 0
    while data := await reader.read(len(BLOCK)):
        received += len(data)
    await task
    await process.wait()
    if received != count * len(BLOCK):
        raise EOFError(f"{received} bytes came back of {count * len(BLOCK)}")
    return count


CASES: dict[str, Case] = {
    "spawn": spawn,
    "child": child,
    "child_pipes": child_pipes,
    "pipe_echo": pipe_echo,
}


if __name__ == "__main__":
    main(CASES, "CPU microseconds per operation on pipes and children.", nanoseconds=1000)
