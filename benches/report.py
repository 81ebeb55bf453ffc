"""The results as a Markdown page."""

from collections.abc import Iterable, Sequence

from chart import DRAWINGS
from results import NETWORK, SECTIONS, Goal, Results, Section, goals

HEAD = """\
# Benchmarks

Written by `make bench`. Each figure is the median of {rounds} rounds, in which the contestants took
turns; in parentheses the cost of the better uvloop divided by this one's within the same round, so
that **more is better** and the better uvloop has 1.00 (stock asyncio if there is none). The server
ran on one CPU, the native load generator on another; the CPU time is the kernel's (`schedstat`, all
threads of the server), read at both edges of a window of {seconds} s after {warm_up} s of warm-up.
`benches/README.md` says more.
"""


def markdown(results: Results) -> str:
    """The whole page."""
    parts = [HEAD.format(**results.settings), environment(results), charts(results)]
    parts += [costs(results, section) for section in SECTIONS if results.cases(section)]
    parts += [rates(results), shortfalls(results), reached(goals(results))]
    return "\n".join(part for part in parts if part)


def environment(results: Results) -> str:
    """The machine, the interpreter, and what was compared."""
    lines = [f"- {key}: {value}" for key, value in results.machine.items()]
    titles = ", ".join(contestant.title for contestant in results.contestants)
    return "\n".join([*lines, f"- contestants: {titles}", ""])


def charts(results: Results) -> str:
    """The drawings that there are."""
    drawn = [
        drawing
        for drawing in DRAWINGS
        if any(results.cases(section) for section in drawing.sections)
    ]
    return "".join(f"![{drawing.title}]({drawing.file})\n\n" for drawing in drawn)


def costs(results: Results, section: Section) -> str:
    """One row a case, one column a contestant: cost and ratio."""
    rows: list[list[str]] = []
    for case in results.cases(section):
        row = [case.title]
        for contestant in results.contestants:
            cost = results.median(case.name, contestant.name)
            ratio = results.ratio(case.name, contestant.name)
            text = "–" if cost is None else amount(cost)
            row.append(text if ratio is None else f"{text} ({ratio:.2f})")
        rows.append(row)
    titles = [contestant.title for contestant in results.contestants]
    return f"## {section.title}, {section.unit}\n\n" + table(["", *titles], rows)


def rates(results: Results) -> str:
    """What the clock on the wall says; it depends much on what else the machine does."""
    if not results.cases(NETWORK):
        return ""
    rows: list[list[str]] = []
    for case in results.cases(NETWORK):
        row = [case.title]
        for contestant in results.contestants:
            keys = ("rps", "p50_us", "p99_us")
            figures = [results.median(case.name, contestant.name, key) for key in keys]
            known = [figure for figure in figures if figure is not None]
            row.append(" / ".join(amount(figure) for figure in known) or "–")
        rows.append(row)
    titles = [contestant.title for contestant in results.contestants]
    return "## Requests per second / p50 µs / p99 µs\n\n" + table(["", *titles], rows)


def shortfalls(results: Results) -> str:
    """Who was missing, and which measurement failed."""
    lines = [f"- {name} took no part: {reason}" for name, reason in results.missing.items()]
    for case, reasons in results.failures.items():
        lines += [f"- {case}, {name}: {reason}" for name, reason in reasons.items()]
    return "## Not measured\n\n" + "\n".join(lines) + "\n" if lines else ""


def reached(found: Sequence[Goal]) -> str:
    """The goals, if oxlip took part."""
    if not found:
        return ""
    rows = [[g.title, g.wanted, g.reached, "yes" if g.met else "**no**"] for g in found]
    return "## Goals of oxlip\n\n" + table(["", "goal", "reached", "met"], rows)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    lines = [titles, [":--", *["--:"] * (len(titles) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def amount(figure: float) -> str:
    """Three digits, as many as repeat."""
    return f"{figure:.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
