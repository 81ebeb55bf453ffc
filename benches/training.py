"""What the compiler is shown of the extension's work: each case of the benchmark for a moment.

`make wheel` has maturin build an extension that counts, run this with it, and build another one
from the counts (profile-guided optimisation). Any case that fails ends it: a profile that lacks
something would make just that slow, and nobody would see why.
"""

import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from cases import NETWORK, PIPES, SCHEDULING, NetworkCase, ProgramCase
from contestants import Contestant, Missing, prepare
from measure import Bench, Failed, Sample, say
from run import build

ROOT = Path(__file__).resolve().parent.parent
# Between them both drivers, and both halves of what `oxlip.install()` switches.
WITH_IO = ("oxlip-installed", "oxlip-io_uring")
WITHOUT_IO = ("oxlip", "oxlip-installed")
# Nothing that others do not show, and long.
LEFT_OUT = ("echo-1k-10000", "timers_million")
WARM_UP = 0.1
SECONDS = 0.2
# Of each of four samples. The compiler compares counts: none of the two groups may drown the other.
PROGRAM_SECONDS = 0.1


def main() -> None:
    """Runs every case; SystemExit with what failed."""
    try:
        names = dict.fromkeys((*WITH_IO, *WITHOUT_IO))
        contestants, missing = prepare(sys.executable, tuple(names), ROOT / ".venv-bench")
        bench = Bench(sys.executable, build(), WARM_UP, SECONDS, ending=signal.SIGUSR1)
        for name, reason in missing.items():
            # In a container, perhaps, that forbids io_uring.
            say(f"without {name}: {reason}")
        for contestant in contestants:
            if contestant.name in WITH_IO:
                network(bench, contestant)
                programs(bench, contestant, PIPES)
            if contestant.name in WITHOUT_IO:
                programs(bench, contestant, SCHEDULING)
    except (Missing, Failed) as error:
        raise SystemExit(f"the compiler's profile cannot be taken: {error}") from error


def network(bench: Bench, contestant: Contestant) -> None:
    """The servers, one after another."""
    for case in NETWORK:
        if case.name in LEFT_OUT:
            continue
        windows = bench.network([contestant], case)[contestant.name]
        if isinstance(windows, Failed):
            # Once more: a machine with other work may have kept the load from its window.
            say(f"{case.title}, {contestant.name}: {windows}")
            windows = bench.network([contestant], case)[contestant.name]
        if isinstance(windows, Failed):
            raise windows
        tell(contestant, case, windows[0])


def programs(bench: Bench, contestant: Contestant, cases: Iterable[ProgramCase]) -> None:
    """Cases that need no client: those of one program."""
    chosen = {case.name: case for case in cases if case.name not in LEFT_OUT}
    program = next(iter(chosen.values())).program
    found = bench.program(contestant, program, list(chosen), PROGRAM_SECONDS)
    for name, sample in found.items():
        if isinstance(sample, Failed):
            raise Failed(f"{name}: {sample}")
        tell(contestant, chosen[name], sample)


def tell(contestant: Contestant, case: NetworkCase | ProgramCase, sample: Sample) -> None:
    """Says how far it is."""
    say(f"{case.title}, {contestant.name}: {sample['cost']:.4g}")


if __name__ == "__main__":
    main()
