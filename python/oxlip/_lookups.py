"""The threads in which names are looked up: a loop's own, so that no other work delays them.

A look-up may block for as long as the network lets it, and nothing can interrupt it. In the
default executor it would wait for whatever the program does there, and the program for it.
There are at most as many of these threads as asyncio's executor would have, and they are
started when needed.

Used and ended on the loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")


class Lookups:
    """A pool of threads that starts with the first look-up."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._waited_for: set[Future[Any]] = set()

    def submit(self, look_up: Callable[..., _T], *query: Any) -> Future[_T]:
        """Calls `look_up(*query)` in one of the threads."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(thread_name_prefix="oxlip-lookup")
        answer = self._pool.submit(look_up, *query)
        self._waited_for.add(answer)
        answer.add_done_callback(self._waited_for.discard)
        return answer

    def end(self) -> None:
        """Ends the threads: at once, or after the look-up that they are in the middle of.

        What has not begun is cancelled.
        """
        pool, self._pool = self._pool, None
        if pool is None:
            return
        pool.shutdown(wait=False, cancel_futures=True)
        if any(answer.running() for answer in list(self._waited_for)):
            return
        try:
            pool.shutdown(wait=True)
        except RuntimeError:
            pass  # One of them is collecting the garbage that the loop has become.
