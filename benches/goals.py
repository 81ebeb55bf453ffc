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
        yield from ahead_of_all(results, case, case.peer_goal)
    if isinstance(case, NetworkCase) and case.latency_goal is not None:
        yield from ahead_of_all(results, case, case.latency_goal, "p50_us")
    if isinstance(case, NetworkCase) and case.rate_goal is not None:
        yield from ahead_of_all(results, case, case.rate_goal, "rps")
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


# What is said of a figure, if it is not the cost.
KEYS = {"cost": "", "p50_us": ", p50", "rps": ", requests per second"}


def at_least(
    results: Results, case: Case, wanted: float, peer: str, key: str = "cost"
) -> Iterator[Goal]:
    """A goal against somebody else; none if oxlip has no figure."""
    ratios = against(results, case, peer, key)
    if ratios:
        met = tuple(name for name, ratio in ratios.items() if ratio >= wanted)
        yield Goal(case.title, f"≥ {wanted:g}× {peer}{KEYS[key]}", written(ratios), met)


def ahead_of_all(results: Results, case: Case, wanted: float, key: str = "cost") -> Iterator[Goal]:
    """A goal against each of the peers, told as one against whom the best of ours leads least.

    Not as one against the best median: a bad round of somebody's would decide whose that is.
    """
    by_peer = {
        peer: ratios
        for peer in results.peers(case.name)
        if (ratios := against(results, case, peer, key))
    }
    if not by_peer:
        return
    lead = {
        name: min(ratios[name] for ratios in by_peer.values() if name in ratios)
        for name in ours(results, case)
        if any(name in ratios for ratios in by_peer.values())
    }
    best = max(lead, key=lambda name: lead[name])
    nearest = min(by_peer, key=lambda peer: by_peer[peer].get(best, float("inf")))
    met = tuple(name for name, ratio in lead.items() if ratio >= wanted)
    wish = f"≥ {wanted:g}× every peer ({nearest}){KEYS[key]}"
    yield Goal(case.title, wish, written(lead), met)


def against(results: Results, case: Case, peer: str, key: str) -> dict[str, float]:
    """How much better than the peer each of ours is."""
    ratios = {
        name: ratio
        for name in ours(results, case)
        if (ratio := results.ratio(case.name, name, peer, key))
    }
    # Of requests more are better, of all else less.
    return {name: 1 / ratio for name, ratio in ratios.items()} if key == "rps" else ratios


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
