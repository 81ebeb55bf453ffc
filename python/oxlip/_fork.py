"""Loops in a process that forks.

A forked child has a copy of every loop, and shares their kernel objects with its parent. Before
anything else can run in the child, each loop gets its own: see `loop_/fork.rs`. The parts of
the loop that hold more than the native one does (signals, threads) override `_after_fork`.

The interpreter calls the hooks around `os.fork()`, and so around `multiprocessing`'s forks. A
fork that it does not know of, by a C library, is followed by exec or by no Python at all.
"""

from __future__ import annotations

import os
import weakref

from ._base import LoopBase

_loops: weakref.WeakSet[Forkable] = weakref.WeakSet()


class Forkable(LoopBase):
    """A loop that survives a fork."""

    def __init__(self) -> None:
        super().__init__()
        _loops.add(self)

    def _after_fork(self) -> bool:
        """In a forked child, before any other code: whether the loop can be used there."""
        return super()._after_fork()


def _before_fork() -> None:
    for loop in list(_loops):
        loop._before_fork()


def _after_fork_in_child() -> None:
    for loop in list(_loops):
        loop._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
