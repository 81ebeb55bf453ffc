"""A lock was taken when `__aenter__()` was called, not when that was awaited, by no coroutine."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import gc
import inspect
import sys
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from support.protocols import PATIENCE
from support.ticks import pause

Loop = asyncio.AbstractEventLoop
KINDS = ["Lock", "Semaphore", "BoundedSemaphore", "Condition"]


@pytest.fixture(params=KINDS)
def free(switched: str, request: pytest.FixtureRequest) -> Any:
    return getattr(asyncio, request.param)()


async def test_cancelled_before_it_began(loop: Loop, free: Any) -> None:
    both = asyncio.gather(free.__aenter__(), loop.create_future())
    both.cancel()
    with pytest.raises(asyncio.CancelledError):
        await both
    assert not free.locked()
    await asyncio.wait_for(free.acquire(), PATIENCE)


async def test_no_time_for_it(loop: Loop, free: Any) -> None:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(free.__aenter__(), 0)
    assert not free.locked()


async def test_given_back_when_awaited(loop: Loop, free: Any) -> None:
    await free.acquire()
    leaving = free.__aexit__(None, None, None)
    assert free.locked()
    await leaving
    assert not free.locked()


async def test_as_tasks(loop: Loop, free: Any) -> None:
    assert await loop.create_task(free.__aenter__()) is None
    assert free.locked()
    assert await asyncio.ensure_future(free.__aexit__(None, None, None)) is None
    assert not free.locked()
    assert await asyncio.wait_for(free.__aenter__(), PATIENCE) is None
    waiting = loop.create_task(free.__aenter__())
    await pause()
    assert not waiting.done()
    free.release()
    assert await waiting is None
    free.release()
    if sys.version_info >= (3, 11):
        async with asyncio.TaskGroup() as group:
            group.create_task(free.__aenter__())
        assert free.locked()


async def test_from_another_thread(loop: Loop, free: Any) -> None:
    def enter() -> None:
        asyncio.run_coroutine_threadsafe(free.__aenter__(), loop).result(PATIENCE)

    await loop.run_in_executor(None, enter)
    assert free.locked()


async def test_a_coroutines_methods(loop: Loop, free: Any) -> None:
    entering = free.__aenter__()
    assert isinstance(entering, collections.abc.Coroutine)
    assert asyncio.iscoroutine(entering)
    with pytest.raises(StopIteration) as ended:
        entering.send(None)
    assert ended.value.value is None
    assert free.locked()
    with pytest.raises(RuntimeError):
        entering.send(None)
    free.release()
    free.__aenter__().close()
    assert not free.locked()
    with pytest.raises(KeyError):
        free.__aenter__().throw(KeyError())
    assert not free.locked()
    await free.acquire()
    waiting = free.__aenter__()
    waiter = waiting.send(None)
    assert asyncio.isfuture(waiter)
    waiting.close()
    free.release()
    assert not free.locked()


def test_never_awaited(switched: str, free: Any) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        free.__aenter__()
        gc.collect()
    (warning,) = seen
    name = type(free).__aenter__.__qualname__
    assert str(warning.message) == f"coroutine '{name}' was never awaited"


async def test_mocks(loop: Loop, free: Any) -> None:
    for method in (free.__aenter__, free.__aexit__, type(free).__aenter__, type(free).__aexit__):
        assert inspect.iscoroutinefunction(method)
    makers: list[Callable[[], Any]] = [
        lambda: mock.AsyncMock(spec=free),
        lambda: mock.MagicMock(spec=free),
        lambda: mock.create_autospec(free, instance=True),
        lambda: mock.create_autospec(type(free))(),
    ]
    for make in makers:
        async with make():
            pass
    assert not free.locked()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has no timeouts")
async def test_left_when_awaited(loop: Loop, switched: str) -> None:
    """A timeout is over when that is awaited."""
    limit = asyncio.timeout(PATIENCE)
    await limit.__aenter__()
    leaving = limit.__aexit__(None, None, None)
    limit.reschedule(None)  # Still active.
    assert await loop.create_task(leaving) is None
    with pytest.raises(RuntimeError):
        limit.reschedule(None)
    assert inspect.iscoroutinefunction(limit.__aexit__)
