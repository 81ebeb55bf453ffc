"""Fixtures of the tests of files, which are several."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.files import LINES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(LINES)
    return path


@pytest.fixture(params=["cached", "fetched"])
def cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the system has in memory what is read. If not, each fetch is waited for."""
    if request.param == "fetched":
        from oxlip import _file_raw

        monkeypatch.setattr(_file_raw.RawFile, "fetch_now", lambda *_: False)
    return str(request.param)


@pytest.fixture
def is_slow(kind: str) -> None:
    """For tests that need an operation to be under way: a simulation has them done at once."""
    if kind == "oxlip-sim":
        pytest.skip("nothing is under way in simulated time")
