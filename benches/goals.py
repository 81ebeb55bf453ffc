"""What oxlip is to reach, and which of its contestants has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cases
from cases import Case, MemoryCase, NetworkCase, ProgramCase
from results import SECTIONS, STAND_IN, Results


@dataclass(frozen=True)
class Goal:
    """What is to be reached in a case, and what has been: by contestant."""

    title: str
    wanted: str
    reached: dict[str, str]
    # Those that have met it.
    met: tuple[str, ...]


def goals(results: Results) -> list[Goal]:
    """The goals of the measured cases, as far as there is somebody to compare with."""
    found: list[Goal] = []
    for section in SECTIONS:
        for case in results.cases(section):
            # The better uvloop may also be the best of all.
            found += [goal for goal in of_case(results, case) if goal not in found]
    return found


def of_case(results: Results, case: Case) -> Iterator[Goal]:
    """Against the better uvloop, the best of all peers, the bare server, and a smaller case."""
    reference = results.reference(case.name)
    if reference is not None and reference != STAND_IN:
        yield from at_least(results, case, case.goal, reference)
    if case.peer_goal is not None:
        yield from at_least(results, case, case.peer_goal, results.best_peer(case.name))
    if isinstance(case, NetworkCase) and case.latency_goal is not None:
        peer = results.best_peer(case.name, "p50_us")
        yield from at_least(results, case, case.latency_goal, peer, "p50_us")
    if isinstance(case, NetworkCase) and case.bare_goal is not None:
        by_name = {
            name: 1 / ratio
            for name in ours(results, case)
            if (ratio := results.ratio(case.name, name, "bare"))
        }
        yield from at_most(case, case.bare_goal, "bare's cost", by_name)
    if not isinstance(case, MemoryCase) and case.growth is not None:
        smaller = case.growth.smaller
        grown = {
            name: growth
            for name in ours(results, case)
            if (growth := results.growth(case.name, smaller, name)) is not None
        }
        yield from at_most(case, case.growth.limit, f"that of {title(smaller)}", grown)


def at_least(
    results: Results, case: Case, wanted: float, peer: str | None, key: str = "cost"
) -> Iterator[Goal]:
    """A goal against somebody else; none if that is nobody, or oxlip has no figure."""
    ratios = {
        name: ratio
        for name in ours(results, case)
        if peer is not None and (ratio := results.ratio(case.name, name, peer, key)) is not None
    }
    if ratios:
        what = "" if key == "cost" else ", p50"
        met = tuple(name for name, ratio in ratios.items() if ratio >= wanted)
        yield Goal(case.title, f"≥ {wanted:g}× {peer}{what}", written(ratios), met)


def at_most(case: Case, limit: float, of_what: str, by_name: Mapping[str, float]) -> Iterator[Goal]:
    """A goal for the own cost, in multiples of another one."""
    if by_name:
        met = tuple(name for name, times in by_name.items() if times <= limit)
        yield Goal(case.title, f"≤ {limit:g}× {of_what}", written(by_name), met)


def written(ratios: Mapping[str, float]) -> dict[str, str]:
    """The ratios as text."""
    return {name: f"{ratio:.2f}×" for name, ratio in ratios.items()}


def ours(results: Results, case: Case) -> list[str]:
    """The contestants of this case that are oxlip."""
    return [name for name in results.samples.get(case.name, {}) if name.startswith("oxlip")]


def title(name: str) -> str:
    """The title of the case that is called so."""
    every: tuple[NetworkCase | ProgramCase, ...] = (*cases.NETWORK, *cases.SCHEDULING)
    return next(case.title for case in every if case.name == name)
