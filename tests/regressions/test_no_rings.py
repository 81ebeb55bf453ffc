"""Where io_uring is forbidden, asking for it is a clear error; the default works without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "no_rings.py"


@pytest.mark.skipif(sys.platform != "linux", reason="io_uring is Linux's")
def test_forbidden_by_a_sandbox() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OXLIP_DRIVER"}
    done = subprocess.run(
        [sys.executable, PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    error, driver = done.stdout.splitlines()
    assert error.startswith("io_uring cannot be used here: ")
    assert "sandbox" in error
    assert driver == "epoll"
    assert done.stderr == ""
