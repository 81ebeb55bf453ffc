"""Our streams in the place of asyncio's, as `oxlip.install()` and `oxlip run` put them."""

from __future__ import annotations

import asyncio
import asyncio.streams

import pytest


def behind_asyncios_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test is over, asyncio's names stand for our streams."""
    from oxlip import _streams

    for name, replacement in _streams.REPLACEMENTS.items():
        for module in (asyncio, asyncio.streams):
            monkeypatch.setattr(module, name, replacement)
