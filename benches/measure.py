"""One measurement: a server on one CPU, the load on another, and the figures of both.

Every process here is started, bounded in time and ended by this module, by its own pid.
"""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cases import MemoryCase, NetworkCase
from contestants import BARE, BENCHES, Contestant

SERVER_CPU = 0
CLIENT_CPU = 1
START_SECONDS = 30.0
END_SECONDS = 3.0
END_TRIES = 3
# What the load may take beyond warm-up and window: noticing a dead server.
LOAD_SECONDS = 30.0
# More than a case of a program gives itself.
PROGRAM_SECONDS = 40.0
# Open files of a server or a load generator beside the connections of its case.
SPARE_FILES = 100

# So many windows are enough if of them so many have the same cost, up to this factor.
FEWEST_WINDOWS = 6
AGREEING = 3
AGREEMENT = 1.03

Client = subprocess.Popen[str]

# "cost" is what the contestants are compared by, less is better: CPU µs per request, CPU ns per
# operation, or bytes per connection. Network samples hold rates and latencies beside it.
Sample = dict[str, float]


T = TypeVar("T")


class Failed(Exception):
    """A measurement gave no figure; the text says why."""


@dataclass(frozen=True)
class Bench:
    """What all measurements of a run share."""

    python: str
    # Where `load` and `bare_echo` are.
    binaries: Path
    # Of each window, and how many a contestant has in a round at the most.
    warm_up: float
    seconds: float
    windows: int = 1
    # How a server is told to end. It has nothing to save, and a polite end costs uvicorn seconds.
    ending: signal.Signals = signal.SIGKILL

    def server_command(self, contestant: Contestant, case: str) -> list[str]:
        """The server of this contestant."""
        if contestant.name == BARE:
            return [str(self.binaries / "bare_echo")]
        return [self.python, str(BENCHES / "servers.py"), case, "--loop", contestant.name]

    def network(
        self, contestants: Sequence[Contestant], case: NetworkCase
    ) -> dict[str, list[Sample] | Failed]:
        """The windows of each contestant, by name: their servers run at once, loaded in turns."""
        enough_files(case.files)
        found: dict[str, list[Sample] | Failed] = {}
        clients: dict[str, Client] = {}
        with ExitStack() as stack:
            for contestant in contestants:
                try:
                    clients[contestant.name] = stack.enter_context(self.client(contestant, case))
                except Failed as reason:
                    found[contestant.name] = reason
            windows: dict[str, list[Sample]] = {name: [] for name in clients}
            for turn in range(self.windows):
                if all(is_settled(samples) for name, samples in windows.items() if name in clients):
                    break
                for name in rotated(list(clients), turn):
                    try:
                        windows[name].append(self.window(clients[name]))
                    except Failed as reason:
                        found[name] = reason
                        del clients[name]
        return {name: samples for name, samples in windows.items() if name in clients} | found

    @contextmanager
    def client(self, contestant: Contestant, case: NetworkCase) -> Iterator[Client]:
        """A load generator that is connected to a running server, and waits for its turns."""
        with self.started(contestant, case.server) as (pid, where):
            warm_up, seconds = case.longer * self.warm_up, case.longer * self.seconds
            options = ("--warm-up", str(warm_up), "--seconds", str(seconds), "--turns")
            load = (str(self.binaries / "load"), *case.load, *options, *where)
            command = pinned([*load, "--server-pid", str(pid)], CLIENT_CPU)
            with child(command, None) as (process, _):
                yield process

    def window(self, client: Client) -> Sample:
        """CPU per request, requests per second and latencies of one server for a moment."""
        assert client.stdin is not None and client.stdout is not None
        try:
            client.stdin.write("\n")
            client.stdin.flush()
        except BrokenPipeError:
            raise Failed("the load generator has ended") from None
        limit = self.warm_up + self.seconds + LOAD_SECONDS
        report = answer(client, limit, "the load generator said nothing")
        if report["errors"]:
            raise Failed(f"{report['errors']} errors, first: {report['first_error']}")
        requests = report["requests"]
        if not requests:
            raise Failed("no request was answered in time")
        return {
            "cost": report["server_cpu_ns"] / requests / 1e3,
            "rps": report["rps"],
            "p50_us": report["p50_us"],
            "p99_us": report["p99_us"],
            "server_busy": report["server_cpu_ns"] / report["seconds"] / 1e9,
            "client_busy": report["client_cpu_ns"] / report["seconds"] / 1e9,
        }

    def memory(self, contestant: Contestant, case: MemoryCase) -> Sample:
        """Bytes by which an open and silent connection makes the server larger."""
        enough_files(case.files)
        with (
            self.started(contestant, case.server) as (pid, where),
            self.idle(case.warm_up, *case.load, *where),
        ):
            before = proportional_set_size(pid)
            with self.idle(case.connections, *case.load, *where):
                growth = proportional_set_size(pid) - before
        return {"cost": growth / case.connections}

    def program(
        self, contestant: Contestant, program: str, cases: Sequence[str], seconds: float
    ) -> dict[str, Sample | Failed]:
        """The cost of one operation, by case: all in one process, which is slow to start.

        A case that ends the process fails alone, and those behind it run in another one.
        """
        found: dict[str, Sample | Failed] = {}
        while left := [case for case in cases if case not in found]:
            command = [self.python, str(BENCHES / program), "--loop", contestant.name]
            command += ["--seconds", str(seconds), "--cases", *left]
            done = run(pinned(command, SERVER_CPU), contestant, PROGRAM_SECONDS * len(left))
            for line in done.stdout.splitlines():
                told: dict[str, Any] = json.loads(line)
                if "error" in told:
                    found[told["case"]] = Failed(told["error"])
                else:
                    found[told["case"]] = {"cost": told["cost"]}
            silent = next((case for case in left if case not in found), None)
            if silent is not None:
                found[silent] = Failed(complaint(done))
        return found

    @contextmanager
    def started(self, contestant: Contestant, case: str) -> Iterator[tuple[int, tuple[str, ...]]]:
        """A running server: its pid, and what tells the load generator where it is."""
        command = pinned(self.server_command(contestant, case), SERVER_CPU)
        with child(command, contestant, self.ending) as (process, facts):
            where: tuple[str, ...] = ("--port", str(facts["port"]))
            if "unix" in facts:
                where += ("--unix", facts["unix"])
            yield process.pid, where

    @contextmanager
    def idle(self, connections: int, *where: str) -> Iterator[None]:
        """Holds so many connections open."""
        args = ("idle", "--connections", str(connections), *where)
        command = pinned([str(self.binaries / "load"), *args], CLIENT_CPU)
        with child(command, None) as (process, _):
            yield
            # The end of its stdin is the sign to let go.
            assert process.stdin is not None
            process.stdin.close()
            process.wait(END_SECONDS)


@contextmanager
def child(
    command: list[str], contestant: Contestant | None, ending: signal.Signals = signal.SIGKILL
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A process that has printed its line of JSON, and is ended afterwards."""
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            command,
            env=environment_of(contestant),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        )
        try:
            yield process, answer(process, START_SECONDS, "did not start")
        except Failed as failure:
            complaints.seek(0)
            said = last_line(complaints.read())
            raise Failed(
                f"{failure}; {command[-1]} said: {said}" if said else str(failure)
            ) from None
        finally:
            end(process, ending)


def answer(process: subprocess.Popen[str], seconds: float, otherwise: str) -> dict[str, Any]:
    """The next line of JSON; Failed if it does not come in time."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    line = process.stdout.readline() if ready else ""
    if not line:
        raise Failed(otherwise)
    told: dict[str, Any] = json.loads(line)
    return told


def run(
    command: list[str], contestant: Contestant | None, seconds: float
) -> subprocess.CompletedProcess[str]:
    """The command, run to its end; Failed if it takes longer than this."""
    try:
        return subprocess.run(
            command,
            env=environment_of(contestant),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"did not end within {seconds:.0f} s") from error


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process has not done what it should."""
    if done.returncode == -signal.SIGALRM:
        return "took too long"
    if done.returncode < 0:
        return f"was ended by {signal.Signals(-done.returncode).name}"
    return last_line(done.stderr) or f"exit status {done.returncode}"


def end(process: subprocess.Popen[str], ending: signal.Signals) -> None:
    """Ends a child of ours by this signal."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    for _ in range(END_TRIES):
        process.send_signal(ending)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            # The exception of a signal handler is lost if it was called in a destructor.
            continue
        return
    process.kill()
    process.wait(END_SECONDS)
    raise Failed(f"did not end by {ending.name}")


def is_settled(windows: Sequence[Sample]) -> bool:
    """Whether several windows agree on what is cheapest: others would not tell more."""
    costs = sorted(window["cost"] for window in windows)
    return len(costs) >= FEWEST_WINDOWS and costs[AGREEING - 1] <= AGREEMENT * costs[0]


def least_disturbed(windows: Sequence[Sample]) -> Sample:
    """The cheapest window, with the best rate and latencies of any.

    What else a machine does adds to costs and latencies and takes from rates, now and then.
    """
    best = dict(min(windows, key=lambda window: window["cost"]))
    best["rps"] = max(window["rps"] for window in windows)
    for key in ("p50_us", "p99_us"):
        best[key] = min(window[key] for window in windows)
    return best


def rotated(names: Sequence[T], turn: int) -> list[T]:
    """The same in another order each turn, so that nobody always follows the same one."""
    start = turn % max(1, len(names))
    order = [*names[start:], *names[:start]]
    return order[::-1] if turn % 2 else order


def pinned(command: list[str], cpu: int) -> list[str]:
    """The command on this CPU, if there is more than one."""
    if (os.cpu_count() or 1) <= max(SERVER_CPU, CLIENT_CPU):
        return command
    return ["taskset", "--cpu-list", str(cpu), *command]


def environment_of(contestant: Contestant | None) -> dict[str, str] | None:
    """The environment for its processes; None is our own."""
    return contestant.environment if contestant and contestant.environment else None


def proportional_set_size(pid: int) -> int:
    """Bytes of memory of the process, shared pages divided among those who share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise Failed("smaps_rollup has no Pss")


def enough_files(connections: int) -> None:
    """Allows the processes so many connections; Failed if we may not."""
    wanted = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Failed(f"needs {wanted} open files, `ulimit -Hn` allows {hard}")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def last_line(text: str) -> str:
    """The last line of a traceback says what happened."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def say(text: str) -> None:
    """Progress, beside the results on stdout."""
    print(text, file=sys.stderr, flush=True)
