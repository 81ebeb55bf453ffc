"""`run`: one program's main coroutine on a loop of its own, as `asyncio.run` does it."""

from __future__ import annotations

import asyncio
import functools
import sys
from asyncio.events import _get_running_loop
from collections.abc import Coroutine
from typing import Any, TypeVar

from ._loop import EventLoop, new_event_loop

_T = TypeVar("_T")


def run(
    main: Coroutine[Any, Any, _T], *, debug: bool | None = None, driver: str | None = None
) -> _T:
    """Runs `main` to its end on a new loop, which is closed after it; its result or exception.

    Tasks that are left are cancelled, asynchronous generators and the default executor shut
    down. The first Ctrl-C cancels `main`, and `KeyboardInterrupt` is raised. `RuntimeError` if a
    loop is already running in this thread.
    """
    if _get_running_loop() is not None:
        raise RuntimeError("oxlip.run() cannot be called from a running event loop")
    factory = functools.partial(new_event_loop, driver)
    if sys.version_info >= (3, 11):
        with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
            return runner.run(main)
    else:
        return _run_310(main, factory(), debug)


if sys.version_info < (3, 11):

    def _run_310(main: Coroutine[Any, Any, _T], loop: EventLoop, debug: bool | None) -> _T:
        """`run` for Python 3.10, which has no `Runner`: Ctrl-C interrupts the loop, as there."""
        try:
            if not asyncio.iscoroutine(main):
                raise ValueError(f"a coroutine was expected, got {main!r}")
            asyncio.set_event_loop(loop)
            if debug is not None:
                loop.set_debug(debug)
            return loop.run_until_complete(main)
        finally:
            try:
                _cancel_all_tasks(loop)
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
            finally:
                asyncio.set_event_loop(None)
                loop.close()

    def _cancel_all_tasks(loop: EventLoop) -> None:
        tasks = asyncio.all_tasks(loop)
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for task in tasks:
            if not task.cancelled() and task.exception() is not None:
                loop.call_exception_handler(
                    {
                        "message": "unhandled exception during oxlip.run() shutdown",
                        "exception": task.exception(),
                        "task": task,
                    }
                )
