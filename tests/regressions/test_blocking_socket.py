"""The program's own socket, set to blocking after it was handed over.

Stock asyncio then blocks: it has the socket object's flag to go by.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support import children

BLOCKING = Path(__file__).with_name("blocking_socket.py")


@pytest.mark.ours
@pytest.mark.parametrize("direction", ["write", "read", "buffered read"])
def test_socket_set_to_blocking_does_not_block_the_loop(kind: str, direction: str) -> None:
    assert children.run(BLOCKING, kind, direction, timeout=20) == "not blocked\n"
