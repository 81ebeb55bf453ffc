"""The end of futures and tasks of ours: what is said then, and that nothing is left.

Everything here runs with asyncio's classes and with ours, on every loop.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from typing import Any

import pytest
from support.tasks import awaits, fail, native_tasks, nothing
from support.ticks import pause

if not native_tasks():
    pytest.skip("without tasks of ours", allow_module_level=True)

pytestmark = [pytest.mark.sim, pytest.mark.usefixtures("classes")]

Loop = asyncio.AbstractEventLoop
Contexts = list[dict[str, Any]]


async def test_exception_never_retrieved(loop: Loop, contexts: Contexts) -> None:
    future = loop.create_future()
    error = ValueError("unseen")
    future.set_exception(error)
    looked = loop.create_future()
    looked.set_exception(error)
    looked.exception()
    silenced = loop.create_future()
    silenced.set_exception(error)
    silenced._log_traceback = False
    with pytest.raises(ValueError, match="can only be set to False"):
        silenced._log_traceback = True
    shown = repr(future)
    del future, looked, silenced
    task = loop.create_task(fail(error))
    await pause(2)
    del task
    gc.collect()
    messages = [context["message"] for context in contexts]
    assert messages == [
        "Future exception was never retrieved",
        "Task exception was never retrieved",
    ]
    assert repr(contexts[0]["future"]) == shown
    assert contexts[0]["exception"] is contexts[1]["exception"] is error
    contexts.clear()
    error.__traceback__ = None


async def test_destroyed_while_pending(loop: Loop, contexts: Contexts) -> None:
    async def wait() -> None:
        await loop.create_future()

    task = loop.create_task(wait(), name="lost")
    await pause(2)
    gone = weakref.ref(task)
    del task
    gc.collect()
    (context,) = contexts
    assert context["message"] == "Task was destroyed but it is pending!"
    assert context["task"].get_name() == "lost"
    contexts.clear()
    del context
    gc.collect()
    assert gone() is None


async def test_cycles_are_collected(loop: Loop) -> None:
    future: Any = loop.create_future()
    future.itself = future
    future.set_result(future)
    looped: Any = loop.create_future()
    looped.add_done_callback(functools.partial(print, looped))
    # With a finalizer, and an iterator from the memory that is kept for them.
    waited = loop.create_future()
    waits = waited.__await__()
    waited.waits = waits  # type: ignore[attr-defined]
    references = [weakref.ref(it) for it in (future, looped, waited)]
    task = loop.create_task(awaits(future))
    await task
    task.me = task  # type: ignore[attr-defined]
    references.append(weakref.ref(task))
    del future, looped, waited, waits, task
    await pause()  # What has woken this task knows the other one.
    gc.collect()
    assert [reference() for reference in references] == [None] * 4


async def test_iterators_in_cycles_are_collected(loop: Loop) -> None:
    """Also those whose memory was another's before."""
    for _ in range(20):
        future = loop.create_future()
        future.set_result(None)
        await future
    references = []
    for _ in range(20):
        future = loop.create_future()
        future.waits = future.__await__()  # type: ignore[attr-defined]
        references.append(weakref.ref(future))
    del future
    gc.collect()
    assert not any(reference() for reference in references)


async def test_brought_back_to_life(loop: Loop, contexts: Contexts) -> None:
    """An exception handler that keeps the future, and lets it go later."""
    kept: list[Any] = []
    loop.set_exception_handler(lambda _, context: kept.append(context["future"]))
    future = loop.create_future()
    future.set_exception(ValueError())
    del future
    gc.collect()
    (again,) = kept
    assert isinstance(again.exception(), ValueError)
    kept.clear()
    del again
    gc.collect()
    assert not kept


async def test_deep_chains_end(loop: Loop) -> None:
    """Thousands of tasks that wait for each other."""
    task = loop.create_task(nothing())
    for _ in range(2000):
        task = loop.create_task(awaits(task))
    await task


def test_a_loop_that_is_closed(loop: Loop, contexts: Contexts) -> None:
    future = loop.create_future()
    future.add_done_callback(print)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.set_result(None)
    coro = nothing()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coro)
    coro.close()
