"""Child processes: what asyncio's `subprocess_exec` and `subprocess_shell` ask of the loop.

These two are `BaseEventLoop`'s own: who watches for calls that block, such as blockbuster, knows by
their frames that asyncio may read here what the child says of its start.

The child is made by `subprocess.Popen`. Over native pipes, the running Python's own asyncio
class decides what the transport tells the protocol, and in which order. A pidfd tells that a
child has ended; the loop watches it like any descriptor, so there is no thread and no handler
of SIGCHLD. Where no pidfd can be had, a thread waits for this one child.

Only the loop's thread reaps. Until then the system gives the child's number to nobody else, so
a signal that is sent here reaches the child or nobody. On Pythons that still have child
watchers, one that the program has chosen is used instead.

Runs on the loop's thread, except for `_wait_in_thread`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import warnings
from asyncio.base_subprocess import BaseSubprocessTransport
from asyncio.log import logger
from functools import partial
from typing import IO, Any, TypeAlias

from ._pipes import Pipes
from ._popen import popen

_File: TypeAlias = "int | IO[Any] | None"

_NOTHING: contextlib.nullcontext[None] = contextlib.nullcontext()

# What is reported for a child that somebody else has reaped.
UNKNOWN = 255

if sys.version_info < (3, 14):
    _stock_get_child_watcher = asyncio.DefaultEventLoopPolicy.get_child_watcher


class SubprocessTransport(BaseSubprocessTransport):
    """A child process and the pipes to it."""

    _loop: Subprocesses | None  # type: ignore[assignment]
    _closed: bool
    _pid: int
    _proc: subprocess.Popen[bytes] | None
    _pipes: dict[int, Any]
    _returncode: int | None

    # Set once the child has ended, for a caller that has given up making it.
    _exited: asyncio.Future[None] | None = None

    def __init__(self, event_loop: Subprocesses, *args: Any, **options: Any) -> None:
        super().__init__(_FreshLoop(event_loop), *args, **options)  # type: ignore[arg-type]
        self._loop = event_loop

    def _start(
        self,
        args: Any,
        shell: bool,
        stdin: _File,
        stdout: _File,
        stderr: _File,
        bufsize: int,
        **options: Any,
    ) -> None:
        self._proc = popen(args, shell, bufsize, stdin, stdout, stderr, options)

    def close(self) -> None:
        """Closes the pipes, and kills the child if it still runs."""
        if self._closed:
            return
        self._closed = True
        try:
            # A loop that was closed first has closed the pipes.
            if self._loop is not None and not self._loop.is_closed():
                self._close_pipes()
        finally:
            self._end_child()

    def _end_child(self) -> None:
        proc = self._proc
        if proc is None or self._returncode is not None or proc.poll() is not None:
            return
        if self._loop is not None and self._loop.get_debug():
            logger.warning("Close running child process: kill %r", self)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            proc.kill()

    def send_signal(self, signal: int) -> None:
        """Sends a signal; nothing happens if the child has ended."""
        proc = self._proc
        if proc is None:
            raise ProcessLookupError
        if self._returncode is None and proc.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(proc.pid, signal)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _connect_pipes(self, waiter: asyncio.Future[None] | None) -> Any:
        return self._connect(waiter) if self._pipes else partial(self._connect_nothing, waiter)

    async def _connect(self, waiter: asyncio.Future[None] | None) -> None:
        await super()._connect_pipes(waiter)
        if self._closed:
            self._close_pipes()  # It was closed meanwhile.

    def _connect_nothing(self, waiter: asyncio.Future[None] | None) -> None:
        """Connects without a task when there are no pipes to wait for."""
        try:
            super()._connect_pipes(waiter).send(None)
        except StopIteration:
            return
        raise RuntimeError(f"{self!r} waits for a pipe that it has not")

    def _close_pipes(self) -> None:
        if not self._pipes:
            return
        with contextlib.ExitStack() as ends:
            # Each of them, although debug mode refuses that in another thread.
            for pipe in reversed(self._pipes.values()):
                if pipe is not None:
                    ends.callback(pipe.pipe.close)
        if self._proc is None:
            return
        # The files that were to become transports, and did not.
        files = (self._proc.stdin, self._proc.stdout, self._proc.stderr)
        for number, file in enumerate(files):
            if file is not None and self._pipes.get(number) is None:
                file.close()

    def _process_exited(self, returncode: int) -> None:
        super()._process_exited(returncode)
        if self._exited is not None and not self._exited.done():
            self._exited.set_result(None)


class _FreshLoop:
    """The loop as a new transport sees it: asyncio's class creates a task to connect its pipes."""

    def __init__(self, event_loop: Subprocesses) -> None:
        self._event_loop = event_loop
        self.get_debug = event_loop.get_debug

    def create_task(self, connecting: Any) -> Any:
        if type(connecting) is partial:
            return self._event_loop.call_soon(connecting)
        return self._event_loop.create_task(connecting)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._event_loop, name)


class Subprocesses(Pipes):
    """Child processes of one loop."""

    STATE: tuple[str, ...] = (*Pipes.STATE, "_children")

    def __init__(self) -> None:
        super().__init__()
        # Children by their pidfds.
        self._children: dict[int, SubprocessTransport] = {}

    subprocess_exec = asyncio.BaseEventLoop.subprocess_exec
    subprocess_shell = asyncio.BaseEventLoop.subprocess_shell

    async def _make_subprocess_transport(
        self,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: _File,
        stdout: _File,
        stderr: _File,
        bufsize: int,
        **options: Any,
    ) -> SubprocessTransport:
        watcher = _chosen_watcher()
        with _NOTHING if watcher is None else watcher as entered:
            if sys.version_info < (3, 12):
                watcher = entered  # Whom asyncio goes on with; since 3.12 it is the watcher itself.
            if watcher is not None and not watcher.is_active():
                raise RuntimeError(
                    "asyncio.get_child_watcher() is not activated, "
                    "subprocess support is not installed."
                )
            waiter = self.create_future()
            transport = SubprocessTransport(
                self,
                protocol,
                args,
                shell,
                stdin,
                stdout,
                stderr,
                bufsize,
                waiter,
                **options,
            )
            if watcher is None:
                self._watch_child(transport)
            else:
                watcher.add_child_handler(transport._pid, self._child_watcher_callback, transport)
            try:
                await waiter
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException:
                transport.close()
                if transport._returncode is None:
                    transport._exited = self.create_future()
                    await transport._exited
                raise
        return transport

    def close(self) -> None:
        """As `Lifecycle.close`. Children that still run are left to themselves."""
        if not self.is_running():
            for pidfd, transport in self._children.items():
                self.remove_reader(pidfd)
                os.close(pidfd)
                if transport._proc is not None:
                    transport._proc.poll()  # No zombie stays of those that have ended.
            self._children.clear()
        super().close()

    # The end of a child.

    def _watch_child(self, transport: SubprocessTransport) -> None:
        pidfd = _open_pidfd(transport._pid)
        if pidfd is not None:
            try:
                self.add_reader(pidfd, self._pidfd_ready, pidfd)
            except (OSError, ValueError):
                os.close(pidfd)  # Beyond what select(2) takes.
            else:
                self._children[pidfd] = transport
                return
        thread = threading.Thread(
            target=self._wait_in_thread,
            args=(transport, transport._pid),
            name=f"oxlip-waitpid-{transport._pid}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            # No thread can be started either, so the child cannot be kept.
            transport.close()
            if transport._proc is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    transport._proc.wait(1)
            raise

    def _pidfd_ready(self, pidfd: int) -> None:
        transport = self._children.pop(pidfd)
        self.remove_reader(pidfd)
        os.close(pidfd)
        self._reap(transport)

    def _wait_in_thread(self, transport: SubprocessTransport, pid: int) -> None:
        """Waits, but leaves the reaping to the loop."""
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        try:
            self.call_soon_threadsafe(self._reap, transport)
        except RuntimeError:
            logger.warning("Loop %r that handles pid %r is closed", self, pid)

    def _reap(self, transport: SubprocessTransport) -> None:
        pid, proc = transport._pid, transport._proc
        try:
            _, status = os.waitpid(pid, 0)
        except ChildProcessError:
            if proc is not None and proc.returncode is not None:
                returncode = proc.returncode  # By a call of Popen's, which has kept it.
            else:
                logger.warning(
                    "Unknown child process pid %d, will report returncode %d", pid, UNKNOWN
                )
                returncode = UNKNOWN
        else:
            returncode = os.waitstatus_to_exitcode(status)
            if proc is not None:
                # At once, because from now on the number may be somebody else's.
                proc.returncode = returncode
            if self.get_debug():
                logger.debug("process %s exited with returncode %s", pid, returncode)
        if sys.version_info >= (3, 12):
            self.call_soon(transport._process_exited, returncode)
        else:
            # asyncio's watchers let one tick pass for the callbacks of the pipes.
            self.call_soon(self.call_soon, transport._process_exited, returncode)

    def _child_watcher_callback(
        self, pid: int, returncode: int, transport: SubprocessTransport
    ) -> None:
        """What a watcher of the program's calls, in any thread."""
        if sys.version_info >= (3, 12):
            self.call_soon_threadsafe(transport._process_exited, returncode)
        else:
            self.call_soon_threadsafe(self.call_soon, transport._process_exited, returncode)


def _open_pidfd(pid: int) -> int | None:
    """`None` on old kernels, in sandboxes that forbid it, and without a descriptor left."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _chosen_watcher() -> Any:
    """The child watcher that the program has set; `None` if it has left that to asyncio."""
    if sys.version_info >= (3, 14):
        return None
    policy = asyncio.get_event_loop_policy()
    if type(policy).get_child_watcher is _stock_get_child_watcher:
        # What that gives, but it would make one where there is none, and warn: with the warning
        # silenced that took as long as the rest of this module.
        watcher = policy._watcher  # type: ignore[attr-defined]
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                watcher = policy.get_child_watcher()
            except NotImplementedError:
                return None
    # As they are, all that these do is what is done here.
    if watcher is None or type(watcher) in (
        asyncio.ThreadedChildWatcher,
        asyncio.PidfdChildWatcher,
    ):
        return None
    return watcher
