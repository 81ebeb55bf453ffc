"""The benchmark's own rules: what counts as reached, and that a case which fails, fails alone."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark needs Linux")

BENCHES = Path(__file__).parents[1] / "benches"
Import = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def load() -> Iterator[Import]:
    """The benchmark's modules are programs beside each other, and on nobody's import path."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHES))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCHES))
        for name in set(sys.modules) - before:
            if str(BENCHES) in (getattr(sys.modules[name], "__file__", None) or ""):
                del sys.modules[name]


def results(load: Import, costs: dict[str, dict[str, float]], key: str = "cost") -> Any:
    """One round with these figures, by case and contestant."""
    found = load("results").Results({}, {}, [], {})
    for case, by_name in costs.items():
        for name, cost in by_name.items():
            found.add(case, name, {"cost": 1.0, key: cost})
    return found


def reached(load: Import, found: Any) -> dict[str, tuple[str, ...]]:
    """Who has met which goal."""
    return {goal.wanted: goal.met for goal in load("goals").goals(found)}


def test_every_case_is_there(load: Import) -> None:
    cases = load("cases")
    assert {case.server for case in (*cases.NETWORK, *cases.MEMORY)} <= set(load("servers").CASES)
    for name, group in (("scheduling", cases.SCHEDULING), ("pipes", cases.PIPES)):
        assert {case.name for case in group} == set(load(name).CASES)
        assert {case.program for case in group} == {f"{name}.py"}


def test_every_contestant_is_known(load: Import) -> None:
    contestants = load("contestants")
    assert set(contestants.DEFAULT) <= set(contestants.NAMES)
    assert set(contestants.NAMES) == set(load("chart").COLOURS)


def test_the_overview_shows_cases_that_there_are(load: Import) -> None:
    cases = load("cases")
    assert set(load("chart").OVERVIEW) <= {case.name for case in (*cases.NETWORK, *cases.MEMORY)}


def test_a_peer_goal_is_against_the_best(load: Import) -> None:
    found = results(
        load, {"connect": {"oxlip": 8.5, "oxlip-io_uring": 8, "rloop": 12, "blazio": 10}}
    )
    assert reached(load, found) == {"≥ 1.2× every peer (blazio)": ("oxlip-io_uring",)}


def test_a_peer_goal_does_not_depend_on_who_has_a_bad_round(load: Import) -> None:
    found = load("results").Results({}, {}, [], {})
    # rloop's median is the best; uvloop is better in the rounds that are like ours.
    for name, costs in {
        "oxlip": (6, 6, 9),
        "uvloop": (7, 7, 20),
        "rloop": (9, 7.1, 6.9),
    }.items():
        for cost in costs:
            found.add("connect", name, {"cost": cost})
    assert reached(load, found)["≥ 1.2× every peer (uvloop)"] == ()


def test_requests_per_second(load: Import) -> None:
    rates = {"oxlip": 190, "oxlip-installed": 210, "rloop": 100, "uvloop": 90}
    found = results(load, {"udp-joined": rates}, key="rps")
    assert reached(load, found)["≥ 2× every peer (rloop), requests per second"] == (
        "oxlip-installed",
    )


def test_goals_that_are_missed_stay_in_the_table(load: Import) -> None:
    found = results(load, {"connect": {"oxlip": 10, "uvloop": 10, "asyncio": 10}})
    assert reached(load, found) == {
        "≥ 0.95× uvloop": ("oxlip",),
        "≥ 1.2× every peer (uvloop)": (),
    }
    page = load("report").reached(load("goals").goals(found))
    assert "1 of 2 are met, 1 of them by `oxlip` as it is" in page
    assert "| **no** |" in page


def test_latency(load: Import) -> None:
    found = results(load, {"write-block": {"oxlip": 100, "zuvloop": 99}}, key="p50_us")
    assert reached(load, found) == {"≥ 1× every peer (zuvloop), p50": ()}


def test_growth(load: Import) -> None:
    found = results(
        load,
        {
            "echo-1k-10": {"oxlip": 4, "oxlip-io_uring": 4},
            "echo-1k-10000": {"oxlip": 6, "oxlip-io_uring": 6.1},
        },
    )
    assert reached(load, found) == {"≤ 1.5× that of echo 1 KiB, 10 connections": ("oxlip",)}


PROGRAM = """
import asyncio, os, signal, sys
sys.path.insert(0, {benches!r})
from inprocess import main

async def good(count):
    for _ in range(count):
        await asyncio.sleep(0)
    return count

async def raises(count):
    raise NotImplementedError("not in this loop")

async def ends(count):
    os._exit(3)

async def is_stuck(count):
    os.kill(os.getpid(), signal.SIGALRM)

main(dict(good=good, ends=ends, raises=raises, is_stuck=is_stuck, last=good), "")
"""


def test_a_case_fails_alone(load: Import, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(benches=str(BENCHES)))
    bench = load("measure").Bench(sys.executable, tmp_path, 0.1, 0.1)
    contestant = load("contestants").Contestant("asyncio")
    names = ["good", "ends", "raises", "is_stuck", "last"]
    found = bench.program(contestant, str(program), names, 0.001)
    assert found["good"]["cost"] > 0
    assert found["last"]["cost"] > 0
    assert {name: str(found[name]) for name in names[1:4]} == {
        "ends": "exit status 3",
        "raises": "NotImplementedError: not in this loop",
        "is_stuck": "took too long",
    }


CLIENT = """#!{python}
import json, os, sys
is_first = not os.path.exists({flag!r})
open({flag!r}, "a").close()
print(json.dumps(dict(connections=1)), flush=True)
for number, line in enumerate(sys.stdin):
    if is_first:
        open({flag!r}, "a").write(line)
    print(json.dumps(dict(
        requests=10, seconds=0.1, rps=100.0, p50_us=5.0, p99_us=6.0,
        server_cpu_ns=1000 * (number + 1), client_cpu_ns=1,
        errors=int(is_first and number == 1), first_error="this one",
    )), flush=True)
"""


def test_a_contestant_fails_alone(load: Import, tmp_path: Path) -> None:
    client = tmp_path / "load"
    client.write_text(CLIENT.format(python=sys.executable, flag=str(tmp_path / "flag")))
    client.chmod(0o755)
    bench = load("measure").Bench(sys.executable, tmp_path, 0.1, 0.1, windows=3)
    contestants = [load("contestants").Contestant(name) for name in ("asyncio", "asyncio-again")]
    found = bench.network(contestants, load("cases").NETWORK[0])
    assert str(found["asyncio"]) == "1 errors, first: this one"
    assert [window["cost"] for window in found["asyncio-again"]] == [0.1, 0.2, 0.3]
    assert (tmp_path / "flag").read_text() == "\n\n", "one that has failed has no more windows"


def test_the_least_disturbed_window_counts(load: Import) -> None:
    calm = {"cost": 5.0, "rps": 90.0, "p50_us": 11.0, "p99_us": 30.0, "server_busy": 0.9}
    loud = {"cost": 9.0, "rps": 99.0, "p50_us": 10.0, "p99_us": 40.0, "server_busy": 0.8}
    best = {"cost": 5.0, "rps": 99.0, "p50_us": 10.0, "p99_us": 30.0, "server_busy": 0.9}
    assert load("measure").least_disturbed([loud, calm]) == best


def test_windows_end_when_the_cheapest_agree(load: Import) -> None:
    def is_settled(*costs: float) -> bool:
        return bool(load("measure").is_settled([{"cost": cost} for cost in costs]))

    assert is_settled(5.1, 9, 5, 9, 9, 5.15)
    assert not is_settled(5.1, 9, 5, 9, 9, 5.16)
    assert not is_settled(5, 5, 5, 5, 5)


def test_turns_change_their_order(load: Import) -> None:
    rotated = load("measure").rotated
    assert [rotated("abc", turn) for turn in range(3)] == [
        ["a", "b", "c"],
        ["a", "c", "b"],
        ["c", "a", "b"],
    ]
