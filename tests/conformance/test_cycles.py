"""Reference cycles through loops, handles, transports and protocols are collected."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support import leaks, loops
from support.protocols import Recorder, connection
from support.sockets import connected
from support.ticks import pause, turn

Loop = asyncio.AbstractEventLoop


class Thing:
    """Something that a weak reference can watch, and a callback that holds it."""

    held: Any = None

    def call(self, *arguments: Any) -> Any: ...


def test_closed_loop(kind: str) -> None:
    loop = loops.factory(kind)()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    watch = weakref.ref(loop)
    del loop
    gc.collect()
    assert watch() is None


def test_closed_loop_in_a_cycle_with_its_callbacks(kind: str) -> None:
    loop = loops.factory(kind)()
    thing = Thing()
    thing.held = loop
    loop.thing = thing  # type: ignore[attr-defined]
    loop.call_soon(thing.call)
    thing.handle = loop.call_later(100, thing.call)  # type: ignore[attr-defined]
    loop.set_exception_handler(thing.call)
    loop.set_task_factory(thing.call)
    loop.close()
    watches = [weakref.ref(loop), weakref.ref(thing)]
    del loop, thing
    gc.collect()
    assert [watch() for watch in watches] == [None, None]


def test_loop_that_its_own_method_holds(kind: str) -> None:
    """The collector cannot make the method of a native object let go of it."""
    loop = loops.factory(kind)()
    loop.close()
    loop.set_task_factory(loop.create_task)  # type: ignore[arg-type]
    watch = weakref.ref(loop)
    del loop
    gc.collect()
    assert watch() is None


@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_handle_that_its_own_argument_holds(loop: Any, method: str) -> None:
    """Nor can it make a `super` object let go, which is a way to build such a cycle late."""
    argument: Any = super.__new__(super)
    schedule = getattr(loop, method)
    handle = schedule(id, argument) if method == "call_soon" else schedule(0, id, argument)
    turn(loop, 2)
    super.__init__(argument, type(handle), handle)
    watch = weakref.ref(handle)
    del handle, argument
    gc.collect()
    assert watch() is None


def test_transport_that_is_held_by_its_own_method(kind: str) -> None:
    """The method of a native object holds it, and cannot be made to let go by the collector."""
    before = leaks.take()
    loop = loops.factory(kind)()
    near, far = connected()
    with far:
        transport, _ = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
        transport.set_protocol(transport.is_closing)  # type: ignore[arg-type]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.close()
            del loop, transport, near, _
            gc.collect()
    assert leaks.grown(before, leaks.take()) == []


def test_forgotten_loop(kind: str) -> None:
    before = leaks.take()
    loop = loops.factory(kind)()
    loop.call_soon(print)
    loop.call_later(1, print)
    loop.run_until_complete(asyncio.sleep(0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop
        gc.collect()
    assert any("unclosed event loop" in str(warning.message) for warning in caught)
    # A recorded warning holds its source.
    caught.clear()
    assert leaks.grown(before, leaks.take()) == []


def test_forgotten_loop_in_a_cycle(kind: str) -> None:
    before = leaks.take()
    loop = loops.factory(kind)()
    thing = Thing()
    thing.held = loop
    loop.call_soon(thing.call)
    loop.call_later(100, thing.call)
    watch = weakref.ref(thing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del loop, thing
        gc.collect()
    assert watch() is None
    assert leaks.grown(before, leaks.take()) == []


def test_forgotten_loop_with_a_reader(kind: str) -> None:
    before = leaks.take()
    first, second = socket.socketpair()
    loop = loops.factory(kind)()
    thing = Thing()
    thing.held = loop
    loop.add_reader(first, thing.call)
    loop.add_writer(first, thing.call)
    watch = weakref.ref(thing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del loop, thing
        gc.collect()
    assert watch() is None
    first.close()
    second.close()
    assert leaks.grown(before, leaks.take()) == []


def test_open_transport_in_a_cycle_with_its_protocol(new_loop: Callable[[], Loop]) -> None:
    loop = new_loop()
    near, far = connected()
    with far:
        transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
        assert protocol.transport is transport
        transport.write(b"x" * (8 << 20))
        watches: list[weakref.ref[Any]] = [weakref.ref(transport), weakref.ref(protocol)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.close()
            del transport, protocol, near, loop
            # The fixture holds the loop itself, which has let go of everything.
            gc.collect()
        assert [watch() for watch in watches] == [None, None]


def test_everything_forgotten_at_once(kind: str) -> None:
    before = leaks.take()
    near, far = connected()
    loop = loops.factory(kind)()
    server = loop.run_until_complete(loop.create_server(Recorder, "127.0.0.1", 0))
    transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
    watches: list[weakref.ref[Any]] = [
        weakref.ref(loop),
        weakref.ref(server),
        weakref.ref(transport),
        weakref.ref(protocol),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del loop, server, transport, protocol, near
        gc.collect()
        gc.collect()
    assert [watch() for watch in watches] == [None] * 4
    far.close()
    assert leaks.grown(before, leaks.take()) == []


async def test_closed_connection_frees_both_ends(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        transport.close()
        await protocol.until_lost()
        await pause(2)
    watches: list[weakref.ref[Any]] = [weakref.ref(transport), weakref.ref(protocol)]
    del transport, protocol
    gc.collect()
    assert [watch() for watch in watches] == [None, None]


async def test_removed_reader_frees_its_callback(loop: Loop) -> None:
    first, second = socket.socketpair()
    with first, second:
        thing = Thing()
        watch = weakref.ref(thing)
        loop.add_reader(first, lambda thing: None, thing)
        loop.add_writer(first, lambda thing: None, thing)
        del thing
        loop.remove_reader(first)
        loop.remove_writer(first)
        await pause()
        assert watch() is None


def test_callback_that_ran_is_freed(loop: Loop) -> None:
    thing = Thing()
    watch = weakref.ref(thing)
    loop.call_soon(lambda thing: None, thing)
    loop.call_soon_threadsafe(lambda thing: None, thing)
    loop.call_later(0, lambda thing: None, thing)
    del thing
    turn(loop, ticks=2)
    assert watch() is None


def test_handle_in_a_cycle_with_its_callback(loop: Loop) -> None:
    class Holder:
        handle: asyncio.Handle

        def call(self) -> None: ...

    for schedule in (
        loop.call_soon,
        loop.call_soon_threadsafe,
        lambda callback: loop.call_later(0, callback),
    ):
        holder = Holder()
        holder.handle = schedule(holder.call)  # type: ignore[operator]
        watch = weakref.ref(holder)
        del holder
        turn(loop, ticks=2)
        gc.collect()
        assert watch() is None


@pytest.mark.ours
def test_live_objects_come_back_to_what_they_were(kind: str) -> None:
    before = loops.live_objects()
    if not before:
        pytest.skip("this build counts no objects")

    async def traffic() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        for _ in range(20):
            transport, protocol = await loop.create_connection(
                Recorder, *server.sockets[0].getsockname()
            )
            transport.write(b"x" * 100)
            loop.call_later(100, print).cancel()
            transport.close()
            await protocol.until_lost()
        server.close()
        await pause(5)

    loop = loops.factory(kind)()
    loop.run_until_complete(traffic())
    assert loops.live_objects() != before
    loop.close()
    del loop
    gc.collect()
    assert loops.live_objects() == before
