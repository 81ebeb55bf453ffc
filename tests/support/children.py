"""Programs run in a child interpreter: where a fault would take the test run with it.

The child gets the loop's kind as its first argument; `faulthandler` prints a traceback of every
thread when it crashes or hangs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def run(program: Path, kind: str, *arguments: str, timeout: float = 60) -> str:
    """Runs it to the end and gives its output; fails with what it printed when it fails."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
        "PYTHONFAULTHANDLER": "1",
    }
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(program), kind, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if result.returncode:
        raise AssertionError(
            f"{program.name} {kind} ended with {result.returncode}\n{result.stdout}{result.stderr}"
        )
    return result.stdout
