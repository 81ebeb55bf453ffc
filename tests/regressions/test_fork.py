"""Forked children that close the loop they inherited, or go on with it, beside their parents."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import children

CLOSING = Path(__file__).with_name("fork_and_close.py")
GOING_ON = Path(__file__).with_name("fork_and_go_on.py")

WITH_FILES = Path(__file__).with_name("fork_with_files.py")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


@pytest.mark.parametrize("what", ["connection", "server", "wake-up", "datagrams"])
def test_closing_the_loop_in_a_child_leaves_the_parents(kind: str, what: str) -> None:
    assert children.run(CLOSING, kind, what, timeout=20) == "works\n"


def test_child_with_a_loop_of_its_own(kind: str) -> None:
    assert children.run(GOING_ON, kind, "new_loop_in_a_process", timeout=40) == "works\n"


@pytest.mark.ours
@pytest.mark.parametrize(
    "what",
    [
        "at_rest",
        "at_rest_for_long",
        "connection_of_the_child",
        "running",
        "leaves_running_loop",
        "in_a_thread",
        "no_descriptor_left",
        "threads_of_the_child",
        "written_before",
        "written_beside_an_error",
    ],
)
def test_child_that_uses_the_loop(kind: str, what: str) -> None:
    """asyncio's shares its multiplexer with the parent, and its executor's threads are gone."""
    assert children.run(GOING_ON, kind, what, timeout=40) == "works\n"


@pytest.mark.ours
def test_child_that_goes_on_with_a_file(kind: str) -> None:
    assert children.run(WITH_FILES, kind, timeout=20) == "works\n"
