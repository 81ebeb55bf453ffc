"""`wait_for()` left a cycle behind for each task that failed in it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from support.protocols import PATIENCE
from support.ticks import pause

Loop = asyncio.AbstractEventLoop


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("seconds", [None, PATIENCE])
async def test_failed_in_time(
    loop: Loop, switched: str, no_collection: None, seconds: float | None
) -> None:
    async def fail() -> None:
        raise KeyError

    gone = []
    for _ in range(3):
        task: asyncio.Task[Any] = loop.create_task(asyncio.wait_for(fail(), seconds))
        with pytest.raises(KeyError):
            await task
        gone.append(weakref.ref(task))
        del task
    await pause(2)
    assert [ref() for ref in gone] == [None] * 3
