"""The loop under asyncio's own ways to run: run, Runner, TaskGroup, timeouts, Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support import loops

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner came with 3.11"),
]


@pytest.fixture
def factory(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    return loops.factory(kind)


Factory = Callable[[], asyncio.AbstractEventLoop]


def test_runner(factory: Factory) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        assert type(runner.get_loop()) is type(factory_type(factory))
        assert runner.run(asyncio.sleep(0, 1)) == 1
        assert runner.run(asyncio.sleep(0, 2)) == 2
        loop = runner.get_loop()
    assert loop.is_closed()


def factory_type(factory: Factory) -> asyncio.AbstractEventLoop:
    loop = factory()
    loop.close()
    return loop


def test_debug(factory: Factory) -> None:
    with asyncio.Runner(loop_factory=factory, debug=True) as runner:
        assert runner.get_loop().get_debug()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the argument came with 3.12")
def test_run(factory: Factory) -> None:
    async def main() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    loop = asyncio.run(main(), loop_factory=factory)
    assert type(loop) is type(factory_type(factory))
    assert loop.is_closed()


def test_what_is_left_is_cancelled(factory: Factory) -> None:
    seen: list[str] = []

    async def left() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main() -> None:
        tasks.append(asyncio.ensure_future(left()))
        await asyncio.sleep(0)

    tasks: list[Any] = []
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert seen == ["cancelled"]


def test_generators_and_executor_are_shut_down(factory: Factory) -> None:
    seen: list[str] = []

    async def generator() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    async def main() -> None:
        kept.append(generator())
        await kept[0].__anext__()
        await asyncio.to_thread(int)

    kept: list[Any] = []
    before = threading.active_count()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert seen == ["closed"]
    assert threading.active_count() == before


def test_ctrl_c_cancels_the_main_task(factory: Factory) -> None:
    seen: list[str] = []

    async def main() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(KeyboardInterrupt):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
    assert seen == ["cancelled"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_wakes_a_sleeping_loop(factory: Factory) -> None:
    timer = threading.Timer(0.02, os.kill, [os.getpid(), signal.SIGINT])

    async def main() -> None:
        timer.start()
        await asyncio.get_running_loop().create_future()

    with pytest.raises(KeyboardInterrupt):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
    timer.join()


def test_ctrl_c_may_be_survived(factory: Factory) -> None:
    async def main() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
            return "finished all the same"
        return "not interrupted"

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) == "finished all the same"


def test_error_in_main(factory: Factory) -> None:
    async def main() -> None:
        raise LookupError("on purpose")

    with asyncio.Runner(loop_factory=factory) as runner:
        with pytest.raises(LookupError):
            runner.run(main())
        assert runner.run(asyncio.sleep(0, "usable")) == "usable"


def test_run_within_a_running_loop(factory: Factory) -> None:
    async def main() -> None:
        coroutine = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="cannot be called from a running"):
            runner.run(coroutine)
        coroutine.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def test_task_group(factory: Factory) -> None:
    async def main() -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, value)) for value in range(20)]
        return [task.result() for task in tasks]

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) == list(range(20))


def test_task_group_that_fails(factory: Factory) -> None:
    async def fail() -> None:
        raise ValueError("on purpose")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            tasks.append(group.create_task(asyncio.sleep(3600)))
            group.create_task(fail())

    tasks: list[asyncio.Task[Any]] = []
    with asyncio.Runner(loop_factory=factory) as runner:
        with pytest.raises(ExceptionGroup):  # noqa: F821
            runner.run(main())
        assert tasks[0].cancelled()


def test_timeout(factory: Factory) -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await loop.create_future()
        async with asyncio.timeout(3600):
            await asyncio.sleep(0)
        return loop.time() - start

    with asyncio.Runner(loop_factory=factory) as runner:
        assert 0.005 <= runner.run(main()) < 5
