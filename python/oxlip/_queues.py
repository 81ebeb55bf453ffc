"""asyncio's queue with a native half, as `_locks` has asyncio's locks."""

from __future__ import annotations

import asyncio
import asyncio.queues
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from . import _native
from ._copied import Copied
from ._stock import beyond, stock_class

if TYPE_CHECKING:
    _Queue = asyncio.Queue
else:
    _Queue = stock_class(asyncio.queues, "Queue")

_T = TypeVar("_T")

# Stands for "no item", since any object may be an item.
NO_ITEM = object()


class Queue(Copied, _native.Queue, _Queue[_T]):
    """As `asyncio.Queue`."""

    __module__ = "oxlip"
    _ATTRIBUTES = (
        *("_maxsize", "_queue", "_getters", "_putters", "_finished", "_unfinished_tasks"),
        *(("_is_shutdown",) if sys.version_info >= (3, 13) else ()),
    )

    async def put(self, item: _T) -> None:
        while not self._put_soon(item):
            putter = self._putter()
            if putter is None:
                return await beyond(Queue, self).put(item)  # type: ignore[no-any-return]
            try:
                await putter
            except:
                self._leave(putter, self._putters)
                if not self.full() and not putter.cancelled():
                    self._wakeup_next(self._putters)  # type: ignore[attr-defined]
                raise

    async def get(self) -> _T:
        while (item := self._get_soon()) is NO_ITEM:
            getter = self._getter()
            if getter is None:
                return await beyond(Queue, self).get()  # type: ignore[no-any-return]
            try:
                await getter
            except:
                self._leave(getter, self._getters)
                if not self.empty() and not getter.cancelled():
                    self._wakeup_next(self._getters)  # type: ignore[attr-defined]
                raise
        return item  # type: ignore[no-any-return]

    @staticmethod
    def _leave(waiter: asyncio.Future[None], waiters: Any) -> None:
        """Removes a waiter that was woken by something other than its turn."""
        waiter.cancel()
        try:
            waiters.remove(waiter)
        except ValueError:
            pass  # Its turn had come too.


_native.adopt_methods(Queue, _native.Queue)
