"""The loop as a fixture, on stock asyncio and on ours with every driver, and the checks round it.

`loop` gives a test one loop; `new_loop` a function that makes more of the same kind. A test that is
a coroutine function runs on `loop`. When a test has passed, nothing may be left: no descriptor, no
thread, no pending task, no native object, no error handed to the exception handler that the test
did not take out of `contexts`.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from support import expectations, leaks, limits, loops, patience, primitives, tasks

HERE = Path(__file__).parent
EXPECTED = HERE / "expected.toml"
# How many passes a loop gets to finish what a test has begun to end, such as a closed transport.
SETTLING_TICKS = 20
SECONDS_TO_END = 15 * patience.FACTOR

OF_CPYTHON = re.compile(r"cpython/.*\[(.+?)-(test_[^\]]+)\]")

# How long an example takes says how busy the machine is; what hangs ends at pytest's own limit.
hypothesis.settings.register_profile(
    "oxlip", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("oxlip")

passed = pytest.StashKey[bool]()
before = pytest.StashKey[leaks.Snapshot]()

NewLoop = Callable[[], asyncio.AbstractEventLoop]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--loops", default="", help="only these kinds of loop, separated by commas")


def pytest_configure(config: pytest.Config) -> None:
    if (reason := loops.why_unusable()) is not None:
        raise pytest.UsageError(reason)
    # A shell without job control starts what it puts into the background with Ctrl-C ignored, and
    # processes inherit that: every test that interrupts something would wait until its time limit.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str | None:
    reason = loops.why_no_rings() if sys.platform == "linux" else None
    return f"not on the io_uring driver: {reason}" if reason else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" not in metafunc.fixturenames:
        return
    kinds = loops.all_kinds(sim=metafunc.definition.get_closest_marker("sim") is not None)
    if metafunc.definition.get_closest_marker("ours"):
        kinds = [kind for kind in kinds if loops.is_ours(kind)]
    wanted = metafunc.config.getoption("loops")
    if wanted:
        kinds = [kind for kind in kinds if kind in wanted.split(",")]
    # None: the test is dropped again below, instead of shown as skipped.
    metafunc.parametrize("kind", kinds or [None])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _drop_without_loop(config, items)
    entries = expectations.read(EXPECTED)
    tests = set()
    for item in items:
        test, _, _ = item.nodeid.removeprefix("tests/").partition("[")
        tests.add(test)
        call = getattr(item, "callspec", None)
        kind = call.params.get("kind") if call is not None else None
        entry = expectations.find(entries, test, kind)
        if entry is not None:
            item.add_marker(pytest.mark.xfail(reason=entry.text(), run=entry.run, strict=True))
    if any("::" in argument for argument in config.args):
        return
    files = {test.partition("::")[0] for test in tests}
    for entry in entries:
        if entry.test.partition("::")[0] in files and not any(map(entry.names, tests)):
            raise pytest.UsageError(f"{EXPECTED.name} speaks of no test: {entry.test}")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    loop = pyfuncitem.funcargs["loop"]
    assert isinstance(loop, asyncio.AbstractEventLoop)
    loop.run_until_complete(pyfuncitem.obj(**arguments))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[passed] = report.passed
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    done = yield
    if not item.stash.get(passed, False):
        # What a failure kept alive is freed here, so that no other test is blamed for it.
        sys.last_exc = sys.last_value = sys.last_traceback = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
    return done


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    item.stash[before] = leaks.take()
    # Collections of this test then look only at what it makes, not at the reports of thousands
    # before it: some of CPython's own tests collect a hundred times.
    gc.freeze()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    with limits.limit(SECONDS_TO_END):
        yield
    if not item.stash.get(passed, False):
        return  # the traceback of a failure keeps its objects alive
    if isinstance(item, pytest.Function):
        item.funcargs.clear()
    left = leaks.grown(item.stash[before], leaks.take())
    if left:
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows = []
    for outcome in ("xfailed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if outcome == "xfailed":
                reason = report.wasxfail.removeprefix("reason: ")
            else:
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            # Of CPython's tests the name is a parameter.
            test = OF_CPYTHON.sub(r"cpython: \2[\1]", report.nodeid.removeprefix("tests/"))
            rows.append((outcome, test, reason))
    if rows:
        terminalreporter.section("skips and expected failures, with their reasons")
        for line in expectations.table(rows):
            terminalreporter.write_line(line)


@pytest.fixture
def contexts() -> list[dict[str, Any]]:
    """What the exception handlers of this test's loops were given. A test takes out (`clear()`)
    what it expects."""
    return []


@pytest.fixture
def new_loop(kind: str, contexts: list[dict[str, Any]]) -> Iterator[NewLoop]:
    """Makes loops of this kind, which are closed and checked after the test."""
    made: list[asyncio.AbstractEventLoop] = []
    make = loops.factory(kind)

    def new() -> asyncio.AbstractEventLoop:
        loop = make()
        loop.set_exception_handler(lambda _, context: contexts.append(context))
        made.append(loop)
        return loop

    yield new
    pending = [task for loop in made for task in _settle(loop)]
    found = list(contexts)
    contexts.clear()
    made.clear()
    asyncio.set_event_loop(None)
    gc.collect()  # what complains when it is freed does so within this test
    assert not found, f"unexpected calls of the exception handler: {found}"
    assert not pending, f"tasks still pending: {pending}"


@pytest.fixture
def loop(new_loop: NewLoop) -> asyncio.AbstractEventLoop:
    """The loop under test, not running."""
    return new_loop()


@pytest.fixture(params=["asyncio", "oxlip"])
def classes(request: pytest.FixtureRequest) -> Iterator[str]:
    """Whose futures and tasks loops of ours make; asyncio's also where ours are not made."""
    if request.param == "oxlip" and tasks.native_tasks():
        with tasks.switched_tasks():
            yield request.param
    else:
        yield request.param


@pytest.fixture(params=primitives.BOTH)
def switched(request: pytest.FixtureRequest) -> Iterator[str]:
    """Whose locks, queues and functions of tasks stand behind asyncio's names."""
    with primitives.behind_names_if(request.param):
        yield request.param


def _drop_without_loop(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects the tests for which there is no kind of loop in this run."""

    def has_loop(item: pytest.Item) -> bool:
        call = getattr(item, "callspec", None)
        return call is None or call.params.get("kind", "") is not None

    dropped = [item for item in items if not has_loop(item)]
    items[:] = filter(has_loop, items)
    if dropped:
        config.hook.pytest_deselected(items=dropped)


def _settle(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    """Ends a loop in good order; the tasks that did not end by themselves."""
    if loop.is_closed():
        return []

    async def finish() -> list[asyncio.Task[Any]]:
        for _ in range(SETTLING_TICKS):
            await asyncio.sleep(0)
        pending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()
        return pending

    try:
        loop.set_task_factory(None)
        return loop.run_until_complete(finish())
    finally:
        loop.close()
