"""The `subprocess.Popen` of a child: as the class makes it, whoever makes it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import stat
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

import pytest
from support.loops import STOCK_ONLY
from support.processes import Child, no_children

Loop = asyncio.AbstractEventLoop

__all__ = ["no_children"]
pytestmark = pytest.mark.usefixtures("no_children")


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def run(loop: Loop, *command: Any, **options: Any) -> Child:
    files = {"stdin": None, "stdout": PIPE, "stderr": None, **options}
    transport, child = await loop.subprocess_exec(Child, *command, **files)
    await child.until_lost()
    transport.close()
    return child


@pytest.fixture(autouse=True)
def known() -> None:
    """From what the class makes oxlip learns how it does that."""
    if not STOCK_ONLY:
        from oxlip import _popen

        _popen.popen(("true",), False, 0, None, None, None, {}).wait()


async def test_program_is_looked_for_in_the_path_of_now(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        program = tmp_path / name / "a-program-of-the-test"
        program.write_text(f"#!/bin/sh\necho {name}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / name}{os.pathsep}/usr/bin{os.pathsep}/bin")
        child = await run(loop, "a-program-of-the-test")
        assert child.data[1] == f"{name}\n".encode()
    monkeypatch.delenv("PATH")
    with pytest.raises(FileNotFoundError):
        await run(loop, "a-program-of-the-test")
    child = await run(loop, "a-program-of-the-test", env={"PATH": str(tmp_path / "one")})
    assert child.data[1] == b"one\n"
    # An empty part is the current folder.
    monkeypatch.setenv("PATH", f"/nowhere{os.pathsep}")
    child = await run(loop, "a-program-of-the-test", cwd=tmp_path / "two")
    assert child.data[1] == b"two\n"


async def test_next_place_is_tried_where_one_is_refused(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, mode in (("first", 0o644), ("second", 0o755)):
        (tmp_path / name).mkdir()
        program = tmp_path / name / "a-program-of-the-test"
        program.write_text("#!/bin/sh\necho found\n")
        program.chmod(mode)
    monkeypatch.setenv("PATH", f"{tmp_path / 'first'}{os.pathsep}{tmp_path / 'second'}")
    child = await run(loop, "a-program-of-the-test")
    assert child.data[1] == b"found\n"
    (tmp_path / "second" / "a-program-of-the-test").unlink()
    with pytest.raises(PermissionError) as refused:
        await run(loop, "a-program-of-the-test")
    assert refused.value.filename == "a-program-of-the-test"


@pytest.mark.parametrize("files", [None, PIPE, DEVNULL])
@pytest.mark.parametrize(
    ("command", "options", "error", "filename"),
    [
        (["no-such-program"], {}, FileNotFoundError, "no-such-program"),
        (["/nowhere/at-all"], {}, FileNotFoundError, "/nowhere/at-all"),
        ([b"no-such-program"], {}, FileNotFoundError, b"no-such-program"),
        (["/etc/passwd"], {}, PermissionError, "/etc/passwd"),
        (["true"], {"cwd": "/nowhere"}, FileNotFoundError, "/nowhere"),
        (["true"], {"cwd": b"/etc/passwd"}, NotADirectoryError, b"/etc/passwd"),
        (["no-such-program"], {"env": {}}, FileNotFoundError, "no-such-program"),
        (["true"], {"env": {"A=B": "C"}}, ValueError, None),
        (["true", "a\0b"], {}, ValueError, None),
        (["true", 1], {}, TypeError, None),
        ([1], {}, TypeError, None),
        (["true"], {"env": {"A": 1}}, TypeError, None),
        (["true"], {"env": 1}, AttributeError, None),
    ],
)
async def test_errors_leave_nothing_behind(
    loop: Loop, command: Any, options: Any, error: Any, filename: Any, files: Any
) -> None:
    before = descriptors()
    for _ in range(2):
        with pytest.raises(error) as raised:
            await loop.subprocess_exec(
                Child, *command, stdin=files, stdout=files, stderr=files, **options
            )
        if filename is not None:
            assert type(raised.value) is error
            assert raised.value.filename == filename
            assert raised.value.strerror == os.strerror(raised.value.errno)
    del raised
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


async def test_no_program_format(loop: Loop, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\1\2\3")
    program.chmod(0o755)
    with pytest.raises(OSError, match="Exec format error") as raised:
        await run(loop, program)
    assert raised.value.filename == program or raised.value.filename == str(program)


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("stdin", [None, PIPE, DEVNULL])
@pytest.mark.parametrize("stdout", [PIPE, DEVNULL, "file"])
@pytest.mark.parametrize("stderr", [PIPE, DEVNULL, subprocess.STDOUT])
async def test_files(
    loop: Loop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    absolute: bool,
    stdin: Any,
    stdout: Any,
    stderr: Any,
) -> None:
    folder, name = os.path.split(sys.executable)
    program = sys.executable if absolute else name
    # In the first it is looked for in vain.
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), folder]))
    before = descriptors()
    code = (
        f"import os, sys; out = os.read(0, 100) if '{stdin}' != 'None' else b'none'; "
        "os.write(1, b'out:' + out); os.write(2, b'err'); "
        "sys.exit(len([it for it in os.listdir('/proc/self/fd') if int(it) > 2]))"
    )
    with open(tmp_path / "file", "wb") as file:
        given = file.fileno() if stdout == "file" else stdout
        transport, child = await loop.subprocess_exec(
            Child, program, "-S", "-c", code, stdin=stdin, stdout=given, stderr=stderr
        )
        popen = transport.get_extra_info("subprocess")
        for name, asked in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            pipe = getattr(popen, name)
            assert (pipe is None) == (asked != PIPE)
        if stdin == PIPE:
            writer: Any = transport.get_pipe_transport(0)
            writer.write(b"in")
            writer.close()
        await child.until_lost()
    said = {None: b"out:none", PIPE: b"out:in", DEVNULL: b"out:"}[stdin]
    if stderr == subprocess.STDOUT:
        said += b"err"
    if stdout == PIPE:
        assert child.data[1] == said
    if stdout == "file":
        assert (tmp_path / "file").read_bytes() == said
    if stderr == PIPE:
        assert child.data[2] == b"err"
    assert transport.get_returncode() == 1, "the folder that it lists is all it has open"
    transport.close()
    del popen, transport
    assert descriptors() == before


async def test_environment_and_folder(loop: Loop, tmp_path: Path) -> None:
    for folder in (tmp_path, str(tmp_path), os.fsencode(tmp_path)):
        child = await run(
            loop, "/bin/sh", "-c", "echo $PWD $WORD", cwd=folder, env={"WORD": "word", b"B": b"b"}
        )
        assert child.data[1] == f"{tmp_path} word\n".encode()


@pytest.mark.parametrize("how", ["class", "method"])
async def test_what_the_program_has_replaced_is_called(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    called: list[Any] = []
    stock: Any = subprocess.Popen

    class Own(stock):
        def __init__(self, *args: Any, **options: Any) -> None:
            called.append(args)
            super().__init__(*args, **options)

    if how == "class":
        monkeypatch.setattr(subprocess, "Popen", Own)
    else:
        init = stock.__init__

        def __init__(self: Any, *args: Any, **options: Any) -> None:
            called.append(args)
            init(self, *args, **options)

        monkeypatch.setattr(stock, "__init__", __init__)
    transport, child = await loop.subprocess_exec(Child, "true", stdout=None)
    assert type(transport.get_extra_info("subprocess")) is (Own if how == "class" else stock)
    await child.until_lost()
    transport.close()
    assert len(called) == 1


class Heard:
    """What an audit hook, which stays for ever, is told while somebody listens."""

    events: list[Any] | None = None
    hooked = False

    @classmethod
    def hook(cls, event: str, args: Any) -> None:
        if cls.events is not None and event in ("subprocess.Popen", "os.posix_spawn"):
            cls.events.append((event, args))


NO_DESCRIPTOR = 1_000_000


async def test_audit_events(loop: Loop, tmp_path: Path) -> None:
    if not Heard.hooked:
        Heard.hooked = True
        sys.addaudithook(Heard.hook)
    commands: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("true", "argument"), {}),
        (("/bin/true", b"argument"), {}),
        (("true",), {"cwd": tmp_path, "env": {"PATH": "/usr/bin:/bin"}}),
        (("no-such-program",), {}),
        (("true",), {"cwd": "/nowhere"}),
        (("true",), {"stdout": NO_DESCRIPTOR}),
        (("true",), {"stdout": NO_DESCRIPTOR, "cwd": tmp_path}),
        (("/bin/true",), {"stdin": NO_DESCRIPTOR}),
    ]
    for command, options in commands:
        files = {"stdin": None, "stdout": None, "stderr": None, **options}
        heard = []
        for make in ("class", "loop"):
            Heard.events = []
            error = None
            try:
                if make == "class":
                    subprocess.Popen(command, bufsize=0, **files).wait()  # type: ignore[call-overload]
                else:
                    transport, child = await loop.subprocess_exec(Child, *command, **files)
                    await child.until_lost()
                    transport.close()
            except OSError as exc:
                error = (type(exc), exc.args, exc.filename)
            heard.append((Heard.events, error))
            Heard.events = None
        assert heard[0] == heard[1]
        assert [event for event, _ in heard[0][0]].count("subprocess.Popen") == 1


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
@pytest.mark.parametrize(
    ("function", "program"), [("read", "cat"), ("read", "/bin/cat"), ("waitpid", "no-such-program")]
)
async def test_interrupted_start_leaves_nothing_behind(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, function: str, program: str
) -> None:
    """While it is waited for what the child says, and for its end where it could not begin."""

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(os, function, interrupted)
        # There the system tells without a pipe.
        spawns = "/" in program and getattr(subprocess, "_HAVE_POSIX_SPAWN_CLOSEFROM", False)
        if spawns and subprocess._USE_POSIX_SPAWN:
            patch.setattr(subprocess, "_USE_POSIX_SPAWN", False)
        with pytest.raises(KeyboardInterrupt):
            await loop.subprocess_exec(Child, program)
    gc.collect()
    assert descriptors() == before
    # It ends with its files, and is reaped then or with the next one, as the class has it.
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    await run(loop, "true")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


WITHOUT_STANDARD_FILES = """
import os, subprocess, sys
from oxlip import _popen

def start(*args, files=None):
    return _popen.popen(args, False, 0, files, files, None, {})

start("true").wait()
events = []
sys.addaudithook(lambda event, _: events.append(event))
os.close(0)
os.close(1)
assert start("sh", "-c", "exit 3").wait() == 3
for sh in ("sh", "/bin/sh"):
    child = start(sh, "-c", "cat; exit 4", files=subprocess.PIPE)
    child.stdin.write(b"word")
    child.stdin.close()
    assert child.stdout.read() == b"word"
    child.stdout.close()
    assert child.wait() == 4
try:
    start("no-such-program")
except FileNotFoundError:
    pass
assert events.count("subprocess.Popen") == 4, events
assert os.pipe() == (0, 1), "left open"
"""


@pytest.mark.skipif(STOCK_ONLY, reason="is about oxlip's way to make the object")
def test_without_standard_files() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_STANDARD_FILES], check=True)


@pytest.mark.skipif(STOCK_ONLY, reason="is about oxlip's way to make the object")
@pytest.mark.parametrize("shell", [True, False])
@pytest.mark.parametrize("stdin", [None, PIPE, DEVNULL])
@pytest.mark.parametrize("stdout", [None, PIPE, DEVNULL])
def test_same_attributes(shell: bool, stdin: Any, stdout: Any) -> None:
    from oxlip import _popen

    def shown(made: Any) -> dict[str, Any]:
        made.wait()
        fields = dict(vars(made))
        for name in ("stdin", "stdout", "stderr"):
            file = fields[name]
            if file is not None:
                fields[name] = (
                    type(file),
                    file.mode,
                    stat.S_ISFIFO(os.fstat(file.fileno()).st_mode),
                )
                file.close()
        fields["pid"] = type(fields["pid"])
        fields["_waitpid_lock"] = type(fields["_waitpid_lock"])
        fields.pop("_devnull", None)
        return fields

    args: Any = "exit 3" if shell else ("sh", "-c", "exit 3")
    options: dict[str, Any] = {"stdin": stdin, "stdout": stdout, "stderr": PIPE}
    theirs = subprocess.Popen(args, shell=shell, bufsize=0, universal_newlines=False, **options)
    ours = _popen.popen(args, shell, 0, stdin, stdout, PIPE, {})
    assert type(ours) is subprocess.Popen
    assert shown(ours) == shown(theirs)
    assert repr(ours) == repr(theirs)


@pytest.mark.skipif(STOCK_ONLY or sys.version_info < (3, 12), reason="is about oxlip's way")
def test_way_is_known_here() -> None:
    from oxlip import _popen

    _popen.popen(("true",), False, 0, None, None, None, {}).wait()
    assert _popen._Known.popen is subprocess.Popen
