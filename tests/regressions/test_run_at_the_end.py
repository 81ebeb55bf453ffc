"""What was first used at the end of the interpreter looked up asyncio's names then, and failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import children

HERE = Path(__file__).parent


def test_a_loop_runs_for_the_first_time_at_the_interpreters_end(kind: str) -> None:
    printed = children.run(HERE / "run_at_the_end.py", kind, timeout=20)
    assert printed == "soon\n\nTrue closed\nconnected\n"


@pytest.mark.parametrize("mode", ["installed", "imported"])
def test_locks_and_tasks_for_the_first_time_at_the_interpreters_end(kind: str, mode: str) -> None:
    printed = children.run(HERE / "primitives_at_the_end.py", kind, mode, timeout=20)
    assert printed == "[5, True, 'taken', 'empty', 'late']\n"
