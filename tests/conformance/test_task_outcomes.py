"""What comes of futures and tasks of ours: results, errors, and what cannot be awaited.

Everything here runs with asyncio's classes and with ours, on every loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any

import pytest
from support.protocols import PATIENCE
from support.tasks import awaits, fail, native_tasks
from support.ticks import pause

if not native_tasks():
    pytest.skip("without tasks of ours", allow_module_level=True)

pytestmark = [pytest.mark.sim, pytest.mark.usefixtures("classes")]

Loop = asyncio.AbstractEventLoop


async def test_results_of_every_kind(loop: Loop) -> None:
    for result in (None, 5, (), (1, 2), ValueError("as a result"), StopIteration(3)):
        future: asyncio.Future[Any] = loop.create_future()
        loop.call_soon(future.set_result, result)
        assert await future is result
        assert await future is result
        assert await loop.create_task(awaits(future)) is result
        with pytest.raises(asyncio.InvalidStateError):
            future.set_result(result)


async def test_errors_of_every_kind(loop: Loop) -> None:
    class Own(BaseException):
        pass

    for error in (ValueError("a"), Own(), asyncio.CancelledError("as an error")):
        future: asyncio.Future[Any] = loop.create_future()
        loop.call_soon(future.set_exception, error)
        with pytest.raises(type(error)) as caught:
            await future
        assert caught.value is error
        with pytest.raises(type(error)):
            await loop.create_task(awaits(future))
    future = loop.create_future()
    future.set_exception(ValueError)
    assert isinstance(future.exception(), ValueError)
    with pytest.raises(TypeError):
        loop.create_future().set_exception(5)  # type: ignore[arg-type]


async def test_a_stop_iteration_is_refused(loop: Loop) -> None:
    """As a TypeError at once, or as a RuntimeError where it is awaited: as the release has it."""

    async def outcome(future: Any) -> tuple[type, str]:
        try:
            future.set_exception(StopIteration(5))
            await future
        except (TypeError, RuntimeError) as error:
            return type(error), str(error)
        raise AssertionError

    assert await outcome(loop.create_future()) == await outcome(asyncio.Future(loop=loop))


async def test_what_cannot_be_awaited(loop: Loop, new_loop: Callable[[], Loop]) -> None:
    class Yields:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __await__(self) -> Any:
            return (yield self.value)

    other = new_loop().create_future()
    future = loop.create_future()
    for value, message in (
        (5, "Task got bad yield: 5"),
        (future, "yield was used instead of yield from in task"),
        ((x for x in ()), "yield was used instead of yield from for generator in task"),
    ):
        with pytest.raises(RuntimeError, match=message):
            await loop.create_task(awaits(Yields(value)))
    with pytest.raises(RuntimeError, match="attached to a different loop"):
        await loop.create_task(awaits(other))
    found: list[Any] = []

    async def itself() -> None:
        await found[0]

    found.append(loop.create_task(itself()))
    with pytest.raises(RuntimeError, match="Task cannot await on itself"):
        await found[0]
    found.clear()
    with pytest.raises(TypeError, match="a coroutine was expected"):
        loop.create_task(5)  # type: ignore[arg-type]


async def test_iterators(loop: Loop) -> None:
    future = loop.create_future()
    waits: Any = future.__await__()
    assert next(waits) is future
    assert future._asyncio_future_blocking
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(waits)
    with pytest.raises(KeyError):
        waits.throw(KeyError("thrown"))
    assert list(waits) == []
    future._asyncio_future_blocking = False
    future.set_result((1, 2))
    with pytest.raises(StopIteration) as caught:
        iter(future).send(None)  # type: ignore[attr-defined]
    assert caught.value.value == (1, 2)
    closed: Any = future.__await__()
    closed.close()
    assert list(closed) == []
    for wrong in (5, int):
        with pytest.raises(TypeError):
            future.__await__().throw(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_errors_that_end_the_loop(loop: Loop, error: type[BaseException]) -> None:
    task = loop.create_task(fail(error()))
    with pytest.raises(error):
        loop.run_forever()
    assert asyncio.current_task(loop) is None
    with pytest.raises(error):
        task.result()
    loop.run_until_complete(pause())


async def test_what_asyncio_builds_on_them(loop: Loop) -> None:
    async def give(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    assert await asyncio.gather(give(1), loop.create_task(give(2))) == [1, 2]
    outcome = await asyncio.gather(fail(KeyError()), give(1), return_exceptions=True)
    assert isinstance(outcome[0], KeyError)
    tasks = [loop.create_task(give(index)) for index in range(3)]
    done, pending = await asyncio.wait(tasks)
    assert (done, pending) == (set(tasks), set())
    assert {await first for first in asyncio.as_completed([give(5), give(6)])} == {5, 6}
    async with asyncio.TaskGroup() as group:
        children = [group.create_task(give(index)) for index in range(3)]
    assert [child.result() for child in children] == [0, 1, 2]
    with pytest.raises(BaseExceptionGroup) as caught:  # noqa: F821
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(KeyError("in a group")))
            await asyncio.sleep(PATIENCE)
    assert isinstance(caught.value.exceptions[0], KeyError)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await loop.create_future()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)

    inner = loop.create_task(give(9))
    shielded = loop.create_task(awaits(asyncio.shield(inner)))
    await pause()
    shielded.cancel()
    with pytest.raises(asyncio.CancelledError):
        await shielded
    assert await inner == 9

    outside: concurrent.futures.Future[int] = concurrent.futures.Future()
    wrapped = asyncio.wrap_future(outside)
    outside.set_result(4)
    assert await wrapped == 4
