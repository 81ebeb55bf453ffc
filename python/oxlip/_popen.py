"""A child's `subprocess.Popen`, made without `Popen.__init__`, which is half of what a spawn
costs.

What asyncio's callers nearly always ask for (a program with its arguments, its files and
perhaps a folder and an environment) comes down to a few system calls. They are made here as the
class makes them, with its audit events and errors, and the object gets the attributes that it
would have. Everything else is left to the class: other options, a class or a method that the
program has replaced, a Python whose objects or whose `fork_exec` are not the ones known here.

Used by `_subprocess.py`; on any thread.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from fcntl import F_DUPFD_CLOEXEC, fcntl
from operator import attrgetter
from threading import Lock
from types import FunctionType
from typing import Any, ClassVar

_PIPE, _DEVNULL = subprocess.PIPE, subprocess.DEVNULL

# What is known of the class: its methods that are bypassed, and the attributes of an object.
_get_methods = attrgetter(
    *("__new__", "__setattr__", "__init__", "_execute_child", "_get_handles", "_close_pipe_fds")
)
_ALIKE = {
    *("_input", "_communication_started", "encoding", "errors", "pipesize", "text_mode"),
    "_sigint_wait_secs",
}
_FIELDS = {
    *("args", "stdin", "stdout", "stderr", "pid", "returncode", "_waitpid_lock"),
    *("_closed_child_pipe_fds", "_child_created"),
    *_ALIKE,
}
_SIGNATURE = (
    "$module args executable_list close_fds pass_fds cwd env"
    " p2cread p2cwrite c2pread c2pwrite errread errwrite errpipe_read errpipe_write"
    " restore_signals call_setsid pgid_to_set gid extra_groups uid child_umask"
    " preexec_fn"
)
# The last argument of `fork_exec` went in 3.14.
_ASKS_VFORK = hasattr(subprocess, "_USE_VFORK")


class _Known:
    """What was learnt about the class when it last made an object."""

    popen: Any = None
    methods: Any = None
    # The attributes that are the same in all objects.
    alike: ClassVar[dict[str, Any]] = {}
    # Whether a child that cannot change its folder says so; it was all that it could say otherwise.
    tells_chdir = True


def popen(
    args: Any, shell: bool, bufsize: int, stdin: Any, stdout: Any, stderr: Any, options: Any
) -> subprocess.Popen[bytes]:
    """As `subprocess.Popen(args, shell=shell, …)`."""
    if (
        subprocess.Popen is _Known.popen
        and _get_methods(_Known.popen) == _Known.methods
        and options.keys() <= {"cwd", "env"}
        and bufsize == 0
        and _is_simple(stdin)
        and _is_simple(stdout)
        and _is_simple(stderr)
    ):
        return _make(args, shell, stdin, stdout, stderr, options.get("cwd"), options.get("env"))
    made = subprocess.Popen(
        args,
        shell=shell,
        bufsize=bufsize,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        universal_newlines=False,
        **options,
    )
    if _Known.popen is None and not options.keys() - {"cwd", "env"}:
        _learn(made)
    return made


def _is_simple(file: Any) -> bool:
    return file is None or (type(file) is int and (file >= 0 or file in (_PIPE, _DEVNULL)))


def _learn(made: Any) -> None:
    """Learns from an object that the class has made."""
    cls = type(made)
    if (cls.__module__, cls.__qualname__) != ("subprocess", "Popen"):
        return
    fields, methods = vars(made), _get_methods(cls)
    if (
        fields.keys() - {"_devnull"} == _FIELDS
        and methods[:2] == (object.__new__, object.__setattr__)
        and all(type(it) is FunctionType and it.__module__ == "subprocess" for it in methods[2:])
        and _signature(subprocess) == _SIGNATURE + (" allow_vfork /" if _ASKS_VFORK else " /")
        and not hasattr(sys, "getandroidapilevel")
    ):
        _Known.alike = {name: fields[name] for name in _ALIKE}
        _Known.methods = methods
        _Known.tells_chdir = "noexec:chdir" in cls._execute_child.__code__.co_consts
        _Known.popen = cls


def _signature(module: Any) -> str:
    signature = getattr(getattr(module, "_fork_exec", None), "__text_signature__", None) or ""
    return " ".join(signature.strip("()").replace(",", " ").split())


def _make(
    args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, cwd: Any, env: Any
) -> subprocess.Popen[bytes]:
    if subprocess._active:  # type: ignore[attr-defined]
        subprocess._cleanup()  # type: ignore[attr-defined]
    # Before the child, which is this object's from its first moment: whatever interrupts the rest,
    # the class's `__del__` sees to it that the child is reaped.
    made = _Known.popen.__new__(_Known.popen)
    fields = vars(made)
    fields.update(
        _Known.alike,
        args=args,
        stdin=None,
        stdout=None,
        stderr=None,
        pid=None,
        returncode=None,
        _waitpid_lock=Lock(),
        _closed_child_pipe_fds=False,
        _child_created=False,
    )
    # Ends of pipes: the child's, and this process's until they become file objects.
    theirs: list[int] = []
    ours: list[int] = []
    fds = [-1] * 6
    devnull = -1
    try:
        for index, file in enumerate((stdin, stdout, stderr)):
            if file is None:
                continue
            if file >= 0:
                end = file
            elif file == _DEVNULL:
                if devnull < 0:
                    devnull = fields["_devnull"] = os.open(os.devnull, os.O_RDWR)
                    theirs.append(devnull)
                end = devnull
            else:
                read, write = os.pipe()
                end, own = (read, write) if index == 0 else (write, read)
                theirs.append(end)
                ours.append(own)
                name, mode = _NAMES[index]
                fields[name] = io.open(own, mode, 0)  # noqa: UP020
                ours.pop()
                fds[2 * index + (index == 0)] = own
            fds[2 * index + (index > 0)] = end
        _start(fields, shell, fds, cwd, env)
        _close(theirs)
        fields["_closed_child_pipe_fds"] = True
    except BaseException:
        _close(theirs)
        _close(ours)
        for name, _ in _NAMES:
            if fields[name] is not None:
                fields[name].close()
        raise
    return made  # type: ignore[no-any-return]


_NAMES = (("stdin", "wb"), ("stdout", "rb"), ("stderr", "rb"))


def _close(fds: list[int]) -> None:
    while fds:
        try:
            os.close(fds.pop())
        except OSError:
            pass


def _start(fields: dict[str, Any], shell: bool, fds: list[int], cwd: Any, env: Any) -> None:
    """Starts the child of the object that has these attributes."""
    args = fields["args"]
    arguments = ["/bin/sh", "-c", args] if shell else list(args)
    program = arguments[0]
    sys.audit("subprocess.Popen", program, arguments, cwd, env)
    name = os.fsencode(program)
    has_folder = name.find(b"/") >= 0  # `in` would make an exception first.
    if (
        has_folder
        and cwd is None
        and subprocess._USE_POSIX_SPAWN
        and getattr(subprocess, "_HAVE_POSIX_SPAWN_CLOSEFROM", False)
        and not any(0 <= fd < 3 for fd in (fds[0], fds[3], fds[5]))
    ):
        fields["pid"] = _posix_spawn(program, arguments, fds, env)
        fields["_child_created"] = True
        return
    variables = None
    if env is not None:
        variables = []
        for key, value in env.items():
            key = os.fsencode(key)
            if b"=" in key:
                raise ValueError("illegal environment variable name")
            variables.append(key + b"=" + os.fsencode(value))
    programs = (name,) if has_folder else _places(name, env)
    # What the child writes into it says why it could not be started.
    says, error = os.pipe()
    try:
        try:
            if error < 3:  # Where one of the child's own files goes.
                low, error = error, fcntl(error, F_DUPFD_CLOEXEC, 3)
                os.close(low)
            fields["pid"] = subprocess._fork_exec(  # type: ignore[attr-defined]
                *(arguments, programs, True, (error,), cwd, variables, *fds, says, error),
                *(True, False, -1, None, None, None, -1, None),
                *((subprocess._USE_VFORK,) if _ASKS_VFORK else ()),  # type: ignore[attr-defined]
            )
            fields["_child_created"] = True
        finally:
            os.close(error)
        said = b""
        while part := os.read(says, 50000):
            said += part
    finally:
        os.close(says)
    if said:
        try:
            _, status = os.waitpid(fields["pid"], 0)
            fields["returncode"] = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            pass
        raise _error(said, program, cwd)


def _error(said: bytes, program: Any, cwd: Any) -> Exception:
    """The error for what the child has reported about its failed start."""
    kind, _, rest = said.partition(b":")
    number, _, text = rest.partition(b":")
    if kind != b"OSError" or text not in (b"", b"noexec", b"noexec:chdir"):
        return subprocess.SubprocessError(f"Bad exception data from child: {said!r}")
    code = int(number, 16)
    if text == b"noexec" and _Known.tells_chdir:
        return OSError(code, os.strerror(code))  # For one of its files, most likely.
    return OSError(code, os.strerror(code), cwd if text else program)


def _posix_spawn(program: Any, arguments: list[Any], fds: list[int], env: Any) -> int:
    theirs = (fds[0], fds[3], fds[5])
    actions = [
        *((os.POSIX_SPAWN_CLOSE, fd) for fd in (fds[1], fds[2], fds[4]) if fd >= 0),
        *((os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(theirs) if fd >= 0),
        (os.POSIX_SPAWN_CLOSEFROM, 3),  # type: ignore[attr-defined]
    ]
    return os.posix_spawn(
        program, arguments, env, file_actions=actions, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ]
    )


def _places(name: bytes, env: Any) -> tuple[bytes, ...]:
    """The places where a program of this name may be."""
    if env is not None or os.get_exec_path is not _get_exec_path:
        return tuple(os.path.join(os.fsencode(it), name) for it in os.get_exec_path(env))
    path = os.environ.get("PATH", os.defpath)
    text, folders = _Path.known
    if path != text or type(path) is not str:
        folders = [os.path.join(os.fsencode(it), b"") for it in path.split(os.pathsep)]
        _Path.known = (path, folders)
    return tuple([folder + name for folder in folders])


_get_exec_path = os.get_exec_path


class _Path:
    """`PATH` as it was when last looked at."""

    # In one assignment, because loops in several threads look.
    known: ClassVar[tuple[str | None, list[bytes]]] = (None, [])
