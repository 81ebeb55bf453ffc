"""Asynchronous generators and executors: their use, and their end with the loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import sys
import threading
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import pytest

pytestmark = pytest.mark.sim

Loop = asyncio.AbstractEventLoop


async def count(closed: list[str]) -> AsyncGenerator[int, None]:
    try:
        for value in range(100):
            yield value
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)
        closed.append("closed")


async def test_shutdown_asyncgens_closes_those_in_use(loop: Loop) -> None:
    closed: list[str] = []
    generators = [count(closed) for _ in range(3)]
    for generator in generators:
        assert await generator.__anext__() == 0
    await loop.shutdown_asyncgens()
    assert closed == ["closed"] * 3


async def test_shutdown_asyncgens_with_none_in_use(loop: Loop) -> None:
    await loop.shutdown_asyncgens()
    await loop.shutdown_asyncgens()


async def test_error_in_the_end_of_a_generator(loop: Loop, contexts: list[dict[str, Any]]) -> None:
    async def fails() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise ValueError("on purpose")

    generator = fails()
    await generator.__anext__()
    await loop.shutdown_asyncgens()
    (context,) = contexts
    assert isinstance(context["exception"], ValueError)
    assert context["asyncgen"] is generator
    assert "closing of asynchronous generator" in context["message"]
    contexts.clear()


async def test_a_forgotten_generator_is_closed(loop: Loop) -> None:
    closed: list[str] = []

    async def forget() -> None:
        async for _ in count(closed):
            break

    await forget()
    gc.collect()
    for _ in range(5):
        await asyncio.sleep(0)
    assert closed == ["closed"]


async def test_iteration_after_the_shutdown_warns(loop: Loop) -> None:
    await loop.shutdown_asyncgens()
    generator = count([])
    with pytest.warns(ResourceWarning, match="scheduled after"):
        await generator.__anext__()
    await generator.aclose()


def test_generator_hooks_are_put_back(loop: Loop) -> None:
    def hook(generator: Any) -> None: ...

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=hook, finalizer=hook)
    try:
        seen: list[Any] = []

        async def look() -> None:
            seen.extend(sys.get_asyncgen_hooks())

        loop.run_until_complete(look())
        assert seen and hook not in seen
        assert sys.get_asyncgen_hooks() == (hook, hook)
    finally:
        sys.set_asyncgen_hooks(*before)


async def test_run_in_executor(loop: Loop) -> None:
    here = threading.get_ident()
    there = await loop.run_in_executor(None, threading.get_ident)
    assert there != here
    assert await loop.run_in_executor(None, partial(int, "ff", base=16)) == 255
    assert await loop.run_in_executor(None, max, 1, 2) == 2


async def test_run_in_executor_raises_what_was_raised(loop: Loop) -> None:
    def fail() -> None:
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        await loop.run_in_executor(None, fail)


async def test_many_calls_in_an_executor(loop: Loop) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        calls = [loop.run_in_executor(pool, pow, value, 2) for value in range(200)]
        assert await asyncio.gather(*calls) == [value**2 for value in range(200)]


async def test_set_default_executor(loop: Loop) -> None:
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="chosen")
    loop.set_default_executor(pool)
    name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert name.startswith("chosen")


def test_set_default_executor_of_a_wrong_type(loop: Loop) -> None:
    """Python 3.10 only warns."""
    refused = pytest.raises(TypeError)
    with refused if sys.version_info >= (3, 11) else pytest.warns(DeprecationWarning):
        loop.set_default_executor(object())  # type: ignore[arg-type]
    loop._default_executor = None  # type: ignore[attr-defined]


async def test_shutdown_default_executor_waits(loop: Loop) -> None:
    release = threading.Event()
    seen: list[str] = []

    def work() -> None:
        assert release.wait(10)
        seen.append("worked")

    future = loop.run_in_executor(None, work)
    loop.call_soon(release.set)
    await loop.shutdown_default_executor()
    assert seen == ["worked"]
    await future


async def test_executor_after_its_shutdown(loop: Loop) -> None:
    await loop.shutdown_default_executor()
    await loop.shutdown_default_executor()
    with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
        loop.run_in_executor(None, print)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert await loop.run_in_executor(pool, abs, -1) == 1, "one's own may still be used"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the argument came with 3.12")
def test_shutdown_default_executor_with_a_timeout(new_loop: Any) -> None:
    before = set(threading.enumerate())
    loop = new_loop()
    release = threading.Event()

    async def main() -> None:
        loop.run_in_executor(None, release.wait, 10)
        with pytest.warns(RuntimeWarning, match="did not finish"):
            await loop.shutdown_default_executor(timeout=0.001)

    try:
        loop.run_until_complete(main())
        loop.close()
    finally:
        release.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)


def test_close_leaves_the_executor_to_end_by_itself(new_loop: Any) -> None:
    loop = new_loop()
    threads: list[threading.Thread] = []

    async def main() -> None:
        threads.append(await loop.run_in_executor(None, threading.current_thread))

    loop.run_until_complete(main())
    loop.close()
    threads[0].join(10)
    assert not threads[0].is_alive()


async def test_coroutine_functions_are_refused_in_debug_mode(loop: Loop) -> None:
    async def coroutine() -> None: ...

    loop.set_debug(True)
    with pytest.raises(TypeError, match="coroutines cannot be used"):
        loop.run_in_executor(None, coroutine)
    with pytest.raises(TypeError):
        loop.run_in_executor(None, 7)  # type: ignore[arg-type]
