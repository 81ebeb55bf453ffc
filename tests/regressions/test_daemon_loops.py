"""Threads that ran a loop when the interpreter ended made the process abort, up to Python 3.13."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import children

PROGRAM = Path(__file__).parent / "daemon_loops.py"


@pytest.mark.parametrize(
    "what", ["task", "handle", "timer", "protocol", "finalizer", "handler", "weak_reference"]
)
def test_the_interpreter_ends_while_threads_run_loops(kind: str, what: str) -> None:
    for _ in range(3):
        assert children.run(PROGRAM, kind, what, timeout=20) == "the end\n"
