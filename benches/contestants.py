"""The loops that are compared, and where each comes from.

Two releases of one library cannot share an environment, so each contestant has a folder of its own
under `.venv-bench/`, filled by `pip install --target` and put on the path of its processes. oxlip
itself is the one that the interpreter has installed.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loops import FRAMEWORKS

BENCHES = Path(__file__).resolve().parent
INSTALL_SECONDS = 300
PROBE_SECONDS = 30

# Name → the words of what to install for it; None: nothing. The order is that of tables and charts.
REQUIREMENTS: dict[str, str | None] = {
    "oxlip": None,
    "oxlip-epoll": None,
    "oxlip-io_uring": None,
    "oxlip-poll": None,
    "oxlip-select": None,
    "oxlip-installed": None,
    "oxlip-installed-io_uring": None,
    "asyncio": None,
    "uvloop-0.22.1": "uvloop==0.22.1",
    "uvloop": "uvloop",
    "rloop": "rloop",
    "blazio": "blazio",
    "aiofastnet": "aiofastnet uvloop",
    "zuvloop": "zuvloop",
}
# The Python from which on there is a release, where that is newer than the oldest of oxlip.
NEEDS = {"zuvloop": (3, 14)}
DEFAULT = (
    "oxlip",
    "oxlip-installed",
    "oxlip-io_uring",
    "oxlip-installed-io_uring",
    "asyncio",
    "uvloop-0.22.1",
    "uvloop",
    "rloop",
    "blazio",
    "aiofastnet",
    "zuvloop",
    "bare",
)
# The echo server in Rust without any loop: not a Python process.
BARE = "bare"
NAMES = (*REQUIREMENTS, BARE)

IDENTITY = """
import sys
print(sys.implementation.cache_tag)
print("%d.%d" % sys.version_info[:2])
"""


class Missing(Exception):
    """A contestant cannot take part; the text says why."""


@dataclass(frozen=True)
class Contestant:
    """A loop that takes part."""

    name: str
    # The environment of its processes.
    environment: dict[str, str] = field(default_factory=dict)
    # What loops.describe() said.
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name with the release."""
        if self.name == BARE:
            return "bare Rust epoll"
        library, _, detail = self.name.partition("-")
        release = self.facts["release"]
        if library != "oxlip":
            return f"{library} {release}"
        driver = self.facts["driver"]
        return (
            f"oxlip {release} ({'installed, ' if detail.startswith('installed') else ''}{driver})"
        )


def prepare(
    python: str, names: Sequence[str], folder: Path
) -> tuple[list[Contestant], dict[str, str]]:
    """Installs what is not there yet; gives those that can run, and why the others cannot."""
    present: list[Contestant] = []
    missing: dict[str, str] = {}
    tag, version = run_python(python, "-c", IDENTITY).splitlines()
    home = folder / tag
    frameworks = install(python, FRAMEWORKS, home / "frameworks")
    for name in names:
        if name == BARE:
            present.append(Contestant(BARE))
            continue
        try:
            needed = NEEDS.get(name, (3,))
            if tuple(map(int, version.split("."))) < needed:
                raise Missing(f"needs Python {'.'.join(map(str, needed))}, this is {version}")
            paths = [frameworks]
            if requirement := REQUIREMENTS[name]:
                paths.insert(0, install(python, requirement.split(), home / name))
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
            environment.pop("OXLIP_DRIVER", None)
            output = run_python(python, str(BENCHES / "loops.py"), name, environment=environment)
            present.append(Contestant(name, environment, json.loads(output)))
        except Missing as reason:
            missing[name] = str(reason)
    return present, missing


def install(python: str, requirements: Sequence[str], folder: Path) -> Path:
    """Fills the folder, unless an earlier run has; raises Missing."""
    if folder.is_dir():
        return folder
    print(f"installing {', '.join(requirements)} ...", file=sys.stderr, flush=True)
    # Under another name until complete: an interrupted installation must not count.
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    quiet = ("--quiet", "--disable-pip-version-check", "--no-warn-script-location")
    run_python(
        python,
        *("-m", "pip", "install", *quiet, "--target", str(partial)),
        *requirements,
        environment={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"},
        seconds=INSTALL_SECONDS,
    )
    partial.rename(folder)
    return folder


def run_python(
    python: str,
    *args: str,
    environment: dict[str, str] | None = None,
    seconds: float = PROBE_SECONDS,
) -> str:
    """What the interpreter prints; raises Missing with the last line of its complaint."""
    try:
        done = subprocess.run(
            [python, *args],
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(str(error)) from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Missing(lines[-1])
    return done.stdout
