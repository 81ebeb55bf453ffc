"""The results as a Markdown page."""

from collections.abc import Iterable, Sequence

from chart import DRAWINGS
from contestants import Contestant
from goals import Goal, goals
from results import NETWORK, SECTIONS, Results, Section

HEAD = """\
# Benchmarks

Written by `make bench`. Each figure is the median of {rounds} rounds (memory: of one), in which
the contestants took turns; in parentheses the cost of the better uvloop divided by this one's
within the same round, so that **more is better** and the better uvloop has 1.00 (stock asyncio if
there is none). The servers ran on one CPU, the native load generators on another; the CPU time is
the kernel's (`schedstat`, all threads of the server), read at both edges of windows of {seconds} s,
each after {warm_up} s of warm-up. In a round the servers were loaded in turns, up to {windows}
windows each, of which the cheapest counts.
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
    drawn = [drawing for drawing in DRAWINGS if drawing.cases(results)]
    return "".join(f"![{drawing.title}]({drawing.file})\n\n" for drawing in drawn)


def costs(results: Results, section: Section) -> str:
    """One row a case, one column a contestant: cost and ratio."""
    rows: list[list[str]] = []
    columns = taking_part(results, section)
    for case in results.cases(section):
        row = [case.title]
        for contestant in columns:
            cost = results.median(case.name, contestant.name)
            ratio = results.ratio(case.name, contestant.name)
            text = "–" if cost is None else amount(cost)
            row.append(text if ratio is None else f"{text} ({ratio:.2f})")
        rows.append(row)
    titles = [contestant.title for contestant in columns]
    return f"## {section.title}, {section.unit}\n\n" + table(["", *titles], rows)


def taking_part(results: Results, section: Section) -> list[Contestant]:
    """The contestants that were in any of these cases."""
    names = {name for case in results.cases(section) for name in results.samples[case.name]}
    return [contestant for contestant in results.contestants if contestant.name in names]


def rates(results: Results) -> str:
    """What the clock on the wall says; it depends much on what else the machine does."""
    if not results.cases(NETWORK):
        return ""
    rows: list[list[str]] = []
    columns = taking_part(results, NETWORK)
    for case in results.cases(NETWORK):
        row = [case.title]
        for contestant in columns:
            keys = ("rps", "p50_us", "p99_us")
            figures = [results.median(case.name, contestant.name, key) for key in keys]
            known = [figure for figure in figures if figure is not None]
            row.append(" / ".join(amount(figure) for figure in known) or "–")
        rows.append(row)
    titles = [contestant.title for contestant in columns]
    return "## Requests per second / p50 µs / p99 µs\n\n" + table(["", *titles], rows)


def shortfalls(results: Results) -> str:
    """Who was missing, and which measurement failed."""
    lines = [f"- {name} took no part: {reason}" for name, reason in results.missing.items()]
    for case, reasons in results.failures.items():
        lines += [f"- {case}, {name}: {reason}" for name, reason in reasons.items()]
    return "## Not measured\n\n" + "\n".join(lines) + "\n" if lines else ""


def reached(found: Sequence[Goal]) -> str:
    """The goals, if oxlip took part: what each of its contestants reached, and whether any did."""
    names = list(dict.fromkeys(name for goal in found for name in goal.reached))
    if not names:
        return ""
    rows = [
        [
            goal.title,
            goal.wanted,
            *(goal.reached.get(name, "–") for name in names),
            verdict(goal),
        ]
        for goal in found
    ]
    met = sum(1 for goal in found if goal.met)
    plain = sum(1 for goal in found if "oxlip" in goal.met)
    return (
        f"## Goals of oxlip\n\n{met} of {len(found)} are met, {plain} of them by `oxlip` as it "
        "is. A goal is met if one of oxlip's contestants meets it; which, where it is another one, "
        "is in the last column. A goal against the best is one against every peer: named "
        "is the one that the best of oxlip's leads least.\n\n"
        + table(["", "goal", *names, "met"], rows)
    )


def verdict(goal: Goal) -> str:
    """Whether the goal is met, and by which, if not by oxlip as it is."""
    if not goal.met:
        return "**no**"
    return "yes" if "oxlip" in goal.met else f"yes ({', '.join(goal.met)})"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    lines = [titles, [":--", *["--:"] * (len(titles) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def amount(figure: float) -> str:
    """Three digits, as many as repeat."""
    return f"{figure:.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
