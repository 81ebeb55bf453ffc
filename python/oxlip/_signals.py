"""Signals: `add_signal_handler`, and a wait that a signal ends at once.

A handler is an ordinary Python signal handler that only schedules the callback. It needs no
descriptor, so it cannot lose a signal to another library's wake-up descriptor, and a forked
child that gets a signal does not run the callback in its parent.

A descriptor is needed for one thing: the moment between the interpreter's last look at its
signals and the kernel's wait. A signal that arrives then would stay unnoticed until something
else ends the wait. So while the loop runs in the main thread, the interpreter writes each
signal to a socket that the loop reads (see signal.set_wakeup_fd), unless somebody else already
receives these writes.

The socket also tells of signals whose Python handler the program has replaced since, with
signal.signal(): as with asyncio, they are the loop's as well.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import signal
import socket
import sys
import threading
import warnings
import weakref
from asyncio import iscoroutine
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from ._fork import Forkable

if sys.version_info >= (3, 14):
    from inspect import iscoroutinefunction as iscoroutinefunction
else:
    from asyncio import iscoroutinefunction as iscoroutinefunction

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    _Ts = TypeVarTuple("_Ts")

_NOBODY = -1


class Signals(Forkable):
    """Signal handlers of one loop. Only the main thread may add and remove them."""

    STATE: tuple[str, ...] = ("_signal_handlers", "_heard", "_wakeup_pair")

    def __init__(self) -> None:
        super().__init__()
        self._signal_handlers: dict[int, asyncio.Handle] = {}
        # The signals that reached `_schedule` and whose bytes have not been read yet.
        self._heard: set[int] = set()
        self._wakeup_pair: tuple[socket.socket, socket.socket] | None = None

    def add_signal_handler(
        self, sig: int, callback: Callable[[Unpack[_Ts]], object], *args: Unpack[_Ts]
    ) -> None:
        """Calls `callback(*args)` on the loop after each signal `sig`.

        Signals that arrive together may be answered by one call, as with signal(7) itself.
        `ValueError` for a number that is no signal, `RuntimeError` for one that cannot be caught
        and outside the main thread.
        """
        if iscoroutine(callback) or iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        self._signal_handlers[sig] = asyncio.Handle(callback, args, self)
        try:
            # A weak reference: the signal table must not keep a forgotten loop alive.
            signal.signal(sig, functools.partial(_schedule, weakref.ref(self)))
            signal.siginterrupt(sig, False)
        except (OSError, ValueError) as exc:
            del self._signal_handlers[sig]
            raise _why_not(sig, exc) from exc

    def remove_signal_handler(self, sig: int) -> bool:
        """Gives `sig` its default action back; `False` if the loop has no handler for it."""
        self._check_signal(sig)
        if self._signal_handlers.pop(sig, None) is None:
            return False
        default = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, default)
        except OSError as exc:
            raise _why_not(sig, exc) from exc
        return True

    def _check_signal(self, sig: object) -> None:
        if not isinstance(sig, int):
            raise TypeError(f"sig must be an int, not {sig!r}")
        if sig not in signal.valid_signals():
            raise ValueError(f"invalid signal number {sig}")

    def _handle_signal(self, sig: int) -> None:
        """A signal has come. In the main thread, between any two of its bytecodes."""
        handle = self._signal_handlers.get(sig)
        if handle is None or self.is_closed():
            return
        if handle.cancelled():
            self.remove_signal_handler(sig)
        else:
            # As with asyncio, which reads it from a descriptor: behind what is scheduled already.
            self._call_by_inbox(self._call_handler, sig)

    def _call_handler(self, sig: int) -> None:
        """On the loop's thread, in the tick after the signal."""
        handle: Any = self._signal_handlers.get(sig)
        if handle is not None and not handle.cancelled():
            # Not the handle itself, which could not run twice at a time.
            self.call_soon(handle._callback, *handle._args, context=handle._context)

    def _claim_wakeup(self) -> None:
        """Has signals end the loop's wait, for one run."""
        if threading.current_thread() is not threading.main_thread():
            return
        if self._wakeup_pair is None:
            self._wakeup_pair = self._open_wakeup_pair()
            if self._wakeup_pair is None:
                return
        self._heard.clear()
        try:
            before = signal.set_wakeup_fd(self._wakeup_pair[1].fileno(), warn_on_full_buffer=False)
        except ValueError:
            return  # The main thread of a subinterpreter: no signals here.
        if before != _NOBODY:
            _restore_wakeup_fd(before)

    def _release_wakeup(self) -> None:
        if self._wakeup_pair is None or threading.current_thread() is not threading.main_thread():
            return
        try:
            current = signal.set_wakeup_fd(_NOBODY)
        except ValueError:
            return
        if current not in (_NOBODY, self._wakeup_pair[1].fileno()):
            _restore_wakeup_fd(current)

    def _open_wakeup_pair(self) -> tuple[socket.socket, socket.socket] | None:
        if self.driver == "sim":
            return None  # It watches no descriptors, and no kernel event outpaces its wait.
        try:
            reading, writing = socket.socketpair()
        except OSError:
            return None  # Out of descriptors: the loop runs on without.
        reading.setblocking(False)
        writing.setblocking(False)
        self.add_reader(reading, _drain, weakref.ref(self), reading)
        self._only_wakes(reading.fileno())
        return reading, writing

    def _after_fork(self) -> bool:
        usable = super()._after_fork()
        if usable and self._wakeup_pair is not None:
            # The parent's loop reads the same socket.
            self._release_wakeup()
            self._close_wakeup_pair()
            if self.is_running():
                self._claim_wakeup()
        return usable

    def _close_wakeup_pair(self) -> None:
        if self._wakeup_pair is not None:
            reading, writing = self._wakeup_pair
            self._wakeup_pair = None
            self.remove_reader(reading)
            reading.close()
            writing.close()

    def _close_signals(self) -> None:
        """Part of `close()`, while the native loop is still open."""
        self._close_wakeup_pair()
        if not self._signal_handlers:
            return
        if sys.is_finalizing():
            warnings.warn(
                f"Closing the loop {self!r} on interpreter shutdown stage, "
                "skipping signal handlers removal",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
            self._signal_handlers.clear()
            return
        for sig in list(self._signal_handlers):
            self.remove_signal_handler(sig)


def _schedule(loop: weakref.ref[Signals], sig: int, _frame: FrameType | None) -> None:
    alive = loop()
    if alive is not None:
        alive._heard.add(sig)
        alive._handle_signal(sig)


def _drain(loop: weakref.ref[Signals], reading: socket.socket) -> None:
    """The bytes have ended the wait. For signals that do not reach `_schedule` they do its work."""
    signals: set[int] = set()
    try:
        while more := reading.recv(4096):
            signals.update(more)
            if len(more) < 4096:
                break
    except (BlockingIOError, InterruptedError):
        pass
    alive = loop()
    if alive is None:
        return
    for sig in sorted(signals & alive._signal_handlers.keys() - alive._heard):
        if not _is_ours(signal.getsignal(sig)):
            alive._handle_signal(sig)
    alive._heard -= signals


def _is_ours(handler: object) -> bool:
    return isinstance(handler, functools.partial) and handler.func is _schedule


def _restore_wakeup_fd(fd: int) -> None:
    try:
        signal.set_wakeup_fd(fd)
    except (ValueError, OSError):
        pass  # Its owner has closed it without a word.


def _why_not(sig: int, exc: OSError | ValueError) -> Exception:
    if isinstance(exc, ValueError):
        return RuntimeError(str(exc))  # Not the main thread.
    if exc.errno == errno.EINVAL:
        return RuntimeError(f"sig {sig} cannot be caught")
    return exc
