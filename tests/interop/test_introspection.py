"""`python -m asyncio ps` and `pstree`: the tasks of another process, read from its memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import loops
from support.children import TESTS
from support.sockets import PATIENCE

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio has it since 3.14")

PROGRAM = Path(__file__).with_name("waiting_tasks.py")


@pytest.mark.parametrize("switch", [[], ["installed"]] if not loops.STOCK_ONLY else [[]])
@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_tasks_of_a_process(kind: str, command: str, switch: list[str]) -> None:
    expected = shown(loops.STOCK, command)
    assert all(name in expected for name in ("branch", "leaf", "sleeper", "limited", "Task-1"))
    assert shown(kind, command, *switch) == expected


def shown(kind: str, command: str, *switch: str) -> str:
    """What it says about the program on a loop of this kind, without what differs in each run."""
    path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), kind, *switch],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            assert program.stdout.readline() == "ready\n"
            done = subprocess.run(
                [sys.executable, "-m", "asyncio", command, str(program.pid)],
                capture_output=True,
                text=True,
                timeout=2 * PATIENCE,
                check=False,
            )
            program.stdin.close()
            assert program.wait(PATIENCE) == 0
        finally:
            program.kill()
    if "insufficient permissions" in done.stdout:
        pytest.skip("this system lets no process read another's memory")
    assert done.returncode == 0, done.stderr
    # Addresses, the process's number, and the widths of columns that hold them.
    text = re.sub(r"0x[0-9a-f]+", "ID", done.stdout)
    text = re.sub(rf"\b{program.pid}\b", "PID", text)
    # `wait_for()` is another function after the switch.
    text = re.sub(r"(wait_for) \S+/(asyncio/tasks|oxlip/_timeouts)\.py:\d+", r"\1", text)
    return "\n".join(sorted(" ".join(line.split()) for line in text.splitlines()))
