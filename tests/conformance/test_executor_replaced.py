"""A pool of threads as the executor, of which libraries have replaced a part, to see its calls."""

from __future__ import annotations

import asyncio
import concurrent.futures
import concurrent.futures._base as futures
import concurrent.futures.thread as pools
import functools
import sys
from pathlib import Path
from typing import Any

import pytest
from support import children
from support.protocols import PATIENCE

Loop = asyncio.AbstractEventLoop

REPLACED = Path(__file__).with_name("executor_replaced.py")


class Wrapper:
    """As a tracing library's: equal to what it wraps, and called in its place."""

    def __init__(self, wrapped: Any, seen: list[str]) -> None:
        self.wrapped, self.seen = wrapped, seen

    def __eq__(self, other: object) -> bool:
        return other is self.wrapped

    __hash__ = None  # type: ignore[assignment]

    def __get__(self, instance: Any, _owner: type) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        self.seen.append(self.wrapped.__qualname__)
        return self.wrapped(*args, **keywords)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (pools.ThreadPoolExecutor, "submit"),
        (pools.ThreadPoolExecutor, "_adjust_thread_count"),
        (pools, "_WorkItem"),
        (pools._WorkItem, "__init__"),
        (pools._WorkItem, "run"),
        (futures, "Future"),
        *([(pools.WorkerContext, "run")] if sys.version_info >= (3, 14) else []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_part_of_the_pool_that_a_library_has_replaced(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, place: Any, name: str
) -> None:
    """As those that carry a trace's context into the threads do."""
    seen: list[str] = []
    original = getattr(place, name)
    monkeypatch.setattr(place, name, Wrapper(original, seen))
    with pools.ThreadPoolExecutor(1) as pool:
        assert await loop.run_in_executor(pool, abs, -1) == 1
        assert seen == [original.__qualname__]
        monkeypatch.undo()
        assert await loop.run_in_executor(pool, abs, -2) == 2
    assert seen == [original.__qualname__]


async def test_a_submit_whose_code_a_library_has_replaced(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function is the same then."""

    def submit(self: Any, fn: Any, /, *args: Any, **keywords: Any) -> Any:
        call = _base.Future()  # type: ignore[name-defined] # noqa: F821
        call.set_result("of the library")
        return call

    monkeypatch.setattr(pools.ThreadPoolExecutor.submit, "__code__", submit.__code__)
    assert await loop.run_in_executor(None, abs, -1) == "of the library"


class Looking(pools._WorkItem):  # type: ignore[type-arg]
    """An item that asks for all that a future has."""

    def __init__(self, future: Any, *work: Any) -> None:
        super().__init__(future, *work)
        future.add_done_callback(int)


INIT, RUN = pools._WorkItem.__init__, pools._WorkItem.run


def init(self: Any, future: Any, *work: Any) -> None:
    INIT(self, future, *work)
    future.add_done_callback(int)


def init_otherwise(self: Any, future: Any, *work: Any) -> None:
    if len(work) == 1:
        (self.task,) = work
    else:
        self.fn, self.args, self.kwargs = work
    self.future = future
    future.add_done_callback(int)


def run(self: Any, *context: Any) -> None:
    RUN(self, *context)
    assert self.future.exception() is None


def run_otherwise(self: Any, *context: Any) -> None:
    assert self.future.set_running_or_notify_cancel()
    assert self.future.running()
    self.future.set_result(1)


def worker(executor: Any, *rest: Any) -> None:
    item = rest[sys.version_info >= (3, 14)].get()
    run_otherwise(item)


@pytest.mark.parametrize(
    ("place", "name", "other"),
    [
        (pools, "_WorkItem", Looking),
        (pools._WorkItem, "__init__", init),
        (pools._WorkItem, "run", run),
        (INIT, "__code__", init_otherwise.__code__),
        (RUN, "__code__", run_otherwise.__code__),
        (pools, "_worker", worker),
        (pools._worker, "__code__", None),
    ],
    ids=["item", "init", "run", "inits_code", "runs_code", "worker", "workers_code"],
)
async def test_a_replaced_part_that_looks_at_the_future(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, other: Any
) -> None:
    if other is None:

        def own(executor: Any, *rest: Any) -> None:
            import sys

            item = rest[sys.version_info >= (3, 14)].get()
            assert item.future.set_running_or_notify_cancel()
            assert item.future.running()
            item.future.set_result(1)

        other = own.__code__
    with pools.ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(place, name, other)
        assert await asyncio.wait_for(loop.run_in_executor(pool, abs, -1), PATIENCE) == 1
        if "worker" not in f"{place}{name}":
            assert await asyncio.wait_for(loop.run_in_executor(pool, abs, -1), PATIENCE) == 1


async def test_a_submit_that_one_pool_has_of_its_own(loop: Loop) -> None:
    seen: list[Any] = []
    with pools.ThreadPoolExecutor(1) as pool:
        submit = pool.submit

        def own(fn: Any, /, *args: Any) -> Any:
            seen.append(fn)
            return submit(fn, *args)

        pool.submit = own  # type: ignore[method-assign, assignment]
        assert await loop.run_in_executor(pool, abs, -1) == 1
    assert seen == [abs]


@pytest.mark.parametrize(
    "part",
    [
        "submit",
        "copied",
        "wrapped",
        "code",
        "code_of_the_file",
        "pool",
        "future",
        "item",
        "item's class",
        "gone",
    ],
)
def test_a_part_that_was_replaced_before_the_loop_is_imported(kind: str, part: str) -> None:
    """It must not be taken for Python's."""
    assert children.run(REPLACED, kind, part, timeout=20) == "seen\n"


async def test_the_class_that_a_library_has_replaced(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(pools.ThreadPoolExecutor):
        pass

    monkeypatch.setattr(concurrent.futures, "ThreadPoolExecutor", Own)
    assert await loop.run_in_executor(None, abs, -1) == 1
    assert type(loop._default_executor) is Own  # type: ignore[attr-defined]


async def test_a_subclass_with_its_own_submit(loop: Loop) -> None:
    seen: list[Any] = []

    class Own(pools.ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **keywords: Any) -> Any:
            seen.append(fn)
            return super().submit(fn, *args, **keywords)

    with Own(1) as pool:
        assert await loop.run_in_executor(pool, abs, -1) == 1
    assert seen == [abs]
