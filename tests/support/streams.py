"""Our streams under asyncio's names, a reader on its own, and a transport that takes notes."""

from __future__ import annotations

import asyncio
import asyncio.streams
from typing import Any

import pytest


def behind_asyncios_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test is over, asyncio's names stand for our streams, the classes included."""
    for name, replacement in replacements().items():
        for module in (asyncio, asyncio.streams):
            monkeypatch.setattr(module, name, replacement)


def replacements() -> dict[str, Any]:
    """By asyncio's names; the classes too, so that tests of asyncio's are about ours."""
    from oxlip import _streams

    classes = {"StreamReader": _streams.StreamReader, "StreamWriter": _streams.StreamWriter}
    return {**_streams.REPLACEMENTS, **classes}


def reader_on(loop: asyncio.AbstractEventLoop, limit: int = 2**16) -> Any:
    """A reader of ours without a connection."""
    import oxlip

    return oxlip.StreamReader(limit=limit, loop=loop)


class Noting(asyncio.Transport):
    """A transport that only notes what it is asked to do."""

    def __init__(self, can_pause: bool) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._can_pause = can_pause

    def pause_reading(self) -> None:
        self.asked.append("pause")
        if not self._can_pause:
            raise NotImplementedError

    def resume_reading(self) -> None:
        self.asked.append("resume")
