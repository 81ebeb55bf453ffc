"""The benchmark: oxlip beside stock asyncio, its other peers, and a bare Rust server.

`python benches/run.py` sets up what it needs, measures, and writes tables and charts: a full run
into docs/bench/, any smaller one into build/bench/ (or --output); of another Python than 3.13 into
a folder there that is called after it. `--help` says more.
"""

import argparse
import datetime
import fnmatch
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import chart
import report
from cases import NETWORK, PIPES, SCHEDULING, Case, MemoryCase, NetworkCase, ProgramCase
from contestants import BARE, DEFAULT, NAMES, Missing, prepare, run_python
from measure import Bench, Failed, Sample, least_disturbed, rotated, say
from results import SECTIONS, Results

ROOT = Path(__file__).resolve().parent.parent
BUILD_SECONDS = 600
ROUNDS = 3
WINDOWS = 24
# Whose results need no folder of their own.
USUAL_PYTHON = "3.13"

PYTHON_FACTS = """
import platform, sysconfig
arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
with_or_without = "with" if "--enable-optimizations" in arguments else "without"
name, version = platform.python_implementation(), platform.python_version()
print(f"{name} {version} (configured {with_or_without} --enable-optimizations)")
"""


def main() -> int:
    """Runs the benchmark; 1 if nothing could be measured."""
    args = parse()
    cases = chosen(args.cases, quick=args.quick)
    full = not (args.quick or args.cases or args.loops)
    began = time.monotonic()
    try:
        contestants, missing = prepare(args.python, args.loops or DEFAULT, ROOT / ".venv-bench")
        binaries = args.client or build()
        facts = machine(args.python)
        output = args.output or home(args.python, full)
    except Missing as error:
        say(f"the benchmark cannot run: {error}")
        return 1
    for name, reason in missing.items():
        say(f"without {name}: {reason}")

    if not contestants:
        return 1

    warm_up = args.seconds / 4
    windows = 4 if args.quick else WINDOWS
    bench = Bench(args.python, binaries, warm_up, args.seconds, windows)
    settings = {
        "rounds": args.rounds,
        "windows": windows,
        "seconds": args.seconds,
        "warm_up": warm_up,
    }
    results = Results(facts, settings, contestants, missing)
    measure(bench, results, cases, args.rounds, 0.05 if args.quick else 0.1)

    facts["load average after"] = f"{os.getloadavg()[0]:.1f}"
    facts["duration"] = f"{(time.monotonic() - began) / 60:.0f} min"
    write(results, output)
    print(report.markdown(results))
    say(f"written to {output}")
    measured = any(
        any(rounds) for by_name in results.samples.values() for rounds in by_name.values()
    )
    return 0 if measured else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ", ".join(case.name for section in SECTIONS for case in section.cases)
    parser.add_argument(
        "--cases",
        nargs="+",
        metavar="CASE",
        help=f"names or patterns, also network, scheduling, pipes; of {names}",
    )
    parser.add_argument("--loops", nargs="+", metavar="LOOP", choices=NAMES, help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, help=f"({ROUNDS}; quick: 1)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a window (0.1)")
    parser.add_argument("--quick", action="store_true", help="few cases, short: 3 minutes")
    parser.add_argument("--python", default=sys.executable, help="the interpreter measured")
    parser.add_argument("--client", type=Path, help="folder of load and bare_echo, already built")
    parser.add_argument("--output", type=Path, help="folder for results.json, results.md, charts")
    args = parser.parse_args()
    if args.rounds is None:
        args.rounds = 1 if args.quick else ROUNDS
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    return args


def chosen(patterns: Sequence[str] | None, quick: bool) -> list[Case]:
    """The cases asked for; without patterns all, or those of a quick run."""
    every: list[Case] = [case for section in SECTIONS for case in section.cases]
    if patterns:
        groups: dict[str, Sequence[Case]] = {
            "network": NETWORK,
            "scheduling": SCHEDULING,
            "pipes": PIPES,
        }
        found = [
            case
            for case in every
            if any(fnmatch.fnmatch(case.name, p) or case in groups.get(p, ()) for p in patterns)
        ]
        if not found:
            raise SystemExit(f"no case is called {' or '.join(patterns)}")
        return found
    return [case for case in every if not quick or getattr(case, "quick", True)]


def measure(
    bench: Bench,
    results: Results,
    cases: Sequence[Case],
    rounds: int,
    program_seconds: float,
) -> None:
    """All the cases; the contestants take turns."""
    for case in cases:
        if isinstance(case, NetworkCase):
            load(bench, results, case, rounds)
        elif isinstance(case, MemoryCase):
            # Slow, and the same to a percent whenever it is measured: once is enough.
            weigh(bench, results, case)
    for group in (SCHEDULING, PIPES):
        some = [case for case in group if case in cases]
        if some:
            run_programs(bench, results, some, rounds, program_seconds)


def run_programs(
    bench: Bench,
    results: Results,
    cases: Sequence[ProgramCase],
    rounds: int,
    seconds: float,
) -> None:
    """All the cases of one program; each round all contestants, in another order than before."""
    names = [case.name for case in cases]
    contestants = [c for c in results.contestants if c.name != BARE]
    for turn in range(rounds):
        for contestant in rotated(contestants, turn):
            try:
                samples = bench.program(contestant, cases[0].program, names, seconds)
            except Failed as reason:
                samples = dict.fromkeys(names, reason)
            for name, sample in samples.items():
                if isinstance(sample, Failed):
                    results.fail(name, contestant.name, str(sample))
                else:
                    results.add(name, contestant.name, sample)
    for case in cases:
        progress(results, case)


def load(bench: Bench, results: Results, case: NetworkCase, rounds: int) -> None:
    """One case on the network: each round new servers, in another order than before."""
    contestants = [c for c in results.contestants if case.bare or c.name != BARE]
    for turn in range(rounds):
        found: Mapping[str, list[Sample] | Failed]
        try:
            found = bench.network(rotated(contestants, turn), case)
        except Failed as reason:
            found = dict.fromkeys([c.name for c in contestants], reason)
        for name, windows in found.items():
            if isinstance(windows, Failed):
                results.fail(case.name, name, str(windows))
            else:
                costs = [window["cost"] for window in windows]
                results.add(case.name, name, least_disturbed(windows), costs)
    progress(results, case)


def weigh(bench: Bench, results: Results, case: MemoryCase) -> None:
    """One case of memory, in one round."""
    for contestant in results.contestants:
        if contestant.name == BARE:
            continue
        try:
            results.add(case.name, contestant.name, bench.memory(contestant, case))
        except Failed as reason:
            results.fail(case.name, contestant.name, str(reason))
    progress(results, case)


def progress(results: Results, case: Case) -> None:
    """One line of medians."""
    costs = []
    for contestant in results.contestants:
        cost = results.median(case.name, contestant.name)
        if cost is not None:
            costs.append(f"{contestant.name} {report.amount(cost)}")
    say(f"{case.title}: {', '.join(costs) or 'no figure'}")


def build() -> Path:
    """Builds the load generator; gives the folder of its binaries."""
    command = ["cargo", "build", "--release", "-p", "oxlip-load", "--message-format=json"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=BUILD_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"cargo: {error}") from error
    if done.returncode != 0:
        raise Missing("the load generator does not build")
    messages = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    found = [Path(m["executable"]) for m in messages if m.get("executable")]
    if not found:
        raise Missing("cargo named no executable")
    return found[0].parent


def machine(python: str) -> dict[str, str]:
    """What the figures were taken on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "machine": f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}",
        "python": run_python(python, "-c", PYTHON_FACTS).strip(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "load average before": f"{os.getloadavg()[0]:.1f}",
    }


def home(python: str, full: bool) -> Path:
    """The folder of a run's results, by the Python that was measured."""
    folder = ROOT / ("docs/bench" if full else "build/bench")
    version = run_python(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    return folder if version == USUAL_PYTHON else folder / version


def write(results: Results, folder: Path) -> None:
    """Writes results.json, results.md, and the charts that have something to show."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results.to_json(), indent=1, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n")
    (folder / "results.md").write_text(report.markdown(results))
    for drawing in chart.DRAWINGS:
        if svg := chart.draw(results, drawing):
            (folder / drawing.file).write_text(svg)


if __name__ == "__main__":
    sys.exit(main())
