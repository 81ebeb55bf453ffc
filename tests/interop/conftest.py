"""Real programs, each compared with the same run on stock asyncio."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import loops, observing
from support.tasks import native_tasks, switched_tasks

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            # Their warnings are their authors' business.
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))


@pytest.fixture(params=["asyncio", "oxlip"], ids=["stock-tasks", "our-tasks"], autouse=True)
def tasks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whose tasks loops of ours make: asyncio's, or ours as after `oxlip.install()`."""
    if request.param == "asyncio":
        yield
        return
    if not native_tasks():
        pytest.skip("without tasks of ours")
    with switched_tasks():
        yield


@pytest.fixture
def same_as_stock(kind: str) -> Iterator[Callable[[observing.Program], Any]]:
    """Runs a program on stock asyncio and on the loop under test; its result, which must agree."""

    def run(program: observing.Program) -> Any:
        expected, problems = observing.run(loops.STOCK, program)
        assert problems == []
        assert observing.run(kind, program) == (expected, [])
        return expected

    yield run
    gc.collect()  # what complains when it is freed does so within this test
