"""A forked child that closes the loop it inherited: the parent's goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import children

FORKING = Path(__file__).with_name("fork_and_close.py")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


@pytest.mark.parametrize("what", ["connection", "server", "wake-up"])
def test_closing_the_loop_in_a_child_leaves_the_parents(kind: str, what: str) -> None:
    assert children.run(FORKING, kind, what, timeout=20) == "works\n"
