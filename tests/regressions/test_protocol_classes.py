"""How a protocol is called is found out for each connection, though its class was seen before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.sockets import PATIENCE, Peer, connected

Loop = asyncio.AbstractEventLoop


class Plain(asyncio.Protocol):
    """Sends back what arrives, and what it got it by."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self.buffer = bytearray(10)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"received " + data)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(b"updated " + self.buffer[:nbytes])


METHODS: dict[str, Any] = {name: method for name, method in vars(Plain).items() if callable(method)}


def fresh(*bases: type) -> Any:
    """A class that no connection has had."""
    return type("Fresh", bases or (asyncio.Protocol,), METHODS)


async def answers(loop: Loop, factory: Callable[[], Any], expected: bytes) -> None:
    """One connection, one exchange."""
    ours, theirs = connected()
    ours.setblocking(False)
    peer = Peer(theirs)
    _, protocol = await loop.create_connection(factory, sock=ours)
    peer.send(b"word")
    assert await peer.exactly(len(expected)) == expected
    peer.close()
    await asyncio.wait_for(protocol.lost, PATIENCE)


async def test_a_class_that_becomes_buffered(loop: Loop) -> None:
    changing = fresh()
    for _ in range(3):
        await answers(loop, changing, b"received word")
    changing.__bases__ = (asyncio.BufferedProtocol,)
    for _ in range(3):
        await answers(loop, changing, b"updated word")
    changing.__bases__ = (asyncio.Protocol,)
    for _ in range(3):
        await answers(loop, changing, b"received word")


async def test_an_object_that_says_it_is_of_another_class(loop: Loop) -> None:
    changing = fresh(type("Ordinary", (asyncio.Protocol,), {}))
    for _ in range(3):
        await answers(loop, changing, b"received word")
    says = property(lambda self: asyncio.BufferedProtocol)
    changing.__bases__ = (type("Posing", (asyncio.Protocol,), {"__class__": says}),)
    for _ in range(3):
        await answers(loop, changing, b"updated word")


class ByProperty(Plain):
    """Some of these say that they are buffered."""

    buffered = False

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return asyncio.BufferedProtocol if self.buffered else ByProperty


class ByLookup(Plain):
    """These, too."""

    buffered = False

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__" and self.buffered:
            return asyncio.BufferedProtocol
        return super().__getattribute__(name)


@pytest.mark.parametrize("saying", [ByProperty, ByLookup], ids=["property", "lookup"])
async def test_some_objects_of_a_class_say_so(loop: Loop, saying: type[Any]) -> None:
    def buffered() -> Any:
        protocol = saying()
        protocol.buffered = True
        return protocol

    for _ in range(3):
        await answers(loop, saying, b"received word")
        await answers(loop, buffered, b"updated word")


async def test_an_object_with_a_method_of_its_own(loop: Loop) -> None:
    changing = fresh()

    def make() -> Plain:
        protocol: Any = changing()
        protocol.data_received = lambda data: protocol.transport.write(b"its own " + data)
        return protocol  # type: ignore[no-any-return]

    for _ in range(3):
        await answers(loop, changing, b"received word")
    for _ in range(3):
        await answers(loop, make, b"its own word")


# asyncio's transport is left half made.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("by_getattr", [False, True])
async def test_connection_made_is_missed_at_once(loop: Loop, by_getattr: bool) -> None:
    methods = dict(METHODS, eof_received=lambda self: None)
    del methods["connection_made"]
    bare: Any = type("Bare", (), methods)

    def lookup(self: Any, name: str) -> Any:
        if name == "connection_made":
            return METHODS[name].__get__(self)
        raise AttributeError(name)

    name = "__getattr__" if by_getattr else "connection_made"
    setattr(bare, name, lookup if by_getattr else METHODS["connection_made"])
    for _ in range(3):
        await answers(loop, bare, b"received word")
    delattr(bare, name)
    ours, theirs = connected()
    ours.setblocking(False)
    with ours, theirs:
        with pytest.raises(AttributeError, match="connection_made"):
            await loop.create_connection(bare, sock=ours)
