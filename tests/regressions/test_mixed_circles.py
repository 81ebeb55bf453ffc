"""Cancelling tasks of ours and of asyncio's that wait for each other used up the stack."""

from __future__ import annotations

from pathlib import Path

from support import children

PROGRAM = Path(__file__).parent / "mixed_circle.py"


def test_cancelling_a_circle(kind: str) -> None:
    assert children.run(PROGRAM, kind, "circle", timeout=20) == "RecursionError\n"


def test_cancelling_a_long_chain(kind: str) -> None:
    assert children.run(PROGRAM, kind, "chain", timeout=20) == "True\nTrue True\n"
