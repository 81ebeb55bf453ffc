"""Where io_uring is forbidden, epoll takes its place; the loop and `oxlip doctor` say so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import loops

PROGRAM = Path(__file__).parent / "no_rings.py"


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="io_uring is Linux's")


def printed(*args: str) -> list[str]:
    environment = {key: value for key, value in os.environ.items() if key != "OXLIP_DRIVER"}
    done = subprocess.run(
        [sys.executable, PROGRAM, *args],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_forbidden_by_a_sandbox() -> None:
    default, *asked_for, _, row = printed("setup")[:5]
    assert default == "epoll: the best on this system"
    for instead in asked_for:
        assert instead.startswith("epoll: io_uring cannot be used here: ")
        assert "sandbox" in instead
    assert row.startswith("io_uring: no (io_uring cannot be used here: ")


@pytest.mark.skipif(loops.why_no_rings() is not None, reason="no rings here")
def test_forbidden_later_on() -> None:
    assert printed("enter") == ["io_uring", "epoll", "epoll"]
