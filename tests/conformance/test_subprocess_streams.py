"""`asyncio.create_subprocess_exec` and its kin over the loop's transports, and cancellation."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio import create_subprocess_exec, create_subprocess_shell
from asyncio.subprocess import DEVNULL, PIPE

import pytest
from support.processes import no_children
from support.protocols import PATIENCE
from support.ticks import pause

Loop = asyncio.AbstractEventLoop

__all__ = ["no_children"]
pytestmark = pytest.mark.usefixtures("no_children")


async def test_communicate(loop: Loop) -> None:
    data = os.urandom(1 << 20) * 3
    process = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert await process.communicate(data) == (data, b"")
    assert process.returncode == 0


async def test_communicate_without_input(loop: Loop) -> None:
    process = await create_subprocess_shell("cat; exit 3", stdin=PIPE, stdout=PIPE)
    # Not without an argument, which leaves the input open before 3.12.
    assert await process.communicate(b"") == (b"", None)
    assert process.returncode == 3


async def test_communicate_with_a_child_that_does_not_read(loop: Loop) -> None:
    process = await create_subprocess_shell("exec <&-; echo done", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"x" * (1 << 20)) == (b"done\n", None)


async def test_a_dialogue(loop: Loop) -> None:
    process = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None and process.stdout is not None
    for number in range(50):
        process.stdin.write(b"%d\n" % number)
        await process.stdin.drain()
        assert await process.stdout.readline() == b"%d\n" % number
    process.stdin.close()
    await process.stdin.wait_closed()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_a_slow_reader_holds_the_child_up(loop: Loop) -> None:
    process = await create_subprocess_exec(
        "head", "-c", "3000000", "/dev/zero", stdout=PIPE, limit=1000
    )
    assert process.stdout is not None
    total = 0
    while data := await process.stdout.read(100_000):
        total += len(data)
        await pause()
    assert total == 3_000_000
    assert await process.wait() == 0


async def test_everybody_who_waits_is_told(loop: Loop) -> None:
    process = await create_subprocess_shell("read line; exit 3", stdin=PIPE)
    waiting = [asyncio.ensure_future(process.wait()) for _ in range(10)]
    await pause(3)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    assert await asyncio.gather(*waiting) == [3] * 10
    assert await process.wait() == 3


async def test_cancelled_wait(loop: Loop) -> None:
    process = await create_subprocess_shell("read line", stdin=PIPE)
    task = asyncio.ensure_future(process.wait())
    await pause(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    process.kill()
    assert await process.wait() == -signal.SIGKILL


async def test_cancelled_communicate(loop: Loop) -> None:
    process = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    task = asyncio.ensure_future(process.communicate(b"x" * (1 << 20)))
    await pause(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    process.kill()
    assert process.stdout is not None
    # Reading may be paused, and then nobody would see the end.
    await asyncio.gather(process.stdout.read(), process.wait())


async def test_communicate_that_runs_out_of_time(loop: Loop) -> None:
    process = await create_subprocess_shell("echo x; read line", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(process.stdout.readexactly(10), 0.05)  # type: ignore[union-attr]
    process.stdin.write(b"\n")
    await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("ticks", range(7))
@pytest.mark.parametrize("files", [None, PIPE])
async def test_cancelled_while_starting(loop: Loop, ticks: int, files: int | None) -> None:
    start = create_subprocess_exec("sleep", "100", stdin=files, stdout=files, stderr=files)
    task = asyncio.ensure_future(start)
    await pause(ticks)
    task.cancel()
    try:
        process = await asyncio.wait_for(asyncio.shield(task), PATIENCE)
    except asyncio.CancelledError:
        await pause(5)
    else:
        process.kill()
        await process.wait()


async def test_kill_and_terminate_at_once(loop: Loop) -> None:
    for _ in range(20):
        process = await create_subprocess_exec("sleep", "100", stdout=DEVNULL)
        process.terminate()
        process.kill()
        process.send_signal(signal.SIGINT)
        assert await process.wait() in (-signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT)


async def test_signals_race_with_the_end(loop: Loop) -> None:
    async def one() -> None:
        process = await create_subprocess_exec("true")
        while process.returncode is None:
            process.send_signal(signal.SIGCONT)
            await pause()
        assert await process.wait() == 0

    await asyncio.gather(*(one() for _ in range(10)))


async def test_many_at_once(loop: Loop, kind: str) -> None:
    """Each has two pipes, so that nobody can mistake one for another."""
    # select(2) takes descriptors below 1024 only.
    count = 80 if kind == "oxlip-select" else 250

    async def one(number: int) -> None:
        process = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        word = b"child %d" % number
        assert await process.communicate(word) == (word, None)
        assert process.returncode == 0

    await asyncio.gather(*(one(number) for number in range(count)))


async def test_five_hundred_at_once(loop: Loop) -> None:
    living = [await create_subprocess_exec("sleep", "100") for _ in range(500)]
    for process in living:
        process.terminate()
    codes = await asyncio.gather(*(process.wait() for process in living))
    assert codes == [-signal.SIGTERM] * 500


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_three_thousand(loop: Loop, kind: str) -> None:
    if kind == "oxlip-select":
        pytest.skip("select(2) takes descriptors below 1024 only")
    living = [await create_subprocess_exec("sleep", "1000") for _ in range(3000)]
    for process in living:
        process.kill()
    codes = await asyncio.gather(*(process.wait() for process in living))
    assert codes == [-signal.SIGKILL] * 3000
    for _ in range(30):

        async def one(number: int) -> None:
            process = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            word = b"child %d" % number
            assert await process.communicate(word) == (word, None)

        await asyncio.gather(*(one(number) for number in range(100)))
