"""Our streams in the place of asyncio's, more of them than `oxlip.install()` puts there."""

from __future__ import annotations

import asyncio
import asyncio.streams
from typing import Any

import pytest


def behind_asyncios_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test is over, asyncio's names stand for our streams."""
    for name, replacement in replacements().items():
        for module in (asyncio, asyncio.streams):
            monkeypatch.setattr(module, name, replacement)


def replacements() -> dict[str, Any]:
    """By asyncio's names; the classes too, so that tests of asyncio's are about ours."""
    from oxlip import _streams

    classes = {"StreamReader": _streams.StreamReader, "StreamWriter": _streams.StreamWriter}
    return {**_streams.REPLACEMENTS, **classes}
