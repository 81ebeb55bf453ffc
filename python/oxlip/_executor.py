"""The outcome of a call in an executor: from the executor's future to one of the loop.

`asyncio.wrap_future` does this for futures of all kinds, in both directions, and costs as much
as a short call in a thread. This file does what one kind in one direction needs, with the same
meaning. A call in a pool of threads needs no such future at all (`_pool_call.py`).

`outcome_of` and `_settle` run on the loop's thread, `tell` on the executor's.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

_T = TypeVar("_T")
_Call = concurrent.futures.Future


def outcome_of(call: _Call[_T], loop: asyncio.AbstractEventLoop) -> asyncio.Future[_T]:
    """A future of `loop` for the outcome of the call. Cancelling it cancels the call."""
    if type(call) is not _Call:
        return asyncio.wrap_future(call, loop=loop)
    future = loop.create_future()
    future.add_done_callback(partial(_cancel, call))
    call.add_done_callback(partial(_tell, loop, future))
    return future


def _cancel(call: _Call[Any], future: asyncio.Future[Any]) -> None:
    if future.cancelled():
        call.cancel()


def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], call: _Call[Any]) -> None:
    try:
        error = call.exception()
    except concurrent.futures.CancelledError:
        tell(loop, future, future.cancel)
        return
    if error is None:
        tell(loop, future, future.set_result, call.result())
    else:
        tell(loop, future, future.set_exception, in_asyncios_class(error))


def tell(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    method: Callable[..., object],
    *outcome: object,
) -> None:
    """Has the loop call the future's `method(*outcome)`, unless the future was cancelled.

    A loop that is closed meanwhile is not told.
    """
    if sys.version_info >= (3, 14) and asyncio._get_running_loop() is loop:
        _settle(future, method, *outcome)
    elif not loop.is_closed():
        loop.call_soon_threadsafe(_settle, future, method, *outcome)


def _settle(future: asyncio.Future[Any], method: Callable[..., object], *outcome: object) -> None:
    if future.cancelled():
        return
    assert not future.done()
    method(*outcome)


# Some of these pairs are one class since Python 3.11: those errors stay as they are.
_ASYNCIOS: dict[type[BaseException], type[BaseException]] = {
    theirs: ours
    for theirs, ours in (
        (concurrent.futures.CancelledError, asyncio.CancelledError),
        (concurrent.futures.InvalidStateError, asyncio.InvalidStateError),
        (concurrent.futures.TimeoutError, asyncio.TimeoutError),
    )
    if not issubclass(ours, theirs)
}


def in_asyncios_class(error: BaseException) -> BaseException:
    """The error in asyncio's class, if `concurrent.futures` has one of the same name."""
    ours = _ASYNCIOS.get(type(error))
    return error if ours is None else ours(*error.args).with_traceback(error.__traceback__)
