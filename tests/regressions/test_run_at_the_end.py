"""A loop that was first run when the interpreter ended looked up asyncio's classes, and failed."""

from __future__ import annotations

from pathlib import Path

from support import children

PROGRAM = Path(__file__).with_name("run_at_the_end.py")


def test_a_loop_runs_for_the_first_time_at_the_interpreters_end(kind: str) -> None:
    assert children.run(PROGRAM, kind, timeout=20) == "soon\n\nTrue closed\n"
