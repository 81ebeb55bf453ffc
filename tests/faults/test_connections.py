"""Very many connections, opened, cancelled and reset at random: nothing of them is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import children

PROGRAM = Path(__file__).with_name("connections.py")


def serve(kind: str, connections: int, *options: str, timeout: float) -> None:
    arguments = ["--connections", str(connections), *options]
    report = children.run(PROGRAM, kind, *arguments, timeout=timeout)
    assert "served" in report and "cancelled" in report


def test_some_connections(kind: str) -> None:
    serve(kind, 300, timeout=25)


@pytest.mark.ours  # asyncio's SSLProtocol trips over a close() in data_received()
def test_some_tls_connections(kind: str) -> None:
    serve(kind, 100, "--tls", timeout=25)


@pytest.mark.soak
@pytest.mark.ours
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_connections(kind: str) -> None:
    serve(kind, 100_000, timeout=1750)


@pytest.mark.soak
@pytest.mark.ours
@pytest.mark.timeout(1800)
def test_many_tls_connections(kind: str) -> None:
    serve(kind, 10_000, "--tls", timeout=1750)
