"""What may be asked of a running loop and its transports from another thread, as in asyncio."""

from __future__ import annotations

import asyncio
import threading

import pytest
from support import tls
from support.protocols import Recorder, connection

Loop = asyncio.AbstractEventLoop


async def test_is_closing_in_another_thread(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, _):
        assert await asyncio.to_thread(transport.is_closing) is False
        transport.close()
        assert await asyncio.to_thread(transport.is_closing) is True


async def test_is_closing_in_another_thread_after_the_end(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        transport.abort()
        await protocol.until_lost()
        assert await asyncio.to_thread(transport.is_closing) is True


async def test_extra_info_and_repr_in_another_thread(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, _, peer):
        name = await asyncio.to_thread(transport.get_extra_info, "peername")
        assert name == peer.sock.getsockname()
        assert "transport" in (await asyncio.to_thread(repr, transport)).lower()


async def test_get_task_factory_in_another_thread(loop: Loop) -> None:
    assert await asyncio.to_thread(loop.get_task_factory) is None


async def test_create_task_in_another_thread(loop: Loop) -> None:
    async def answer() -> int:
        return 42

    task = await asyncio.to_thread(lambda: loop.create_task(answer(), name="elsewhere"))
    assert task.get_name() == "elsewhere"
    assert await task == 42


async def test_create_task_in_another_thread_uses_the_factory(loop: Loop) -> None:
    made: list[asyncio.Task[int]] = []

    def factory(loop: Loop, coroutine: object, **options: object) -> asyncio.Task[int]:
        made.append(asyncio.Task(coroutine, loop=loop, **options))  # type: ignore[arg-type]
        return made[-1]

    async def answer() -> int:
        return 42

    loop.set_task_factory(factory)  # type: ignore[arg-type]
    task = await asyncio.to_thread(lambda: loop.create_task(answer()))
    loop.set_task_factory(None)
    assert await task == 42
    assert task in made


async def test_tls_in_another_thread(loop: Loop) -> None:
    async with tls.connection(Recorder()) as (transport, _, peer):
        name = await asyncio.to_thread(transport.get_extra_info, "peername")
        assert name == peer.sock.getsockname()
        assert await asyncio.to_thread(transport.get_extra_info, "cipher") == peer.sock.cipher()
        assert "transport" in (await asyncio.to_thread(repr, transport)).lower()
        assert await asyncio.to_thread(transport.is_closing) is False


@pytest.mark.ours
async def test_tls_is_not_written_to_from_another_thread(loop: Loop) -> None:
    # asyncio corrupts the connection.
    async with tls.connection(Recorder()) as (transport, _, peer):
        for call in (lambda: transport.write(b"x"), transport.close, transport.abort):
            with pytest.raises(RuntimeError, match="Non-thread-safe"):
                await asyncio.to_thread(call)
        transport.write(b"whole")
        assert await peer.exactly(5) == b"whole"


@pytest.mark.ours
async def test_timer_set_in_another_thread_wakes_the_loop(loop: Loop) -> None:
    """asyncio's loop would sleep on: there it is not allowed, here it is made safe."""
    future = loop.create_future()
    thread = threading.Timer(0.02, loop.call_later, [0.001, future.set_result, "woken"])
    thread.start()
    assert await asyncio.wait_for(future, 20) == "woken"
    thread.join()
