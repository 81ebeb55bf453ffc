"""The figures of a run: samples by case, contestant and round, their medians and ratios.

A ratio is the cost of the better uvloop divided by the contestant's, taken within each round, where
both ran within seconds of each other; the median of the rounds is what is reported. More is better,
and the better uvloop has 1.
"""

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

import cases
from cases import Case
from contestants import Contestant
from measure import Sample

# Compared with if there is no uvloop.
STAND_IN = "asyncio"


@dataclass(frozen=True)
class Section:
    """Cases with costs of one unit."""

    title: str
    unit: str
    cases: tuple[Case, ...]


NETWORK = Section("CPU time of the server per request", "µs", cases.NETWORK)
SCHEDULING = Section("CPU time per scheduling operation", "ns", cases.SCHEDULING)
MEMORY = Section("Memory per idle connection", "bytes", cases.MEMORY)
SECTIONS = (NETWORK, SCHEDULING, MEMORY)


@dataclass
class Results:
    """Everything a run has found out."""

    machine: dict[str, str]
    settings: dict[str, Any]
    contestants: list[Contestant]
    missing: dict[str, str]
    # case → contestant → round; None where the measurement failed.
    samples: dict[str, dict[str, list[Sample | None]]] = field(default_factory=dict)
    # case → contestant → the last reason.
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, case: str, contestant: str, sample: Sample | None) -> None:
        """Notes the sample of the next round."""
        self.samples.setdefault(case, {}).setdefault(contestant, []).append(sample)

    def fail(self, case: str, contestant: str, reason: str) -> None:
        """Notes that the next round gave none, and why."""
        self.add(case, contestant, None)
        self.failures.setdefault(case, {})[contestant] = reason

    def cases(self, section: Section) -> list[Case]:
        """The section's cases that were measured."""
        return [case for case in section.cases if case.name in self.samples]

    def median(self, case: str, contestant: str, key: str = "cost") -> float | None:
        """The median over the rounds that succeeded."""
        rounds = self.samples.get(case, {}).get(contestant, [])
        values = [sample[key] for sample in rounds if sample is not None]
        return statistics.median(values) if values else None

    def reference(self, case: str) -> str | None:
        """Who has the ratio 1: the uvloop with the lower median."""
        medians = {
            name: median
            for name in self.samples.get(case, {})
            if name.startswith("uvloop") and (median := self.median(case, name)) is not None
        }
        if medians:
            return min(medians, key=lambda name: medians[name])
        return STAND_IN if self.median(case, STAND_IN) is not None else None

    def best_peer(self, case: str) -> str | None:
        """Who is best, of all that are neither oxlip nor the bare server."""
        medians = {
            name: median
            for name in self.samples.get(case, {})
            if not name.startswith("oxlip") and name != "bare"
            if (median := self.median(case, name)) is not None
        }
        return min(medians, key=lambda name: medians[name]) if medians else None

    def ratio(self, case: str, contestant: str, reference: str | None = None) -> float | None:
        """How much cheaper than the reference, as the module's head defines it."""
        reference = reference or self.reference(case)
        rounds = self.samples.get(case, {})
        if reference is None or contestant not in rounds or reference not in rounds:
            return None
        ratios = [
            theirs["cost"] / ours["cost"]
            for ours, theirs in zip(rounds[contestant], rounds[reference], strict=True)
            if ours is not None and theirs is not None and ours["cost"] > 0
        ]
        return statistics.median(ratios) if ratios else None

    def to_json(self) -> dict[str, Any]:
        """The raw material of the report, every sample included."""
        return {
            "machine": self.machine,
            "settings": self.settings,
            "contestants": {c.name: {"title": c.title, **c.facts} for c in self.contestants},
            "missing": self.missing,
            "failures": self.failures,
            "cases": [asdict(case) for section in SECTIONS for case in self.cases(section)],
            "samples": self.samples,
        }


@dataclass(frozen=True)
class Goal:
    """What oxlip is to reach in a case, and what it has reached."""

    title: str
    wanted: str
    reached: str
    met: bool


def goals(results: Results, contestant: str = "oxlip") -> list[Goal]:
    """The goals of the measured cases; none without oxlip and a uvloop."""
    found: list[Goal] = []
    for section in SECTIONS:
        for case in results.cases(section):
            reference = results.reference(case.name)
            ratio = results.ratio(case.name, contestant)
            if ratio is not None and reference != STAND_IN:
                wanted = f"≥ {case.goal:g}× {reference}"
                found.append(Goal(case.title, wanted, f"{ratio:.2f}×", ratio >= case.goal))
            found.extend(peer_goals(results, case))
            limit = getattr(case, "bare_goal", None)
            bare = results.ratio(case.name, contestant, "bare")
            if limit is not None and bare is not None:
                cost = 1 / bare
                found.append(
                    Goal(case.title, f"≤ {limit:g}× bare's cost", f"{cost:.2f}×", cost <= limit)
                )
    return found


def peer_goals(results: Results, case: Case) -> list[Goal]:
    """What oxlip, as it is and after `install()`, is to reach against the best of all others."""
    wanted = getattr(case, "peer_goal", None)
    best = results.best_peer(case.name)
    if wanted is None or best is None:
        return []
    ratios = {
        name: ratio
        for name in ("oxlip", "oxlip-installed")
        if (ratio := results.ratio(case.name, name, best)) is not None
    }
    if not ratios:
        return []
    name = max(ratios, key=lambda name: ratios[name])
    reached = f"{ratios[name]:.2f}×" + ("" if name == "oxlip" else f" ({name})")
    return [Goal(case.title, f"≥ {wanted:g}× {best}", reached, ratios[name] >= wanted)]
