"""The loops that the suite runs on: stock asyncio, and ours on every driver.

A *kind* names one: "asyncio", "oxlip-epoll", "oxlip-sim" and so on. It is what a test's id shows.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Callable
from typing import Any

STOCK = "asyncio"
STOCK_ONLY = os.environ.get("OXLIP_TESTS_STOCK_ONLY") == "1"

Factory = Callable[[], asyncio.AbstractEventLoop]


def drivers() -> tuple[str, ...]:
    """The drivers of this platform that wait on real descriptors."""
    if sys.platform == "linux":
        rings = () if why_no_rings() else ("io_uring",)
        return ("epoll", *rings, "poll", "select")
    return ("poll", "select")


@functools.cache
def why_no_rings() -> str | None:
    """Why nothing can run on io_uring here, or None."""
    if STOCK_ONLY:
        return None
    import oxlip

    loop = oxlip.EventLoop(driver="io_uring")
    loop.close()
    return None if loop.driver == "io_uring" else loop._driver_reason


def all_kinds(*, sim: bool) -> list[str]:
    """Every kind; with the simulated driver only for a test that needs no descriptor."""
    if STOCK_ONLY:
        return [STOCK]
    ours = [*drivers(), "sim"] if sim else list(drivers())
    return [STOCK, *(f"oxlip-{driver}" for driver in ours)]


def is_ours(kind: str) -> bool:
    return kind != STOCK


def driver_of(kind: str) -> str:
    return kind.removeprefix("oxlip-")


def factory(kind: str) -> Factory:
    """What makes a loop of this kind."""
    if kind == STOCK:
        return asyncio.SelectorEventLoop
    import oxlip

    driver = driver_of(kind)
    return lambda: oxlip.EventLoop(driver=driver)


def live_objects() -> dict[str, int]:
    """How many native objects exist, by type; empty where the build does not count them."""
    if STOCK_ONLY:
        return {}
    from oxlip import _native

    count: Any = getattr(_native, "live_objects", None)
    return dict(count()) if count is not None else {}


def why_unusable() -> str | None:
    """The reason why the suite cannot run on our loop, or None."""
    if STOCK_ONLY:
        return None
    try:
        import oxlip
    except ImportError as error:
        return f"oxlip cannot be imported ({error}); build it, or set OXLIP_TESTS_STOCK_ONLY=1"
    if not hasattr(oxlip, "EventLoop"):
        return f"the package oxlip at {oxlip.__path__} has no EventLoop; build the extension"
    return None
