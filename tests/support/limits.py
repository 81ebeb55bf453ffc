"""A second time limit, for the end of a test whose first one (of pytest-timeout) has passed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Fails the test when the block takes longer. Main thread only; without effect on Windows."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def overdue(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"the end of the test took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
