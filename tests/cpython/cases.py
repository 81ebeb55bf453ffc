"""CPython's own tests of asyncio, found in the installed standard library and pointed at our loop.

Nothing of them is copied, and none is left out here: every module, class and method there is.
Their loops come from asyncio's event loop policy, its loop classes, a `loop_factory`, a method of
the test class, or the `TestLoop` of their own support module, which keeps its own time; while a
test runs, each of these gives loops of ours, and a mock that it puts into a module of asyncio's
is seen by ours. A test that made none is not about a loop.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import asyncio.streams
import asyncio.unix_events
import gc
import importlib
import pkgutil
import sys
import time
import unittest
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from support import loops
from support.primitives import behind_asyncios_names
from support.streams import replacements
from support.tasks import in_place_of, native_tasks, our_tasks

# Modules whose tests open descriptors: they run on every driver.
ON_EVERY_DRIVER = {
    "test_base_events",
    "test_buffered_proto",
    "test_events",
    "test_sendfile",
    "test_server",
    "test_sock_lowlevel",
    "test_sslproto",
    "test_streams",
    "test_subprocess",
    "test_unix_events",
}
# Modules that are run once more with our streams behind asyncio's names.
WITH_OUR_STREAMS = {"test_streams", "test_subprocess"}
# Modules that are run once more while asyncio's classes make our locks, queues and timeouts.
WITH_OUR_PRIMITIVES = {
    "test_graph",
    "test_locks",
    "test_queues",
    "test_taskgroups",
    "test_timeouts",
    "test_waitfor",
}
# Modules that are run once more after the whole switch, with our futures and tasks in the place of
# asyncio's in C.
WITH_OUR_TASKS = {
    "test_eager_task_factory",
    "test_futures",
    "test_futures2",
    "test_taskgroups",
    "test_tasks",
}
# The same tests once more, on another selector of asyncio; ours run them on every driver.
OTHER_SELECTORS = {"EPollEventLoopTests", "KqueueEventLoopTests", "PollEventLoopTests"}
# The names under which asyncio has loop classes.
CLASSES = {"BaseEventLoop", "EventLoop", "SelectorEventLoop"}
# They call a method of asyncio's `BaseEventLoop` by that name, and make no loop of it.
OF_ASYNCIOS_METHODS = {"test_sendfile"}
# Where a test puts a mock into a module of asyncio's, ours that does the same gets it.
MOCKED = {
    ("oxlip._connect", "asyncio.base_events"): ["socket"],
    ("oxlip._datagram", "asyncio.base_events"): ["socket"],
    ("oxlip._server", "asyncio.base_events"): ["socket"],
    ("oxlip._sock", "asyncio.base_events"): ["socket"],
    ("oxlip._sendfile", "asyncio.unix_events"): ["os"],
    ("oxlip._signals", "asyncio.unix_events"): ["signal", "sys"],
    ("oxlip._unix", "asyncio.unix_events"): ["socket"],
}
# What test.support may use: no network.
RESOURCES = {"cpu", "subprocess", "walltime"}
PACKAGE = "test.test_asyncio"


@dataclass(frozen=True)
class Outcome:
    """What became of a test."""

    result: unittest.TestResult
    # How many loops it made.
    loops: int


@dataclass(frozen=True)
class Case:
    """One test method of one class."""

    module: str
    cls: type[unittest.TestCase]
    method: str

    @property
    def name(self) -> str:
        """What the data files call it."""
        return f"{self.module}.{self.cls.__name__}.{self.method}"

    def run(self, kind: str, ours: str = "") -> Outcome:
        """Runs it with its class and module fixtures on loops of this kind.

        `ours` says what else is not asyncio's: "streams", "primitives" or "tasks".
        """
        result = unittest.TestResult()
        made: list[str] = []
        real = _loop_class(kind, made)
        keep = kind == loops.STOCK or self.module in OF_ASYNCIOS_METHODS
        virtual = None if keep else _virtual_loop_class(real)
        with ExitStack() as stack:
            stack.enter_context(everywhere(real, virtual))
            stack.enter_context(replaced(ours))
            stack.enter_context(bounded_cleanup())
            stack.enter_context(same_classes())
            cls = _of_our_tasks(self.cls) if ours == "tasks" else self.cls
            case = _on_loop(cls, real)(self.method)
            unittest.TestSuite([case]).run(result)
        return Outcome(result, len(made))


def modules() -> list[str]:
    """The modules with tests; none where Python comes without them, as some distributions' does."""
    try:
        from test import support

        package = importlib.import_module(PACKAGE)
    except ImportError:
        return []
    support.use_resources = RESOURCES  # type: ignore[attr-defined]
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if name.startswith("test_"))


def find(module: str) -> Iterator[Case]:
    """The cases of one module; none where the whole module is for another platform."""
    try:
        imported = importlib.import_module(f"{PACKAGE}.{module}")
    except unittest.SkipTest:
        return
    loader = unittest.TestLoader()
    for cls in list(vars(imported).values()):
        if not (isinstance(cls, type) and issubclass(cls, unittest.TestCase)):
            continue
        if cls.__module__ == imported.__name__ and cls.__name__ not in OTHER_SELECTORS:
            for method in loader.getTestCaseNames(cls):
                yield Case(module, cls, method)


@contextmanager
def everywhere(real: type[Any], virtual: type[Any] | None) -> Iterator[None]:
    """Within the block, whatever makes a loop through asyncio makes one of the class `real`.

    `virtual` is for tests that want to rule time.
    """
    utils = importlib.import_module(f"{PACKAGE}.utils")
    with ExitStack() as stack:
        if not issubclass(real, asyncio.SelectorEventLoop):
            _follow_mocks(stack)
        # A default policy asks its class. (By its own name: the public one is deprecated.)
        policy = getattr(asyncio.unix_events, "_UnixDefaultEventLoopPolicy", None)
        policy = policy or asyncio.unix_events._DefaultEventLoopPolicy  # type: ignore[attr-defined]
        stack.enter_context(mock.patch.object(policy, "_loop_factory", real))
        _set_policy(policy())
        if sys.version_info < (3, 14):
            # Tests of 3.12 know the state that earlier ones leave: without a loop, and none is made
            # unasked.
            asyncio.set_event_loop(None)
        stack.callback(_set_policy, None)
        if virtual is not None:
            stack.enter_context(mock.patch.object(utils, "TestLoop", virtual))
            for module in (asyncio, asyncio.base_events, asyncio.unix_events):
                for name in CLASSES & vars(module).keys():
                    stack.enter_context(mock.patch.object(module, name, real))
        yield


def _follow_mocks(stack: ExitStack) -> None:
    """Has our modules use what asyncio's use: a test puts a mock in the place of the latter."""
    for (ours, theirs), names in MOCKED.items():
        module = importlib.import_module(ours)
        for name in names:
            stack.enter_context(mock.patch.object(module, name, _Followed(theirs, name)))


class _Followed:
    """A module as another one sees it just now."""

    def __init__(self, module: str, name: str) -> None:
        self._place = (importlib.import_module(module), name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(getattr(*self._place), attribute)


@contextmanager
def replaced(ours: str) -> Iterator[None]:
    """Within the block, asyncio's names of streams are ours, those of the classes too, or its
    classes of locks, queues and timeouts make ours."""
    with ExitStack() as stack:
        if ours == "tasks":
            stack.enter_context(behind_asyncios_names())
            for (module, name), cls in our_tasks().items():
                stack.enter_context(mock.patch.object(module, name, cls))
        if ours == "primitives":
            stack.enter_context(behind_asyncios_names())
        if ours == "streams":
            for name, replacement in replacements().items():
                for module in (asyncio, asyncio.streams):
                    stack.enter_context(mock.patch.object(module, name, replacement))
        yield


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


@contextmanager
def same_classes() -> Iterator[None]:
    """After the block asyncio's classes are what they were before.

    TestPyFreeThreading of 3.14 leaves `asyncio.futures.Future` behind: in the tests that come after
    it in this process, loops would give futures which are no `asyncio.Future`.
    """
    modules = (asyncio, asyncio.futures, asyncio.tasks)
    kept = [
        (module, name, vars(module)[name])
        for module in modules
        for name in ("Future", "Task")
        if name in vars(module)
    ]
    yield
    for module, name, value in kept:
        setattr(module, name, value)


def _set_policy(policy: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(policy)


def _loop_class(kind: str, made: list[str]) -> type[Any]:
    """A loop class that can be made as asyncio's is, with a selector, and notes each loop."""
    if kind == loops.STOCK:

        class Stock(asyncio.SelectorEventLoop):
            def __init__(self, selector: Any = None) -> None:
                made.append(kind)
                super().__init__(selector)

        return Stock

    import oxlip

    class Ours(oxlip.EventLoop):
        def __new__(cls, selector: Any = None) -> Ours:
            return super().__new__(cls, driver=loops.driver_of(kind))

        def __init__(self, selector: Any = None) -> None:
            made.append(kind)
            super().__init__()

        # A mock of a socket gives 1 for its descriptor, which would be taken and closed.
        _connection = _not_of_a_mock(oxlip.EventLoop._connection)
        _datagram = _not_of_a_mock(oxlip.EventLoop._datagram)
        _listen = _not_of_a_mock(oxlip.EventLoop._listen)

    return Ours


def _not_of_a_mock(method: Callable[..., Any]) -> Callable[..., Any]:
    def checked(self: Any, sock: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(sock, mock.NonCallableMock):
            raise ValueError(f"Invalid file object: {sock!r}")  # As a selector says.
        return method(self, sock, *args, **kwargs)

    return checked


def _virtual_loop_class(real: type[Any]) -> type[Any]:
    """In the place of `TestLoop`: the same class over our loop instead of asyncio's.

    It has a time of its own, which it moves on in a `_run_once()` of its own, as the test's
    generator says. Where there is none time stands still, nothing waits: ticks can be native.
    """
    test_loop = importlib.import_module(f"{PACKAGE}.utils").TestLoop

    class Virtual(test_loop, real):  # type: ignore[misc]
        def _waits_natively(self) -> bool:
            return not self._check_on_close

    return Virtual


def has_tasks_in_c(case: Case) -> bool:
    """Whether ours can be put in the place of something that this test uses."""
    return native_tasks() and not case.cls.__name__.startswith("Py")


def _of_our_tasks(cls: type[unittest.TestCase]) -> type[unittest.TestCase]:
    """The class, with our classes for those in C that it names, and for what derives from them."""
    found = {name: getattr(cls, name, None) for name in ("cls", "Future", "Task")}
    overridden = {
        name: ours
        for name, value in found.items()
        if isinstance(value, type) and (ours := in_place_of(value)) is not value
    }
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (cls,), {**overridden, **names})


def _on_loop(cls: type[unittest.TestCase], real: type[Any]) -> type[unittest.TestCase]:
    """The class itself, or a subclass that says in its own ways which loop it wants."""
    overridden: dict[str, Any] = {
        name: lambda self: real()
        for name in ("create_event_loop", "new_loop")
        if hasattr(cls, name) and not cls.__module__.endswith(".test_runners")
    }
    if getattr(cls, "loop_factory", None) is not None:
        overridden["loop_factory"] = real
    if not overridden:
        return cls
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (cls,), {**overridden, **names})
