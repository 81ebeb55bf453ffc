"""How the loop learns that a child has ended, where that is not the usual way, and shortages."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import resource
import signal
import sys
import threading
import warnings
from asyncio import create_subprocess_exec, create_subprocess_shell
from asyncio.subprocess import PIPE
from typing import Any

import pytest
from support.leaks import open_descriptors
from support.processes import Child, join_waiters, no_children, shell
from support.ticks import turn

Loop = asyncio.AbstractEventLoop

__all__ = ["no_children"]
pytestmark = [pytest.mark.ours, pytest.mark.usefixtures("no_children")]


def without_pidfd(monkeypatch: pytest.MonkeyPatch, number: int | None) -> None:
    if number is None:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        return

    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)


@pytest.mark.parametrize("number", [None, errno.ENOSYS, errno.EPERM, errno.EMFILE])
async def test_without_pidfds(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    without_pidfd(monkeypatch, number)
    child = await shell("read line; exit 4", stdin=PIPE, stdout=PIPE)
    pid = child.transport.get_pid()
    assert f"oxlip-waitpid-{pid}" in [thread.name for thread in threading.enumerate()]
    stdin: Any = child.transport.get_pipe_transport(0)
    stdin.write(b"\n")
    assert await child.until_exited() == 4
    await child.until_lost()
    child.transport.close()
    process = await create_subprocess_exec("sleep", "100")
    process.kill()
    assert await process.wait() == -signal.SIGKILL


async def test_reaped_by_somebody_else_without_pidfds(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_pidfd(monkeypatch, None)
    child = await shell("read line", stdin=PIPE)
    pid = child.transport.get_pid() or 0
    caplog.set_level(logging.WARNING, "asyncio")
    child.transport.kill()
    os.waitpid(pid, 0)
    assert await child.until_exited() == 255
    assert caplog.messages == [f"Unknown child process pid {pid}, will report returncode 255"]
    await child.until_lost()
    child.transport.close()


async def test_children_that_the_system_reaps(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    caplog.set_level(logging.WARNING, "asyncio")
    try:
        for _ in range(5):
            process = await create_subprocess_exec("true")
            assert await process.wait() == 255
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert len(caplog.messages) == 5


async def test_no_thread_to_be_had(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pidfd(monkeypatch, errno.EMFILE)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        await create_subprocess_exec("sleep", "100", stdin=PIPE, stdout=PIPE)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.mark.timeout(60)
def test_out_of_descriptors(loop: Loop) -> None:
    """With each number of descriptors that are left, from none to enough."""

    async def attempt() -> None:
        process = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert await process.communicate(b"x") == (b"x", b"")

    loop.run_until_complete(attempt())
    outcomes = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for left in range(24):
        before = open_descriptors()
        # Fills the gaps, so that `left` numbers are free below the limit.
        highest = max(before)
        gaps = [os.dup(0) for _ in range(highest + 1 - len(before))]
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + left, hard))
        try:
            loop.run_until_complete(asyncio.wait_for(attempt(), 20))
            outcomes.append("done")
        except OSError as error:
            assert error.errno == errno.EMFILE
            outcomes.append("refused")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for number in gaps:
                os.close(number)
        turn(loop, 5)
        gc.collect()
        after = open_descriptors()
        assert {*after} - {*before} == set(), (left, after)
    assert outcomes[0] == "refused" and outcomes[-1] == "done"
    # No success before the last failure: what is needed does not change.
    assert outcomes == sorted(outcomes, reverse=True)
    join_waiters()


async def test_a_pipe_that_cannot_be_connected(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "no more")

    monkeypatch.setattr(loop, "connect_read_pipe", refuse, raising=False)
    before = open_descriptors()
    with pytest.raises(OSError, match="no more"):
        await create_subprocess_exec("sleep", "100", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    for _ in range(3):
        await asyncio.sleep(0)
    assert open_descriptors() == before


@pytest.mark.parametrize("ticks", range(8))
async def test_cancelled_with_a_grandchild_that_keeps_the_pipes(loop: Loop, ticks: int) -> None:
    """The child's death does not end them: they have to be closed."""
    read, write = os.pipe()
    before = open_descriptors()
    start = create_subprocess_shell(
        f"cat /dev/fd/{read} & wait", stdin=PIPE, stdout=PIPE, stderr=PIPE, pass_fds=[read]
    )
    task = asyncio.ensure_future(start)
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    try:
        process: Any = await task
    except asyncio.CancelledError:
        pass
    else:
        process._transport.close()
        await process.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert open_descriptors() == before
    os.close(read)
    os.close(write)


async def test_no_signal_to_a_number_that_is_free(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    reaped: set[int] = set()
    waitpid, kill = os.waitpid, os.kill

    def noting_waitpid(pid: int, options: int) -> tuple[int, int]:
        found = waitpid(pid, options)
        reaped.add(found[0])
        return found

    def careful_kill(pid: int, number: int) -> None:
        assert pid not in reaped
        kill(pid, number)

    monkeypatch.setattr(os, "waitpid", noting_waitpid)
    monkeypatch.setattr(os, "kill", careful_kill)
    for _ in range(5):
        process = await create_subprocess_exec("true")
        while process.returncode is None:
            process.send_signal(signal.SIGCONT)
            await asyncio.sleep(0)
        assert process.pid in reaped
        await process.wait()


@pytest.mark.parametrize("files", [None, PIPE])
def test_loop_closed_before_the_child_has_ended(loop: Loop, files: int | None) -> None:
    before = open_descriptors()

    async def start() -> Child:
        return await shell("read line || sleep 100", stdin=PIPE, stdout=files)

    child = loop.run_until_complete(start())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
    texts = [str(warning.message) for warning in caught]
    assert texts and all(text.startswith("unclosed transport <") for text in texts)
    popen = child.transport.get_extra_info("subprocess")
    assert popen.poll() is None
    # Not an error although the pipes cannot be closed any more.
    child.transport.close()
    assert popen.wait(10) == -signal.SIGKILL
    for file in (popen.stdin, popen.stdout):
        if file is not None:
            file.close()
    assert {*open_descriptors()} <= {*before}


def test_loop_closed_when_the_child_has_ended(loop: Loop) -> None:
    child = loop.run_until_complete(shell("exec 3<&0; exit 7", stdin=None))
    pid = child.transport.get_pid() or 0
    # It may have been reaped by now.
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        pass
    loop.close()
    child.transport.close()
    assert child.transport.get_extra_info("subprocess") is not None


def test_loop_closed_before_the_thread_knows(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_pidfd(monkeypatch, None)
    child = loop.run_until_complete(shell("read line", stdin=PIPE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()
    caplog.set_level(logging.WARNING, "asyncio")
    popen = child.transport.get_extra_info("subprocess")
    child.transport.close()
    join_waiters()
    monkeypatch.undo()  # Popen uses pidfds itself, since 3.15.
    assert popen.wait(10) == -signal.SIGKILL
    popen.stdin.close()
    assert len(caplog.messages) == 1
    assert f"handles pid {popen.pid} is closed" in caplog.messages[0]


async def test_forgotten_transport(loop: Loop) -> None:
    """The loop keeps what belongs to a living child."""
    process: Any = await create_subprocess_shell("read line; exit 5", stdin=PIPE)
    stdin, wait = process.stdin, process.wait()
    del process
    gc.collect()
    stdin.write(b"\n")
    assert await wait == 5


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are no child watchers any more")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["SafeChildWatcher", "FastChildWatcher"])
def test_watcher_of_the_programs(loop: Loop, name: str) -> None:
    watcher: Any = getattr(asyncio, name)()
    asyncio.set_child_watcher(watcher)
    watcher.attach_loop(loop)
    try:

        async def main() -> None:
            process = await create_subprocess_shell("cat; exit 6", stdin=PIPE, stdout=PIPE)
            assert await process.communicate(b"x") == (b"x", None)
            assert process.returncode == 6

        loop.run_until_complete(main())
    finally:
        watcher.close()
        asyncio.set_event_loop_policy(None)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are no child watchers any more")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_inactive_watcher(loop: Loop) -> None:
    class Inactive(asyncio.ThreadedChildWatcher):
        def is_active(self) -> bool:
            return False

    asyncio.set_child_watcher(Inactive())
    try:
        with pytest.raises(RuntimeError, match="is not activated, subprocess support is not"):
            await create_subprocess_exec("true")
    finally:
        asyncio.set_event_loop_policy(None)
