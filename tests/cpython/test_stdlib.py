"""Runs CPython's own tests of asyncio on our loop: see cases.py and the two data files.

`expected_failures.toml` lists what our loop does not do yet, `excluded.toml` what it cannot: tests
of the insides of asyncio's own loops. Both are strict: what passes must not be listed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cpython import cases
from support import expectations, loops

HERE = Path(__file__).parent

# These tests have their own ways with warnings.
pytestmark = pytest.mark.filterwarnings("default")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    entries = [
        entry
        for name in ("expected_failures.toml", "excluded.toml")
        for entry in expectations.read(HERE / name, kinds=["oxlip-*"])
    ]
    kinds = [loops.STOCK] if loops.STOCK_ONLY else [f"oxlip-{name}" for name in loops.drivers()]
    parameters = []
    names = set()
    for module in cases.modules():
        for case in cases.find(module):
            names.add(case.name)
            runs = [(kind, "") for kind in kinds[: None if module in cases.ON_EVERY_DRIVER else 1]]
            if module in cases.WITH_OUR_STREAMS and kinds[0] != loops.STOCK:
                runs.append((kinds[0], "streams"))
            if module in cases.WITH_OUR_PRIMITIVES and kinds[0] != loops.STOCK:
                runs.append((kinds[0], "primitives"))
            if module in cases.WITH_OUR_TASKS and kinds[0] != loops.STOCK:
                if cases.has_tasks_in_c(case):
                    runs.append((kinds[0], "tasks"))
            for kind, ours in runs:
                place = f"{kind}{f'-{ours}' if ours else ''}"
                entry = expectations.find(entries, case.name, place)
                marks = (
                    [pytest.mark.xfail(reason=entry.text(), run=entry.run, strict=True)]
                    if entry is not None
                    else []
                )
                name = f"{place}-{case.name}"
                parameters.append(pytest.param(kind, ours, case, id=name, marks=marks))
    for entry in entries:
        if names and not any(map(entry.names, names)):
            raise pytest.UsageError(f"an entry speaks of no test of CPython: {entry.test}")
    metafunc.parametrize(("loop_kind", "ours", "case"), parameters)


def test_of_cpython(loop_kind: str, ours: str, case: cases.Case) -> None:
    outcome = case.run(loop_kind, ours)
    # The port that test.support found unused may be taken meanwhile, by a test in another process.
    if any("Address already in use" in traceback for _, traceback in outcome.result.errors):
        outcome = case.run(loop_kind, ours)
    result = outcome.result
    for _, traceback in [*result.errors, *result.failures]:
        pytest.fail(traceback, pytrace=False)
    for _ in result.unexpectedSuccesses:
        pytest.fail("passes although CPython expects it to fail", pytrace=False)
    for _, reason in result.skipped:
        pytest.skip(reason)
    if not outcome.loops:
        pytest.skip("passes, and makes no loop")
