"""nest_asyncio, asynkit, aiocop, looptime: libraries that reach into the loop.

In a process of their own, since they change asyncio itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import children, loops

PROGRAM = Path(__file__).with_name("loop_libraries.py")

LIBRARIES = [
    pytest.param(
        "nest_asyncio",
        marks=pytest.mark.skipif(sys.version_info >= (3, 14), reason="it knows no Python 3.14"),
    ),
    "asynkit",
    "aiocop",
    pytest.param(
        "looptime",
        marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="it knows no Python 3.10"),
    ),
]


@pytest.mark.parametrize("library", LIBRARIES)
def test_library(kind: str, library: str) -> None:
    expected = children.run(PROGRAM, loops.STOCK, library)
    assert len(expected) > len("[]\n")
    assert children.run(PROGRAM, kind, library) == expected
