"""What `oxlip` exports beside the loop: run, new_event_loop, drivers, the policy."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from support import loops
from support.primitives import behind_asyncios_names

pytestmark = [
    pytest.mark.ours,
    pytest.mark.sim,
    # Since 3.14.
    pytest.mark.filterwarnings("ignore:.*event_loop_policy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*sets an event loop policy:DeprecationWarning"),
]


@pytest.fixture
def driver(kind: str) -> str:
    return loops.driver_of(kind)


@pytest.fixture(autouse=True)
def default_policy(kind: str) -> Iterator[None]:
    yield
    asyncio.set_event_loop_policy(None)


def oxlip() -> Any:
    """The package, which stock-only runs do not have."""
    import oxlip

    return oxlip


async def running() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_version(driver: str) -> None:
    assert oxlip().__version__ == importlib.metadata.version("oxlip")


def test_exports(driver: str) -> None:
    names = {"EventLoop", "EventLoopPolicy", "install", "new_event_loop", "run", "__version__"}
    names |= {"open_connection", "start_server", "open_unix_connection", "start_unix_server"}
    assert names <= set(oxlip().__all__)
    assert all(hasattr(oxlip(), name) for name in oxlip().__all__)


def test_driver_of_a_loop(driver: str) -> None:
    for loop in (oxlip().EventLoop(driver), oxlip().new_event_loop(driver)):
        assert type(loop) is oxlip().EventLoop
        assert loop.driver == driver
        loop.close()
        assert loop.driver == driver


def test_driver_of_the_environment(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OXLIP_DRIVER", driver)
    for make in (
        oxlip().EventLoop,
        oxlip().new_event_loop,
        oxlip().EventLoopPolicy().new_event_loop,
    ):
        loop = make()
        assert loop.driver == driver
        loop.close()


def test_default_driver_is_real(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OXLIP_DRIVER", raising=False)
    loop = oxlip().EventLoop()
    assert loop.driver != "sim"
    loop.close()


@pytest.mark.parametrize("name", ["", "no-such-driver", "EPOLL"])
def test_unknown_driver(driver: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=driver):  # the message lists those that there are
        oxlip().EventLoop(name)
    if name:
        monkeypatch.setenv("OXLIP_DRIVER", name)
        with pytest.raises(ValueError, match=driver):
            oxlip().EventLoop()


def test_run(driver: str) -> None:
    loop = oxlip().run(running(), driver=driver)
    assert type(loop) is oxlip().EventLoop
    assert loop.driver == driver
    assert loop.is_closed()


@pytest.mark.parametrize("debug", [True, False])
def test_run_in_debug_mode(driver: str, debug: bool) -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert oxlip().run(main(), debug=debug, driver=driver) is debug


def test_run_raises_what_was_raised(driver: str) -> None:
    async def main() -> None:
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        oxlip().run(main(), driver=driver)


def test_run_leaves_nothing_behind(driver: str) -> None:
    seen: list[str] = []

    async def task() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("cancelled")

    async def generator() -> Any:
        try:
            yield
        finally:
            seen.append("closed")

    async def main() -> None:
        kept.append(asyncio.ensure_future(task()))
        kept.append(generator())
        await kept[1].__anext__()
        await asyncio.to_thread(seen.append, "thread")

    kept: list[Any] = []
    before = threading.active_count()
    oxlip().run(main(), driver=driver)
    assert seen == ["thread", "cancelled", "closed"]
    assert threading.active_count() == before


@pytest.mark.parametrize("wrong", [None, 5, "text", running])
def test_run_of_what_is_no_coroutine(driver: str, wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        oxlip().run(wrong, driver=driver)


def test_run_within_a_running_loop(driver: str) -> None:
    async def main() -> None:
        coroutine = running()
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            oxlip().run(coroutine, driver=driver)
        coroutine.close()

    oxlip().run(main(), driver=driver)


def test_ctrl_c_in_run(driver: str) -> None:
    seen: list[str] = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("cleaned")

    with pytest.raises(KeyboardInterrupt):
        oxlip().run(main(), driver=driver)
    assert seen == ["cleaned"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_policy(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OXLIP_DRIVER", driver)
    asyncio.set_event_loop_policy(oxlip().EventLoopPolicy())
    loop = asyncio.run(running())
    assert type(loop) is oxlip().EventLoop


def test_install(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from oxlip import _streams

    monkeypatch.setenv("OXLIP_DRIVER", driver)
    for name in _streams.REPLACEMENTS:
        for module in (asyncio, asyncio.streams):
            monkeypatch.setattr(module, name, getattr(module, name))  # To be put back.
    with behind_asyncios_names():  # Put back as well.
        oxlip().install()
        loops_made = [asyncio.new_event_loop(), asyncio.run(running())]
        assert type(asyncio.Queue()) is oxlip().Queue
    loops_made[0].close()
    assert [type(loop) for loop in loops_made] == [oxlip().EventLoop] * 2
    assert asyncio.open_connection is oxlip().open_connection
    assert asyncio.streams.start_server is oxlip().start_server


@pytest.mark.skipif(sys.version_info < (3, 14), reason="policies are deprecated since 3.14")
def test_what_sets_a_policy_warns(driver: str) -> None:
    for set_policy in (
        oxlip().install,
        lambda: asyncio.set_event_loop_policy(oxlip().EventLoopPolicy()),
    ):
        with (
            behind_asyncios_names(),
            pytest.warns(DeprecationWarning, match=r"3\.16") as seen,
        ):
            set_policy()
        assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert type(oxlip().run(running())) is oxlip().EventLoop


def test_virtual_time(driver: str) -> None:
    from oxlip import testing

    async def main() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(1800))
        return loop.time() - start

    assert testing.run_virtual(main()) == pytest.approx(3600)


@pytest.mark.ours
def test_a_loop_keeps_nothing_in_a_dict(loop: asyncio.AbstractEventLoop) -> None:
    """Or `loop.call_soon` and all else would be looked for there first."""
    loop.run_until_complete(loop.getaddrinfo("localhost", 80))
    assert vars(loop) == {}
