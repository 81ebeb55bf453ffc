"""The results as SVG: horizontal bars, grouped by case, relative to the better uvloop."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from cases import Case
from contestants import Contestant
from results import MEMORY, NETWORK, PIPES, SCHEDULING, Results, Section

WIDTH = 900
LEFT = 250
RIGHT = 110
MARGIN = 16
BAR = 11
GAP = 10
# Down to the first line of the legend, and from there to the bars.
TOP = 53
UNDER_LEGEND = 25
LEGEND_LINE = 15
FOOT = 44
# Bars beyond this end in an arrow head: one fast case must not flatten the others.
LIMIT = 4.0

COLOURS = {
    "oxlip": "#c2410c",
    "oxlip-epoll": "#ea580c",
    "oxlip-io_uring": "#c026d3",
    "oxlip-poll": "#f59e0b",
    "oxlip-select": "#fbbf24",
    "oxlip-installed": "#f97316",
    "oxlip-installed-io_uring": "#e879f9",
    "asyncio": "#9ca3af",
    "uvloop-0.22.1": "#93c5fd",
    "uvloop": "#3b82f6",
    "rloop": "#a78bfa",
    "blazio": "#10b981",
    "aiofastnet": "#0e7490",
    "zuvloop": "#be185d",
    "bare": "#374151",
}


@dataclass(frozen=True)
class Drawing:
    """One chart."""

    file: str
    title: str
    sections: tuple[Section, ...]
    # The cases that are in it, by name; none are all.
    names: tuple[str, ...] = ()

    def cases(self, results: Results) -> list[tuple[Case, str]]:
        """The cases that it shows, each with its unit."""
        return [
            (case, section.unit)
            for section in self.sections
            for case in results.cases(section)
            if not self.names or case.name in self.names
        ]


# One of each kind, for a picture that can be taken in.
OVERVIEW = (
    *("echo-1k-50", "echo-1k-1000", "tls-1k-50", "streams-readline", "udp-50"),
    *("http-1", "uvicorn-1", "aiohttp-1", "connect", "memory"),
)
DRAWINGS = (
    Drawing("network.svg", "CPU per request: an overview", (NETWORK, MEMORY), OVERVIEW),
    Drawing("network-all.svg", "CPU per request, memory per connection", (NETWORK, MEMORY)),
    Drawing("scheduling.svg", "CPU per scheduling operation", (SCHEDULING,)),
    Drawing("pipes.svg", "CPU per operation on pipes and children", (PIPES,)),
)


class Chart:
    """Collects the elements of one drawing."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.elements: list[str] = []

    def rectangle(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """A filled box."""
        self.elements.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            f' fill="{fill}"/>'
        )

    def line(self, x: float, top: float, bottom: float, colour: str) -> None:
        """A vertical line."""
        self.elements.append(
            f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{colour}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int = 11,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """One line of text; `y` is its base line."""
        weight = ' font-weight="600"' if bold else ""
        self.elements.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{weight}'
            # A white rim: labels cross lines.
            ' paint-order="stroke" stroke="#ffffff" stroke-width="2.5">'
            f"{escape(text)}</text>"
        )

    def svg(self, title: str) -> str:
        """The document."""
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}"'
                f' width="{WIDTH}" height="{self.height}" role="img"'
                ' font-family="system-ui, sans-serif" fill="#111827">',
                f"<title>{escape(title)}</title>",
                f'<rect width="{WIDTH}" height="{self.height}" fill="#ffffff"/>',
                *self.elements,
                "</svg>",
                "",
            ]
        )


def draw(results: Results, drawing: Drawing) -> str | None:
    """The chart as SVG; None if nothing of it was measured."""
    groups = [(case, unit, bars(results, case)) for case, unit in drawing.cases(results)]
    if not groups:
        return None
    shown = {contestant.name for _, _, group in groups for contestant, _, _ in group}
    lines = legend_lines([c for c in results.contestants if c.name in shown])
    top = TOP + LEGEND_LINE * (len(lines) - 1) + UNDER_LEGEND
    height = top + FOOT + sum(GAP + BAR * len(group) for _, _, group in groups)
    chart = Chart(height)
    longest = max((ratio for _, _, group in groups for _, ratio, _ in group), default=1.0)
    scale = (WIDTH - LEFT - RIGHT) / min(LIMIT, max(longest, 1.25))

    chart.text(MARGIN, 24, drawing.title, size=15, bold=True)
    chart.text(MARGIN, 42, "relative to the better uvloop of each case = 1; longer is better")
    legend(chart, lines)
    step = 0.25 if scale > 250 else 0.5
    for index in range(int(min(LIMIT, max(longest, 1.25)) / step) + 1):
        value = index * step
        x = LEFT + value * scale
        chart.line(x, top, height - FOOT, "#111827" if value == 1 else "#e5e7eb")
        chart.text(x, height - FOOT + 12, f"{value:g}", size=10, anchor="middle")

    y = float(top + GAP / 2)
    for case, unit, group in groups:
        middle = y + BAR * len(group) / 2 + 4
        chart.text(LEFT - 8, middle, case.title, anchor="end")
        for contestant, ratio, cost in group:
            end = LEFT + min(ratio, LIMIT) * scale
            colour = COLOURS[contestant.name]
            chart.rectangle(LEFT, y + 0.5, end - LEFT, BAR - 1, colour)
            arrow = "→ " if ratio > LIMIT else ""
            label = f"{arrow}{ratio:.2f}  ({figure(cost)} {unit})"
            chart.text(end + 4, y + BAR - 2, label, size=9, bold=contestant.name == "oxlip")
            y += BAR
        y += GAP

    facts = results.machine
    chart.text(MARGIN, height - 14, f"{facts['machine']} · {facts['python']}", size=10)
    chart.text(WIDTH - MARGIN, height - 14, facts["date"], size=10, anchor="end")
    return chart.svg(drawing.title)


def bars(results: Results, case: Case) -> list[tuple[Contestant, float, float]]:
    """Who has a bar in this case: with the ratio and the cost."""
    found: list[tuple[Contestant, float, float]] = []
    for contestant in results.contestants:
        ratio = results.ratio(case.name, contestant.name)
        cost = results.median(case.name, contestant.name)
        if ratio is not None and cost is not None:
            found.append((contestant, ratio, cost))
    return found


def legend_lines(contestants: Sequence[Contestant]) -> list[list[Contestant]]:
    """The contestants, as many in a line as there is room for."""
    lines: list[list[Contestant]] = [[]]
    for contestant in contestants:
        if sum(map(legend_width, [*lines[-1], contestant])) > WIDTH - 2 * MARGIN:
            lines.append([])
        lines[-1].append(contestant)
    return lines


def legend_width(contestant: Contestant) -> float:
    """Room for one of them, without measuring its letters."""
    return 30 + 6.4 * len(contestant.title)


def legend(chart: Chart, lines: Sequence[Sequence[Contestant]]) -> None:
    """The contestants with their releases, above the bars."""
    for number, line in enumerate(lines):
        x, y = float(MARGIN), TOP + LEGEND_LINE * number
        for contestant in line:
            chart.rectangle(x, y, 10, 10, COLOURS[contestant.name])
            chart.text(x + 14, y + 9, contestant.title)
            x += legend_width(contestant)


def figure(cost: float) -> str:
    """Three digits."""
    return f"{cost:.0f}" if abs(cost) >= 100 else f"{cost:.3g}"
