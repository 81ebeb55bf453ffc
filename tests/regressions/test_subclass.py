"""A program's own loop class with arguments of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from support.ticks import turn

Loop = asyncio.AbstractEventLoop


def subclass(loop: Loop) -> Any:
    """A subclass of the loop under test, whose `__init__` has its own signature."""
    base: Any = type(loop)

    class Named(base):  # type: ignore[misc]
        def __init__(self, application: object, *, name: str) -> None:
            super().__init__()
            self.application = application
            self.name = name

        def __repr__(self) -> str:
            return f"<Named {self.name}>"

    return Named


def test_subclass_has_arguments_of_its_own(loop: Loop) -> None:
    application = object()
    own = subclass(loop)(application, name="mine")
    try:
        assert own.application is application
        assert repr(own) == "<Named mine>"
        seen: list[int] = []
        own.call_soon(seen.append, 1)
        turn(own)
        assert seen == [1]
    finally:
        own.close()


def test_subclass_runs_coroutines(loop: Loop) -> None:
    async def name() -> str:
        running: Any = asyncio.get_running_loop()
        return str(running.name)

    own = subclass(loop)(None, name="mine")
    try:
        assert own.run_until_complete(name()) == "mine"
    finally:
        own.close()
