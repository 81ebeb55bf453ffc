"""Objects that hold each other in a long chain: the end of the first overflowed the stack."""

from __future__ import annotations

import asyncio
import functools
import types
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.ticks import turn

Loop = asyncio.AbstractEventLoop

MANY = 100_000


def many_futures(loop: Loop) -> int:
    """More of asyncio's own overflow it, too."""
    return MANY if type(loop.create_future()).__module__ == "oxlip" else 30_000


class End:
    """The last link, which tells when it is gone."""


def passes(*_: object) -> None:
    pass


def as_result(future: asyncio.Future[Any], link: Any) -> None:
    future.set_result(link)


def as_iterator_in_result(future: asyncio.Future[Any], link: Any) -> None:
    future.set_result(iter(link) if isinstance(link, asyncio.Future) else link)


def as_message(future: asyncio.Future[Any], link: Any) -> None:
    future.cancel(link)


def in_exception(future: asyncio.Future[Any], link: Any) -> None:
    future.set_exception(ValueError(link))
    future.exception()


def in_bound_method(future: asyncio.Future[Any], link: Any) -> None:
    future.add_done_callback(types.MethodType(passes, link))


def in_partial(future: asyncio.Future[Any], link: Any) -> None:
    future.add_done_callback(passes)
    future.add_done_callback(functools.partial(passes, link))


def in_native_method(future: asyncio.Future[Any], link: Any) -> None:
    future.add_done_callback(link.__eq__)


def as_attribute(future: asyncio.Future[Any], link: Any) -> None:
    future.link = link  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "hold",
    [
        *(as_result, as_iterator_in_result, as_message, in_exception),
        *(in_bound_method, in_partial, in_native_method, as_attribute),
    ],
)
def test_chain_of_futures(
    loop: Loop, switched: str, hold: Callable[[asyncio.Future[Any], Any], None]
) -> None:
    link: Any = End()
    gone = weakref.ref(link)
    for _ in range(many_futures(loop)):
        future = loop.create_future()
        hold(future, link)
        link = future
    del future, link
    assert gone() is None


def test_chain_of_tasks(loop: Loop, switched: str) -> None:
    async def give(link: Any) -> Any:
        return link

    link: Any = End()
    gone = weakref.ref(link)
    for _ in range(many_futures(loop)):
        link = task = loop.create_task(give(link))
    turn(loop)
    turn(loop)
    assert task.done()
    del task, link
    assert gone() is None


def test_chain_of_timers(loop: Loop) -> None:
    link: Any = End()
    gone = weakref.ref(link)
    for _ in range(MANY):
        link = loop.call_later(3600, passes, link)
    del link
    loop.close()
    assert gone() is None


def test_chain_of_handles(loop: Loop) -> None:
    link: Any = End()
    gone = weakref.ref(link)
    for _ in range(MANY):
        link = loop.call_soon(passes, link)
    del link
    loop.close()
    assert gone() is None


def test_chain_that_ends_while_a_loop_runs_within_the_end_of_another(
    loop: Loop, switched: str
) -> None:
    # Its ticks begin to count anew how many ends lie in each other.
    ends: list[weakref.ref[End]] = []

    def chain() -> Any:
        link: Any = End()
        ends.append(weakref.ref(link))
        for _ in range(1000):
            future = loop.create_future()
            future.set_result(link)
            link = future
        return link

    class Runs:
        def __init__(self, held: Any) -> None:
            self.held = held

        def __del__(self) -> None:
            loop.call_soon(chain)
            turn(loop)
            self.held = None

    for depth in (1, 49, 60):
        link: Any = Runs(chain())
        for _ in range(depth):
            future = loop.create_future()
            future.set_result(link)
            link = future
        del future, link
        turn(loop)
        assert len(ends) == 2
        assert [end() for end in ends] == [None, None]
        ends.clear()


@pytest.mark.parametrize("make", ["call_soon", "call_later"])
def test_chain_of_handles_in_a_running_loop(loop: Loop, make: str) -> None:
    # Then they are used again, which is another way out for what they hold.
    link: Any = End()
    gone = weakref.ref(link)

    async def chain() -> None:
        nonlocal link
        for _ in range(MANY):
            if make == "call_soon":
                link = loop.call_soon(passes, link)
            else:
                link = loop.call_later(0, passes, link)
        over = loop.create_future()
        loop.call_later(0, over.set_result, None)  # Behind all of them.
        await over
        link = None

    loop.run_until_complete(chain())
    assert gone() is None
