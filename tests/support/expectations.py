"""Skips and expected failures: data with a reason each, printed as a table after the run.

A file holds `[[expected]]` entries:

    test      pattern of the test's id below tests/, without what is in brackets (shell wildcards)
    reason    why, in a sentence
    missing   the method of the loop that does not exist yet (where that is the reason)
    kinds     patterns of the loops concerned; all of them if absent
    python    versions concerned, such as ">=3.12" or ">=3.11,<3.13"; all of them if absent
    platform  patterns of sys.platform; all of them if absent
    run       false: do not even run the test (it would hang or kill the process)

An expected failure that passes fails the run, and so does an entry that names no test.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = {"test", "reason", "missing", "kinds", "python", "platform", "run"}


@dataclass
class Expectation:
    """One entry of the data file."""

    test: str
    reason: str
    missing: str | None = None
    kinds: list[str] = field(default_factory=lambda: ["*"])
    python: str = ""
    platform: list[str] = field(default_factory=lambda: ["*"])
    run: bool = True

    def applies_here(self) -> bool:
        """Whether this interpreter and platform are concerned."""
        on_platform = any(fnmatchcase(sys.platform, pattern) for pattern in self.platform)
        return on_platform and all(_holds(part) for part in self.python.split(",") if part)

    def names(self, test: str) -> bool:
        """Whether it speaks of this test, on whatever loop."""
        return fnmatchcase(test, self.test)

    def covers(self, test: str, kind: str | None) -> bool:
        """Whether it speaks of this test on this kind of loop."""
        return self.names(test) and any(fnmatchcase(kind or "", pattern) for pattern in self.kinds)

    def text(self) -> str:
        """The reason as the table shows it."""
        return f"{self.reason} (missing: {self.missing})" if self.missing else self.reason


def read(path: Path, **defaults: Any) -> list[Expectation]:
    """The entries of one file that concern this interpreter; `defaults` for fields they lack."""
    with path.open("rb") as file:
        entries: list[dict[str, Any]] = tomllib.load(file).get("expected", [])
    for entry in entries:
        if not {"test", "reason"} <= entry.keys() <= _KEYS:
            raise ValueError(f"{path.name}: an entry has wrong keys: {entry}")
    found = [Expectation(**{**defaults, **entry}) for entry in entries]
    return [expectation for expectation in found if expectation.applies_here()]


def find(entries: Iterable[Expectation], test: str, kind: str | None) -> Expectation | None:
    """The first entry that covers the test."""
    return next((entry for entry in entries if entry.covers(test, kind)), None)


def table(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """Lines for (outcome, test, reason): under each reason its tests and their loops."""
    folded: dict[tuple[str, str], dict[str, list[str]]] = {}
    for outcome, test, reason in rows:
        name, _, parameters = test.partition("[")
        tests = folded.setdefault((outcome, reason), {})
        tests.setdefault(name, []).append(parameters.rstrip("]"))
    lines = []
    for (outcome, reason), tests in sorted(folded.items()):
        lines.append(f"{outcome:<8} {reason}")
        for name, kinds in sorted(tests.items()):
            shown = sorted(filter(None, set(kinds)))
            more = [f"and {len(shown) - 4} more"] if len(shown) > 4 else []
            where = f" [{', '.join(shown[:4] + more)}]" if shown else ""
            lines.append(f"{'':<8}   {name}{where}")
    return lines


def _holds(comparison: str) -> bool:
    comparison = comparison.strip()
    operator = comparison.rstrip("0123456789.")
    wanted = tuple(int(part) for part in comparison[len(operator) :].split("."))
    here = sys.version_info[: len(wanted)]
    if operator == ">=":
        return here >= wanted
    if operator == "<":
        return here < wanted
    if operator == "==":
        return here == wanted
    raise ValueError(f"not a comparison of versions: {comparison!r}")
