"""Callbacks of add_reader whose end runs Python code that uses the loop."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.ticks import turn

Loop = asyncio.AbstractEventLoop


class Last:
    """A callback that uses the loop when it is freed, and writes down what that raised."""

    def __init__(self, loop: Loop, outcomes: list[Any]) -> None:
        self.loop = loop
        self.outcomes = outcomes

    def __call__(self) -> None:
        """Nothing to do."""

    def __del__(self) -> None:
        try:
            self.loop.call_soon(int)
            self.loop.remove_writer(0)
            self.outcomes.append("used the loop")
        except BaseException as error:
            self.outcomes.append(error)


@pytest.fixture
def descriptor() -> Iterator[int]:
    """One end of a pair, which the test may close."""
    first, second = socket.socketpair()
    with second:
        number = first.detach()
        yield number
        with suppress(OSError):
            os.close(number)


@pytest.mark.skipif(sys.platform == "win32", reason="files are no descriptors of the loop there")
def test_callback_freed_when_its_number_became_a_regular_file(
    loop: Loop, descriptor: int, tmp_path: Path
) -> None:
    outcomes: list[Any] = []
    loop.add_reader(descriptor, Last(loop, outcomes))
    os.close(descriptor)
    path = tmp_path / "regular"
    path.touch()
    assert os.open(path, os.O_RDONLY) == descriptor, "the number is used again"
    with suppress(PermissionError):  # epoll takes no regular file
        loop.add_reader(descriptor, int)
    gc.collect()
    assert outcomes == ["used the loop"]
    loop.remove_reader(descriptor)
    turn(loop)


@pytest.mark.parametrize("way", ["replaced", "removed"])
def test_callback_freed_by_the_loop(loop: Loop, descriptor: int, way: str) -> None:
    outcomes: list[Any] = []
    loop.add_reader(descriptor, Last(loop, outcomes))
    if way == "replaced":
        loop.add_reader(descriptor, int)
    else:
        loop.remove_reader(descriptor)
    gc.collect()
    assert outcomes == ["used the loop"]
    loop.remove_reader(descriptor)
    turn(loop)


def test_callback_freed_by_closing_the_loop(loop: Loop, descriptor: int) -> None:
    outcomes: list[Any] = []
    loop.add_reader(descriptor, Last(loop, outcomes))
    loop.close()
    gc.collect()
    (outcome,) = outcomes
    assert isinstance(outcome, RuntimeError), "the loop is closed"
