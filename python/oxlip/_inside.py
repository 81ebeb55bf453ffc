"""The internals of asyncio's own loop, beyond its documentation, that libraries use.

`nest_asyncio` runs the loop itself, tick by tick, from `_ready`, `_scheduled` and `_selector`;
`asynkit` rearranges `_ready`; `looptime` has a wait of its own; debuggers read. All of these
are made on demand, and the loop itself uses none of them. Runs on the loop's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, MutableSequence
from time import get_clock_info
from typing import TYPE_CHECKING, Any, overload

from ._base import LoopBase

if TYPE_CHECKING:
    import asyncio

    from . import _native

_CLOCK_RESOLUTION = get_clock_info("monotonic").resolution


class Inside(LoopBase):
    """The private attributes of asyncio's `BaseEventLoop` and `BaseSelectorEventLoop`."""

    _clock_resolution = _CLOCK_RESOLUTION
    STATE: tuple[str, ...] = ("_running_thread", "_waiting")

    def __init__(self) -> None:
        super().__init__()
        # The thread that has claimed to run the loop.
        self._running_thread: int | None = None
        # What somebody has got, or set, as asyncio's selector.
        self._waiting: Any = None
        # A subclass may have replaced some of our methods.
        self._look_at_replaced()

    @property
    def _ready(self) -> Ready:
        """What runs next: a view, and changing it changes what runs."""
        return Ready(self)

    @_ready.setter
    def _ready(self, handles: Iterable[Any]) -> None:
        self._ready_replace(list(handles))

    @property
    def _scheduled(self) -> list[asyncio.TimerHandle]:
        """The timers, earliest first; a copy."""
        return sorted(self._timer_handles())

    @property
    def _thread_id(self) -> int | None:
        """Which thread runs the loop, if any."""
        return self._running_thread if self.is_running() else None

    @_thread_id.setter
    def _thread_id(self, ident: int | None) -> None:
        self._running_thread = ident
        self._set_running(ident is not None)

    @property
    def _closed(self) -> bool:
        return self.is_closed()

    @property
    def _debug(self) -> bool:
        return self.get_debug()

    @_debug.setter
    def _debug(self, enabled: bool) -> None:
        self.set_debug(enabled)

    @property
    def _task_factory(self) -> Any:
        return self.get_task_factory()

    @_task_factory.setter
    def _task_factory(self, factory: Any) -> None:
        self.set_task_factory(factory)

    @property
    def _selector(self) -> Any:
        """Stands in for asyncio's selector: waits, and forgets descriptors."""
        if self._waiting is None:
            self._waiting = Waiting(self)
        return self._waiting

    @_selector.setter
    def _selector(self, selector: Any) -> None:
        self._waiting = selector

    def _waits_natively(self) -> bool:
        """Whether neither the tick nor its wait has been replaced."""
        # (Whether it is in `__dict__`, which asking for it would make, shows here, too.)
        return (
            getattr(self._run_once, "__func__", None) is Inside._run_once
            and not self._has_own_wait()
        )

    def _has_own_wait(self) -> bool:
        waiting = self._waiting
        return waiting is not None and (type(waiting) is not Waiting or bool(vars(waiting)))

    def _run_once(self) -> None:
        """One tick. If the wait has been replaced, it is asked as asyncio asks its selector."""
        if not self._has_own_wait():
            self._tick(True)
            return
        timeout: float | None = None
        if self._stopping or self._ready_len():
            timeout = 0
        elif timers := self._timer_handles():
            timeout = max(0, min(timers).when() - self.time())
        self._process_events(self._waiting.select(timeout))
        self._tick(False)

    def _process_events(self, event_list: Iterable[Any]) -> None:
        """Does nothing: what has happened is queued already when `_selector.select()` returns."""

    def _add_callback(self, handle: Any) -> None:
        if not handle._cancelled:
            self._ready_append(handle)

    def _add_callback_signalsafe(self, handle: Any) -> None:
        self._add_callback(handle)
        self._write_to_self()

    def _mark_running(self) -> None:
        """The calling thread runs the loop from now on; `RuntimeError` if another one does."""
        self._claim()
        self._running_thread = threading.get_ident()


class Ready(MutableSequence[Any]):
    """`loop._ready`: the methods of a `deque`, on the loop's queue of handles."""

    __slots__ = ("_loop",)

    def __init__(self, loop: _native.EventLoop) -> None:
        self._loop = loop

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._loop._ready_items()}>"

    def __len__(self) -> int:
        return self._loop._ready_len()

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._loop._ready_items()[index]

    def __setitem__(self, index: Any, handle: Any) -> None:
        handles = self._loop._ready_items()
        handles[index] = handle
        self._loop._ready_replace(handles)

    def __delitem__(self, index: int | slice) -> None:
        handles = self._loop._ready_items()
        del handles[index]
        self._loop._ready_replace(handles)

    def insert(self, index: int, handle: Any) -> None:
        handles = self._loop._ready_items()
        handles.insert(index, handle)
        self._loop._ready_replace(handles)

    def append(self, handle: Any) -> None:
        self._loop._ready_append(handle)

    def appendleft(self, handle: Any) -> None:
        self.insert(0, handle)

    def popleft(self) -> Any:
        return self._loop._ready_popleft()

    def clear(self) -> None:
        self._loop._ready_replace([])

    def rotate(self, n: int = 1) -> None:
        handles = self._loop._ready_items()
        if handles:
            at = -n % len(handles)
            self._loop._ready_replace(handles[at:] + handles[:at])


class Waiting:
    """`loop._selector`. An attribute that is set on it replaces the method of that name."""

    __slots__ = ("__dict__", "_loop")

    _loop: _native.EventLoop

    def __init__(self, loop: _native.EventLoop) -> None:
        object.__setattr__(self, "_loop", loop)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self._loop._reconsider()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._loop._reconsider()

    def select(self, timeout: float | None = None) -> list[Any]:
        """Waits. What has happened is then in the loop's queue, so there is nothing to return."""
        self._loop._poll(timeout)
        return []

    def unregister(self, fd: Any) -> None:
        """Takes the callbacks off; `KeyError` if there are none."""
        try:
            reader, writer = self._loop.remove_reader(fd), self._loop.remove_writer(fd)
        except OSError:
            return  # It was closed while both were there, and both are gone.
        if not (reader or writer):
            raise KeyError(f"{fd!r} is not registered")
