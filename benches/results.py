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
PIPES = Section("CPU time per operation on pipes and children", "µs", cases.PIPES)
MEMORY = Section("Memory per idle connection", "bytes", cases.MEMORY)
SECTIONS = (NETWORK, SCHEDULING, PIPES, MEMORY)


@dataclass
class Results:
    """Everything a run has found out."""

    machine: dict[str, str]
    settings: dict[str, Any]
    contestants: list[Contestant]
    missing: dict[str, str]
    # case → contestant → round; None where the measurement failed.
    samples: dict[str, dict[str, list[Sample | None]]] = field(default_factory=dict)
    # case → contestant → successful round: the cost of each of its windows, where there were any.
    windows: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)
    # case → contestant → the last reason.
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(
        self,
        case: str,
        contestant: str,
        sample: Sample | None,
        windows: list[float] | None = None,
    ) -> None:
        """Notes the sample of the next round, and the costs of the windows it was taken from."""
        self.samples.setdefault(case, {}).setdefault(contestant, []).append(sample)
        if windows is not None:
            self.windows.setdefault(case, {}).setdefault(contestant, []).append(windows)

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

    def peers(self, case: str) -> list[str]:
        """All that are neither oxlip nor the bare server."""
        return [
            name
            for name in self.samples.get(case, {})
            if not name.startswith("oxlip") and name != "bare"
        ]

    def ratio(
        self, case: str, contestant: str, reference: str | None = None, key: str = "cost"
    ) -> float | None:
        """How much cheaper than the reference, as the module's head defines it."""
        reference = reference or self.reference(case)
        rounds = self.samples.get(case, {})
        if reference is None or contestant not in rounds or reference not in rounds:
            return None
        return median_ratio(rounds[reference], rounds[contestant], key)

    def growth(self, case: str, smaller: str, contestant: str) -> float | None:
        """How many times its own cost in a smaller case the contestant has in this one."""
        return median_ratio(
            self.samples.get(case, {}).get(contestant, []),
            self.samples.get(smaller, {}).get(contestant, []),
        )

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
            "windows": self.windows,
        }


def median_ratio(
    rounds: list[Sample | None], divisors: list[Sample | None], key: str = "cost"
) -> float | None:
    """The median, over the rounds in which there are both, of one by the other."""
    ratios = [
        sample[key] / divisor[key]
        for sample, divisor in zip(rounds, divisors, strict=False)
        if sample is not None and divisor is not None and divisor[key] > 0
    ]
    return statistics.median(ratios) if ratios else None
