"""`asyncio.Handle._run` replaced by a program, as those do that time callbacks."""

from __future__ import annotations

import asyncio
import asyncio.events
import socket
from collections.abc import Callable
from typing import Any

import pytest
from support import loops

Run = Callable[[Any], None]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The callbacks that the patched method has run; it is in place before the loop runs."""
    seen: list[Any] = []
    original: Run = asyncio.events.Handle._run  # type: ignore[attr-defined]

    def run(self: Any) -> None:
        seen.append(self._callback)
        original(self)

    monkeypatch.setattr(asyncio.events.Handle, "_run", run)
    return seen


@pytest.mark.parametrize("debug", [False, True])
def test_it_runs_handles_and_steps(kind: str, seen: list[Any], debug: bool) -> None:
    loop = loops.factory(kind)()
    loop.set_debug(debug)
    order = []

    async def main() -> str:
        done = loop.create_future()
        loop.call_soon(order.append, "soon")
        loop.call_later(0, order.append, "later")
        loop.call_soon_threadsafe(done.set_result, None)
        loop.call_soon(order.append, "never").cancel()
        await done
        await asyncio.sleep(0.001)
        return "result"

    assert loop.run_until_complete(main()) == "result"
    loop.close()
    assert order == ["soon", "later"]
    assert seen.count(order.append) == 2
    # The steps of the task: it begins, and goes on twice.
    steps = [callback for callback in seen if "ask" in repr(callback)]
    assert len(steps) >= 3


def test_it_runs_those_of_watched_descriptors(kind: str, seen: list[Any]) -> None:
    loop = loops.factory(kind)()
    near, far = socket.socketpair()

    def read() -> None:
        loop.remove_reader(near)
        loop.stop()

    with near, far:
        far.send(b"x")
        loop.add_reader(near, read)
        loop.run_forever()
    loop.close()
    assert read in seen


def test_errors_are_reported(kind: str, seen: list[Any]) -> None:
    loop = loops.factory(kind)()
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    def fail() -> None:
        raise LookupError

    loop.call_soon(fail)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert [type(context["exception"]) for context in contexts] == [LookupError]
    assert fail in seen


def test_once_it_is_put_back_it_runs_no_more(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = loops.factory(kind)()
    called = []
    with monkeypatch.context() as patch:
        original: Run = asyncio.events.Handle._run  # type: ignore[attr-defined]
        patch.setattr(
            asyncio.events.Handle, "_run", lambda self: (called.append(1), original(self))[1]
        )
        loop.run_until_complete(asyncio.sleep(0))
        assert called
        called.clear()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert called == []
