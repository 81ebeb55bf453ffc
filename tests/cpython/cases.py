"""CPython's own tests of asyncio, found in the installed standard library and pointed at our loop.

Nothing of them is copied. Their classes get their loop in one of three ways, all of which are taken
over here: a method `create_event_loop` or `new_loop` of the class, which a subclass overrides, or
the event loop policy.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
import time
import types
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from support.loops import Factory

# Modules whose tests open descriptors: they run on every driver.
ON_EVERY_DRIVER = [
    "test_buffered_proto",
    "test_events",
    "test_sendfile",
    "test_server",
    "test_sock_lowlevel",
    "test_streams",
    "test_subprocess",
    "test_unix_events",
]
# The others run on one.
ON_ONE_DRIVER = [
    "test_context",
    "test_eager_task_factory",
    "test_free_threading",
    "test_futures2",
    "test_locks",
    "test_pep492",
    "test_queues",
    "test_runners",
    "test_ssl",
    "test_sslproto",
    "test_staggered",
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_waitfor",
]
# Classes that are the same tests on another selector, platform or kind of task of asyncio itself,
# or whose subject is a class of asyncio and no loop that they were given.
OTHERS = {
    "test_events": [
        "AbstractEventLoopTests",
        "EPollEventLoopTests",
        "HandleTests",
        "KqueueEventLoopTests",
        "PolicyTests",
        "PollEventLoopTests",
        "ProactorEventLoopTests",
        "TimerTests",
    ],
    "test_sendfile": ["EPollEventLoopTests", "KqueueEventLoopTests", "PollEventLoopTests"],
    "test_sock_lowlevel": ["EPollEventLoopTests", "KqueueEventLoopTests", "PollEventLoopTests"],
    "test_sslproto": ["SslProtoHandshakeTests"],
    "test_subprocess": [
        "GenericWatcherTests",
        "MultiLoopChildWatcherTests",
        "SubprocessTransportTests",
    ],
    "test_tasks": [
        "CIntrospectionTests",
        "CTaskSubclass_PyFuture_Tests",
        "CTask_CFuture_SubclassTests",
        "CTask_PyFuture_Tests",
        "CoroutineGatherTests",
        "FutureGatherTests",
        "GenericTaskTests",
        "PyIntrospectionTests",
        "PyTask_CFutureSubclass_Tests",
        "PyTask_CFuture_Tests",
        "PyTask_PyFuture_SubclassTests",
    ],
}
# Where only these classes concern a loop that they are given.
ONLY = {"test_unix_events": ["TestFork", "TestFunctional"]}
# What test.support may use: no network.
RESOURCES = {"cpu", "subprocess", "walltime"}


@dataclass(frozen=True)
class Case:
    """One test method of one class."""

    module: str
    cls: type[unittest.TestCase]
    method: str

    @property
    def name(self) -> str:
        """What the data file calls it."""
        return f"{self.module}.{self.cls.__name__}.{self.method}"

    def run(self, factory: Factory) -> unittest.TestResult:
        """Runs it with its class and module fixtures on loops of the factory."""
        result = unittest.TestResult()
        with policy(factory), bounded_cleanup():
            unittest.TestSuite([_on_loop(self.cls, factory)(self.method)]).run(result)
        return result


def find(module: str) -> Iterator[Case]:
    """The cases of one module of `test.test_asyncio`; none where this Python has no such module."""
    name = f"test.test_asyncio.{module}"
    try:
        imported = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return
    except unittest.SkipTest:
        return
    loader = unittest.TestLoader()
    for cls in _classes(imported, name):
        for method in loader.getTestCaseNames(cls):
            yield Case(module, cls, method)


def is_installed() -> bool:
    """Whether the interpreter comes with its tests (packages of distributions may not)."""
    try:
        from test import support

        importlib.import_module("test.test_asyncio")
    except ImportError:
        return False
    support.use_resources = RESOURCES  # type: ignore[attr-defined]
    return True


@contextmanager
def policy(factory: Factory) -> Iterator[None]:
    """Within the block, asyncio makes loops of this kind wherever it makes one."""
    with_factory = types.new_class(
        "Policy",
        (asyncio.DefaultEventLoopPolicy,),
        exec_body=lambda body: body.update(_loop_factory=staticmethod(factory)),
    )
    asyncio.set_event_loop_policy(with_factory())
    try:
        yield
    finally:
        asyncio.set_event_loop_policy(None)


@contextmanager
def bounded_cleanup() -> Iterator[None]:
    """Within the block, a test's end waits at most a second for threads that it has left.

    So it is since Python 3.11. Before, it collects garbage three hundred times, which takes longer
    than the time limit on a busy machine: a failed test of TLS leaves a thread that shakes hands.
    """
    if sys.version_info >= (3, 11):
        yield
        return
    from test.support import threading_helper

    def cleanup(*before: object) -> None:
        overdue = time.monotonic() + 1
        while threading_helper.threading_setup() != before and time.monotonic() < overdue:
            time.sleep(0.01)
            gc.collect()

    with mock.patch.object(threading_helper, "threading_cleanup", cleanup):
        yield


def _classes(module: types.ModuleType, name: str) -> Iterator[type[unittest.TestCase]]:
    short = name.rpartition(".")[2]
    for value in list(vars(module).values()):
        if not (isinstance(value, type) and issubclass(value, unittest.TestCase)):
            continue
        if value.__module__ != name or value.__name__ in OTHERS.get(short, []):
            continue
        if short in ONLY and value.__name__ not in ONLY[short]:
            continue
        if "Proactor" in value.__name__ and sys.platform != "win32":
            continue
        yield value


def _on_loop(cls: type[unittest.TestCase], factory: Factory) -> type[unittest.TestCase]:
    """The class itself, or a subclass that makes its loops with the factory."""

    def make(self: unittest.TestCase) -> asyncio.AbstractEventLoop:
        return factory()

    def make_noting_shutdown(self: unittest.TestCase) -> asyncio.AbstractEventLoop:
        loop: Any = factory()
        shutdown = loop.shutdown_asyncgens

        async def shutdown_asyncgens() -> None:
            loop.shutdown_ag_run = True
            await shutdown()

        loop.shutdown_ag_run = False
        loop.shutdown_asyncgens = shutdown_asyncgens
        return loop  # type: ignore[no-any-return]

    overridden: dict[str, Any] = {
        name: make for name in ("create_event_loop", "new_loop") if hasattr(cls, name)
    }
    if cls.__module__.endswith(".test_runners"):  # whose loops are made to tell of the shutdown
        overridden["new_loop"] = make_noting_shutdown
    if not overridden:
        return cls
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (cls,), {**overridden, **names})
