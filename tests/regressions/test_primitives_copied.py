"""Locks and queues were copied without what they hold, or not at all."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.primitives import BOTH, behind_names_if

Loop = asyncio.AbstractEventLoop
COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(
        lambda it, protocol=protocol: pickle.loads(pickle.dumps(it, protocol))
        for protocol in range(2, 6)
    ),
]


class OfAProgram(asyncio.Queue[int]):
    """Found by its name when it is unpickled."""


def filled() -> list[Any]:
    """What holds something, by its own means."""
    lock: Any = asyncio.Lock()
    lock._locked = True
    lock.name = "mine"
    semaphore = asyncio.Semaphore(3)
    bounded = asyncio.BoundedSemaphore(3)
    queues = [asyncio.Queue(5), asyncio.PriorityQueue(5), OfAProgram(5)]
    for queue in queues:
        queue.put_nowait(1)
        queue.put_nowait(2)
    event = asyncio.Event()
    event.set()
    return [lock, event, asyncio.Condition(), semaphore, bounded, *queues]


async def check(
    lock: Any, event: Any, condition: Any, semaphore: Any, bounded: Any, *queues: Any
) -> None:
    assert lock.locked()
    assert lock.name == "mine"
    lock.release()
    assert event.is_set()
    assert await event.wait() is True
    event.clear()
    assert not event.is_set()
    async with condition:
        assert condition.locked()
        assert condition._lock.locked()
        condition.notify_all()
        waiting = asyncio.ensure_future(condition.wait())
        await asyncio.sleep(0)
        assert not condition._lock.locked()
        condition._waiters[0].set_result(None)
        assert await waiting
    assert not condition.locked()
    for several in (semaphore, bounded):
        for _ in range(3):
            assert not several.locked()
            await several.acquire()
        assert several.locked()
        for _ in range(3):
            several.release()
    semaphore.release()
    with pytest.raises(ValueError, match="too many times"):
        bounded.release()
    for queue in queues:
        assert (queue.maxsize, queue.qsize()) == (5, 2)
        assert queue.get_nowait() == 1
        assert await queue.get() == 2
        queue.task_done()
        queue.task_done()
        with pytest.raises(ValueError, match="too many times"):
            queue.task_done()


@pytest.mark.parametrize("copied", COPIES)
async def test_copied(loop: Loop, switched: str, copied: Any) -> None:
    made = filled()
    copies = [copied(it) for it in made]
    for it, other in zip(made, copies, strict=True):
        assert type(other) is type(it)
    await check(*copies)


@pytest.mark.parametrize("ours", BOTH)
@pytest.mark.parametrize("copied", COPIES)
async def test_copied_after_the_switch(loop: Loop, ours: str, copied: Any) -> None:
    """What asyncio's class had made before becomes one of ours, with what it held."""
    made = filled()
    with behind_names_if(ours):
        copies = [copied(it) for it in made]
        for it, other in zip(made, copies, strict=True):
            if type(it).__module__ in ("asyncio.locks", "asyncio.queues"):
                assert type(other) is type(type(it)())
        await check(*copies)


@pytest.mark.parametrize("ours", BOTH)
async def test_unpickled_without_us(loop: Loop, ours: str) -> None:
    """A pickle names asyncio's classes, so that who reads it needs no oxlip."""
    with behind_names_if(ours):
        written = [pickle.dumps(it) for it in filled()]
    assert not any(b"oxlip" in data for data in written)
    read = [pickle.loads(data) for data in written]
    assert type(read[0]) is asyncio.Lock
    await check(*read)


async def test_fields_of_a_dataclass(loop: Loop, switched: str) -> None:
    @dataclasses.dataclass
    class Client:
        lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
        room: asyncio.Semaphore = dataclasses.field(default_factory=lambda: asyncio.Semaphore(2))

    fields = dataclasses.asdict(Client())
    async with fields["lock"], fields["room"]:
        assert fields["lock"].locked()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has no timeouts")
async def test_copied_timeout(loop: Loop, switched: str) -> None:
    limit = copy.copy(asyncio.Timeout(loop.time() + 60))
    assert type(limit) is type(asyncio.Timeout(None))
    async with limit:
        assert limit.when() is not None
    assert not limit.expired()


@pytest.mark.skipif("oxlip" not in BOTH, reason="without oxlip")
async def test_by_our_own_names(loop: Loop) -> None:
    """Without the switch, and of classes that derive from ours."""
    import oxlip

    class Slotted(oxlip.Semaphore):
        __slots__ = ("slot",)

    slotted: Any = Slotted(2)
    slotted.slot = "s"
    slotted.own = "o"
    for made in (
        oxlip.Lock(),
        oxlip.Event(),
        oxlip.Condition(),
        oxlip.Queue(2),
        oxlip.BoundedSemaphore(2),
        slotted,
    ):
        for other in (copy.copy(made), copy.deepcopy(made)):
            assert type(other) is type(made)
            assert vars(other) == vars(made)
    (condition,) = copy.deepcopy([oxlip.Condition()])
    async with condition:
        assert condition.locked()
        assert condition._lock.locked()
    other = copy.copy(slotted)
    assert (other.slot, other._value) == ("s", 2)
    assert type(pickle.loads(pickle.dumps(oxlip.Queue(2)))) is oxlip.Queue
