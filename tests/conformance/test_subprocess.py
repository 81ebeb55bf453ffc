"""`subprocess_exec`, `subprocess_shell`, and what their transport tells and does."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest
from support.processes import Child, no_children, shell
from support.protocols import Calls
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
Contexts = list[dict[str, Any]]

__all__ = ["no_children"]
pytestmark = pytest.mark.usefixtures("no_children")


async def test_the_life_of_a_child(loop: Loop) -> None:
    child = await shell("echo out; echo err >&2; exit 3", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    await child.until_lost()
    assert child.calls[0] == "connection_made"
    assert child.calls[-1] == "connection_lost"
    assert sorted(child.calls[1:-1]) == ["data 1", "data 2", "exited", "lost 0", "lost 1", "lost 2"]
    assert child.calls.index("data 1") < child.calls.index("lost 1")
    assert child.data == {1: b"out\n", 2: b"err\n"}
    assert child.errors == {0: None, 1: None, 2: None}
    assert child.error is None
    assert child.transport.get_returncode() == 3
    child.transport.close()


async def test_connection_made_is_a_tick_of_its_own(loop: Loop) -> None:
    child = await shell("exit 0")
    assert child.calls in ([], ["connection_made"])
    await child.until_lost()
    assert child.calls == ["connection_made", "exited", "connection_lost"]
    child.transport.close()


async def test_what_it_is(loop: Loop) -> None:
    child = await shell("read line", stdin=PIPE, stdout=PIPE)
    transport = child.transport
    assert isinstance(transport, asyncio.SubprocessTransport)
    popen = transport.get_extra_info("subprocess")
    assert isinstance(popen, subprocess.Popen)
    assert transport.get_pid() == popen.pid
    assert transport.get_returncode() is None
    assert isinstance(transport.get_pipe_transport(0), asyncio.WriteTransport)
    assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
    assert transport.get_pipe_transport(2) is None
    assert transport.get_pipe_transport(7) is None
    assert transport.get_protocol() is child
    assert not transport.is_closing()
    text = repr(transport)
    assert f"pid={popen.pid} running stdin=<" in text and "stdout=<" in text
    stdin: Any = transport.get_pipe_transport(0)
    assert stdin.get_extra_info("pipe") is popen.stdin
    stdin.write(b"line\n")
    await child.until_lost()
    assert "returncode=0" in repr(transport)
    transport.close()
    assert transport.is_closing() and "closed" in repr(transport)


async def test_the_child_closes_its_output_and_lives_on(loop: Loop) -> None:
    child = await shell("exec >&-; read line", stdin=PIPE, stdout=PIPE)
    await child.until_called("lost 1")
    assert "exited" not in child.calls
    stdin: Any = child.transport.get_pipe_transport(0)
    stdin.write(b"line\n")
    await child.until_lost()
    child.transport.close()


async def test_a_grandchild_keeps_the_pipe(loop: Loop) -> None:
    child = await shell("exec 3<&0; (read line <&3; echo late) & exit 4", stdin=PIPE, stdout=PIPE)
    assert await child.until_exited() == 4
    await pause(5)
    assert "connection_lost" not in child.calls and "lost 1" not in child.calls
    stdin: Any = child.transport.get_pipe_transport(0)
    stdin.write(b"line\n")
    await child.until_lost()
    assert child.data[1] == b"late\n"
    assert child.calls[-1] == "connection_lost"
    child.transport.close()


async def test_close_with_a_grandchild_that_keeps_the_pipe(loop: Loop) -> None:
    child = await shell("exec 3<&0; (read line <&3) & exit 4", stdin=PIPE, stdout=PIPE)
    await child.until_exited()
    child.transport.close()
    await child.until_lost()
    assert sorted(child.calls[-3:-1]) == ["lost 0", "lost 1"]


@pytest.mark.parametrize(
    ("method", "number"), [("kill", signal.SIGKILL), ("terminate", signal.SIGTERM)]
)
async def test_kill_and_terminate(loop: Loop, method: str, number: int) -> None:
    child = await shell("read line", stdin=PIPE)
    getattr(child.transport, method)()
    assert await child.until_exited() == -number
    await child.until_lost()
    child.transport.close()


async def test_send_signal(loop: Loop) -> None:
    child = await shell(
        "trap 'exit 9' USR1; echo ready; read line; read line", stdin=PIPE, stdout=PIPE
    )
    await child.until_called("data 1")
    child.transport.send_signal(signal.SIGUSR1)
    assert await child.until_exited() == 9
    await child.until_lost()
    child.transport.close()


async def test_signals_to_a_child_that_has_ended(loop: Loop) -> None:
    child = await shell("exec 3<&0; (read line <&3) & exit 0", stdin=PIPE, stdout=PIPE)
    await child.until_exited()
    child.transport.terminate()
    child.transport.kill()
    child.transport.send_signal(signal.SIGUSR1)
    child.transport.close()
    await child.until_lost()
    await pause()
    for call in (child.transport.terminate, child.transport.kill):
        with pytest.raises(ProcessLookupError):
            call()
    with pytest.raises(ProcessLookupError):
        child.transport.send_signal(signal.SIGUSR1)


async def test_close_kills(loop: Loop) -> None:
    child = await shell("read line", stdin=PIPE, stdout=PIPE)
    child.transport.close()
    assert child.transport.is_closing()
    await child.until_lost()
    assert child.transport.get_returncode() == -signal.SIGKILL
    child.transport.close()


async def test_process_group(loop: Loop) -> None:
    child = await shell("sleep 100 & sleep 100", start_new_session=True, stdout=PIPE)
    os.killpg(child.transport.get_pid() or 0, signal.SIGTERM)
    assert await child.until_exited() == -signal.SIGTERM
    await child.until_lost()
    child.transport.close()


async def test_the_program_kills_it_directly(loop: Loop) -> None:
    child = await shell("read line", stdin=PIPE)
    os.kill(child.transport.get_pid() or 0, signal.SIGINT)
    assert await child.until_exited() == -signal.SIGINT
    child.transport.close()
    await child.until_lost()


# Files and options.


async def test_files(loop: Loop, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"content")
    with open(source, "rb") as stdin, open(target, "wb") as stdout:
        child = await shell("cat; echo error >&2", stdin=stdin, stdout=stdout, stderr=STDOUT)
        await child.until_lost()
    assert target.read_bytes() == b"contenterror\n"
    child.transport.close()


async def test_merged_output(loop: Loop) -> None:
    child = await shell("echo out; echo err >&2", stdout=PIPE, stderr=STDOUT)
    await child.until_lost()
    assert child.data == {1: b"out\nerr\n", 2: b""}
    child.transport.close()


async def test_no_input(loop: Loop) -> None:
    child = await shell("cat && echo end", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    await child.until_lost()
    assert child.data[1] == b"end\n"
    child.transport.close()


async def test_options_of_popen(loop: Loop, tmp_path: Path) -> None:
    read, write = os.pipe()
    program = (
        "import os; umask = os.umask(0); "
        f"os.write({write}, b'passed'); "
        "print(os.getcwd(), os.environ['WORD'], umask, os.getpgid(0), os.getsid(0), sep='\\n')"
    )
    transport, child = await loop.subprocess_exec(
        Child,
        "not the program",
        "-c",
        program,
        stdin=None,
        stderr=None,
        cwd=tmp_path,
        env={**os.environ, "WORD": "word"},
        umask=0o27,
        pass_fds=[write],
        start_new_session=True,
        executable=sys.executable,
        restore_signals=False,
        close_fds=True,
    )
    os.close(write)
    await child.until_lost()
    where, word, umask, group, session = child.data[1].split()
    assert Path(os.fsdecode(where)).samefile(tmp_path)
    assert (word, int(umask)) == (b"word", 0o27)
    assert int(group) == int(session) == transport.get_pid()
    assert os.read(read, 100) == b"passed"
    os.close(read)
    transport.close()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Popen has process_group since 3.11")
async def test_process_group_option(loop: Loop) -> None:
    transport, child = await loop.subprocess_exec(
        Child, sys.executable, "-c", "import os; print(os.getpgid(0))", process_group=0
    )
    await child.until_lost()
    assert int(child.data[1]) == transport.get_pid()
    transport.close()


async def test_no_descriptor_of_the_loop_reaches_the_child(loop: Loop) -> None:
    other = await shell("read line", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    child = await shell("ls /dev/fd/", stdout=PIPE, close_fds=False, stderr=DEVNULL)
    await child.until_lost()
    mine = {int(number) for number in child.data[1].split()}
    other.transport.close()
    await other.until_lost()
    inheritable = set()
    for number in mine - {0, 1, 2}:
        try:
            if os.get_inheritable(number):
                inheritable.add(number)
        except OSError:
            pass
    # Beside the three: what `ls` itself has open, and what the test run has to pass on.
    assert len(mine - {0, 1, 2} - inheritable) <= 1
    child.transport.close()


async def test_exec_takes_paths(loop: Loop, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\necho "$1"\n')
    script.chmod(0o755)
    transport, child = await loop.subprocess_exec(Child, script, b"argument", stdin=None)
    await child.until_lost()
    assert child.data[1] == b"argument\n"
    transport.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"universal_newlines": True}, "universal_newlines must be False"),
        ({"shell": True}, "shell must be False"),
        ({"bufsize": 1}, "bufsize must be 0"),
        ({"text": True}, "text must be False"),
        ({"encoding": "utf-8"}, "encoding must be None"),
        ({"errors": "strict"}, "errors must be None"),
    ],
)
async def test_options_that_asyncio_refuses(
    loop: Loop, options: dict[str, Any], message: str
) -> None:
    made: list[Child] = []

    def make() -> Child:
        made.append(Child())
        return made[-1]

    with pytest.raises(ValueError, match=f"^{message}$"):
        await loop.subprocess_exec(make, "true", **options)
    if "shell" in options:
        options, message = {"shell": False}, "shell must be True"
    with pytest.raises(ValueError, match=f"^{message}$"):
        await loop.subprocess_shell(make, "true", **options)
    with pytest.raises(ValueError, match=r"^cmd must be a string$"):
        await loop.subprocess_shell(make, ["true"])  # type: ignore[arg-type]
    assert made == []


async def test_unknown_option(loop: Loop) -> None:
    with pytest.raises(TypeError):
        await loop.subprocess_exec(Child, "true", nonsense=1)


@pytest.mark.parametrize("files", [None, PIPE])
async def test_program_that_does_not_exist(loop: Loop, files: int | None) -> None:
    made: list[Child] = []

    def make() -> Child:
        made.append(Child())
        return made[-1]

    with pytest.raises(FileNotFoundError):
        await loop.subprocess_exec(make, "/nowhere/at/all", stdin=files, stdout=files, stderr=files)
    await pause(3)
    assert made[0].calls == []


async def test_factory_that_raises(loop: Loop) -> None:
    def make() -> Child:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await loop.subprocess_exec(make, "true")


# Ends that are not the usual ones.


async def test_reaped_by_somebody_else(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    child = await shell("read line", stdin=PIPE)
    pid = child.transport.get_pid() or 0
    child.transport.kill()
    os.waitpid(pid, 0)
    caplog.set_level(logging.WARNING, "asyncio")
    assert await child.until_exited() == 255
    (message,) = caplog.messages
    assert f"process pid {pid}" in message and message.endswith("will report returncode 255")
    await child.until_lost()
    child.transport.close()


@pytest.mark.ours  # asyncio knows no better than 255.
async def test_reaped_by_popen(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    child = await shell("read line", stdin=PIPE)
    child.transport.kill()
    assert child.transport.get_extra_info("subprocess").wait() == -signal.SIGKILL
    caplog.set_level(logging.WARNING, "asyncio")
    assert await child.until_exited() == -signal.SIGKILL
    assert caplog.messages == []
    await child.until_lost()
    child.transport.close()


@pytest.mark.ours  # asyncio takes it for a stranger's, whose end is unknown.
async def test_close_when_it_has_ended_already(loop: Loop) -> None:
    child = await shell("read line", stdin=PIPE)
    pid = child.transport.get_pid() or 0
    child.transport.kill()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    child.transport.close()
    assert await child.until_exited() == -signal.SIGKILL
    await child.until_lost()


@pytest.mark.parametrize("name", ["pipe_data_received", "process_exited", "connection_lost"])
async def test_callbacks_that_raise(loop: Loop, contexts: Contexts, name: str) -> None:
    child = Child()

    def fail(*_: object) -> None:
        real(*_)
        raise ZeroDivisionError

    real = getattr(child, name)
    setattr(child, name, fail)
    await loop.subprocess_shell(lambda: child, "echo x; read line")
    await child.until_called("data 1")
    child.transport.close()
    await child.until_lost()
    await pause(2)
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]
    contexts.clear()


async def test_flow_control_of_stdin(loop: Loop) -> None:
    child = await shell("read line; cat >/dev/null", stdin=PIPE)
    stdin: Any = child.transport.get_pipe_transport(0)
    stdin.write(b"x" * (1 << 20))
    await child.until_called("pause_writing")
    stdin.write(b"\n")
    await child.until_called("resume_writing")
    stdin.close()
    await child.until_lost()
    assert child.calls.index("resume_writing") < child.calls.index("lost 0")
    child.transport.close()


async def test_the_child_does_not_read(loop: Loop) -> None:
    child = await shell("exec <&-; echo closed; read line <&1", stdin=PIPE, stdout=PIPE)
    await child.until_called("data 1")
    stdin: Any = child.transport.get_pipe_transport(0)
    stdin.write(b"x")
    await child.until_called("lost 0")
    child.transport.close()
    await child.until_lost()


async def test_the_handler_of_sigchld_stays_the_programs(loop: Loop) -> None:
    if sys.version_info < (3, 14):
        asyncio.set_event_loop_policy(None)
    seen: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, _: seen.append(number))
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        child = await shell("exit 5")
        assert await child.until_exited() == 5
        await child.until_lost()
        assert signal.getsignal(signal.SIGCHLD) is handler
        assert signal.SIGCHLD in seen
    finally:
        signal.signal(signal.SIGCHLD, before)
    child.transport.close()


async def test_debug_mode(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "asyncio")
    loop.set_debug(True)
    loop.slow_callback_duration = 100
    child = await shell("exit 2", stdout=PIPE, stderr=STDOUT)
    await child.until_lost()
    pid = child.transport.get_pid()
    said = "\n".join(caplog.messages)
    for message in (
        "run shell command 'exit 2' stdout=stderr=<pipe>",
        f"process 'exit 2' created: pid {pid}",
        "exited with return code 2",
        "Read pipe ",
    ):
        assert message in said
    child.transport.close()


def test_loop_in_another_thread(new_loop: Any) -> None:
    import threading

    found: list[int] = []

    def run() -> None:
        loop = new_loop()

        async def main() -> None:
            child = await shell("exit 6", stdout=PIPE)
            found.append(await child.until_exited())
            await child.until_lost()
            child.transport.close()

        loop.run_until_complete(main())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert found == [6]


class _Ends(Calls, asyncio.SubprocessProtocol):
    """A protocol that closes the transport in a callback."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._end("connection_made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._end("data")

    def process_exited(self) -> None:
        self._end("exited")

    def _end(self, call: str) -> None:
        self.note(call)
        if call == self.at:
            self.transport.close()


@pytest.mark.parametrize("at", ["connection_made", "data", "exited"])
async def test_close_in_a_callback(loop: Loop, at: str) -> None:
    _, protocol = await loop.subprocess_shell(lambda: _Ends(at), "echo x; exit 1")
    await protocol.until_lost()
    assert protocol.transport.is_closing()
