"""Cancellation at every await of connect, accept, recv and send, under reuse of descriptors.

Every connection carries bytes of its own tag only. While operations are cancelled, their sockets
are closed at once and the numbers taken by new sockets; a byte, a wake-up or a close that belongs
to the former owner would then reach the wrong one. The storms run in a child process.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support import children

STORM = Path(__file__).with_name("storm.py")


def storm(kind: str, scene: str, *, seed: int = 1, rounds: int = 150) -> None:
    arguments = [scene, "--seed", str(seed), "--rounds", str(rounds)]
    report = children.run(STORM, kind, *arguments, timeout=max(25, rounds / 7))
    assert "cancelled" in report and "bytes" in report


def test_sock_methods(kind: str) -> None:
    storm(kind, "sock_methods")


def test_transports(kind: str) -> None:
    storm(kind, "transports")


def test_streams(kind: str) -> None:
    storm(kind, "streams")


def test_readers(kind: str) -> None:
    storm(kind, "readers")


def test_connects(kind: str) -> None:
    storm(kind, "connects")


@pytest.mark.soak
@pytest.mark.ours
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scene", ["sock_methods", "transports", "streams", "readers", "connects"])
@pytest.mark.parametrize("seed", range(2, 4))
def test_long_storm(kind: str, scene: str, seed: int) -> None:
    storm(kind, scene, seed=seed, rounds=5000)
