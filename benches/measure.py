"""One measurement: a server on one CPU, the load on another, and the figures of both.

Every process here is started, bounded in time and ended by this module, by its own pid.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import MemoryCase, NetworkCase
from contestants import BARE, BENCHES, Contestant

SERVER_CPU = 0
CLIENT_CPU = 1
START_SECONDS = 30.0
END_SECONDS = 3.0
# What the load may take beyond warm-up and window: connecting, and noticing a dead server.
LOAD_SECONDS = 30.0

# "cost" is what the contestants are compared by, less is better: CPU µs per request, CPU ns per
# operation, or bytes per connection. Network samples hold rates and latencies beside it.
Sample = dict[str, float]


class Failed(Exception):
    """A measurement gave no figure; the text says why."""


@dataclass(frozen=True)
class Bench:
    """What all measurements of a run share."""

    python: str
    # Where `load` and `bare_echo` are.
    binaries: Path
    warm_up: float
    seconds: float

    def server_command(self, contestant: Contestant, case: str) -> list[str]:
        """The server of this contestant."""
        if contestant.name == BARE:
            return [str(self.binaries / "bare_echo")]
        return [self.python, str(BENCHES / "servers.py"), case, "--loop", contestant.name]

    def network(self, contestant: Contestant, case: NetworkCase) -> Sample:
        """CPU per request, requests per second and latencies of one server under one load."""
        with started(self.server_command(contestant, case.server), contestant) as (pid, where):
            options = ("--warm-up", str(self.warm_up), "--seconds", str(self.seconds))
            report = self.load(*case.load, *options, *where, "--server-pid", str(pid))
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
        with (
            started(self.server_command(contestant, case.server), contestant) as (pid, where),
            self.idle(case.warm_up, *case.load, *where),
        ):
            before = proportional_set_size(pid)
            with self.idle(case.connections, *case.load, *where):
                growth = proportional_set_size(pid) - before
        return {"cost": growth / case.connections}

    def scheduling(
        self, contestant: Contestant, cases: Sequence[str], seconds: float
    ) -> dict[str, Sample]:
        """CPU nanoseconds per operation, by case."""
        command = [self.python, str(BENCHES / "scheduling.py"), "--loop", contestant.name]
        command += ["--seconds", str(seconds), "--cases", *cases]
        output = finish(pinned(command, SERVER_CPU), contestant, 10.0 * len(cases))
        costs: dict[str, float] = json.loads(output)
        return {case: {"cost": cost} for case, cost in costs.items()}

    def load(self, *args: str) -> dict[str, Any]:
        """Runs the load generator to its end."""
        command = pinned([str(self.binaries / "load"), *args], CLIENT_CPU)
        report: dict[str, Any] = json.loads(
            finish(command, None, self.warm_up + self.seconds + LOAD_SECONDS)
        )
        return report

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
def started(command: list[str], contestant: Contestant) -> Iterator[tuple[int, tuple[str, ...]]]:
    """A running server: its pid, and what tells the load generator where it is."""
    with child(pinned(command, SERVER_CPU), contestant) as (process, facts):
        where = ("--port", str(facts["port"]))
        if "unix" in facts:
            where += ("--unix", facts["unix"])
        yield process.pid, where


@contextmanager
def child(
    command: list[str], contestant: Contestant | None
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
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
            line = process.stdout.readline() if ready else ""
            if not line:
                raise Failed("did not start")
            yield process, json.loads(line)
        except Failed as failure:
            complaints.seek(0)
            said = last_line(complaints.read())
            raise Failed(
                f"{failure}; {command[-1]} said: {said}" if said else str(failure)
            ) from None
        finally:
            end(process)


def finish(command: list[str], contestant: Contestant | None, seconds: float) -> str:
    """What the command prints; Failed if it does not end well within the time."""
    try:
        done = subprocess.run(
            command,
            env=environment_of(contestant),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"did not end within {seconds:.0f} s") from error
    if done.returncode != 0:
        raise Failed(last_line(done.stderr) or f"exit status {done.returncode}")
    return done.stdout


def end(process: subprocess.Popen[str]) -> None:
    """Ends a child of ours, politely if it listens."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    # The servers hold nothing that has to be saved, and a polite end costs uvicorn seconds.
    process.kill()
    process.wait(END_SECONDS)


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


def last_line(text: str) -> str:
    """The last line of a traceback says what happened."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def say(text: str) -> None:
    """Progress, beside the results on stdout."""
    print(text, file=sys.stderr, flush=True)
