"""A process that has no descriptor left: the server backs off and recovers, nothing is lost.

Each program lowers the limit of its own process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import children

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")


def test_server_recovers(kind: str) -> None:
    assert "recovered" in children.run(HERE / "accept_limit.py", kind, timeout=28)


def test_server_closed_while_it_waits(kind: str) -> None:
    assert "closed" in children.run(HERE / "closing_while_limited.py", kind, timeout=28)
