"""What may be asked of a running loop and its transports from another thread, as in asyncio."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from support import datagrams, pipes, tls
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


async def asked(transport: Any) -> tuple[bool, tuple[int, int]]:
    """What another thread is told of reading and of the marks of the write buffer."""
    reading = await asyncio.to_thread(transport.is_reading)
    return reading, await asyncio.to_thread(transport.get_write_buffer_limits)


async def look_at_flow(transport: Any) -> None:
    before = transport.get_write_buffer_limits()
    assert await asked(transport) == (True, before)
    transport.pause_reading()
    transport.set_write_buffer_limits(high=1000, low=10)
    assert await asked(transport) == (False, (10, 1000))
    transport.resume_reading()
    transport.set_write_buffer_limits()
    assert await asked(transport) == (True, before)
    assert before == transport.get_write_buffer_limits()


async def test_flow_in_another_thread(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        await look_at_flow(transport)
        transport.set_write_buffer_limits(high=1000, low=10)
        transport.abort()
        assert await asked(transport) == (False, (10, 1000))
        await protocol.until_lost()
        assert await asked(transport) == (False, (10, 1000))


async def test_flow_of_datagrams_in_another_thread(loop: Loop) -> None:
    async with datagrams.endpoint(datagrams.DatagramRecorder()) as (transport, _):
        limits = transport.get_write_buffer_limits()
        assert await asyncio.to_thread(transport.get_write_buffer_limits) == limits
        transport.set_write_buffer_limits(high=1000, low=10)
        assert await asyncio.to_thread(transport.get_write_buffer_limits) == (10, 1000)


async def test_flow_of_pipes_in_another_thread(loop: Loop) -> None:
    with pipes.pipe() as (reader, writer):
        read, written = await pipes.reading(reader), await pipes.writing(writer)
        assert await asyncio.to_thread(read.transport.is_reading)
        read.transport.pause_reading()
        assert not await asyncio.to_thread(read.transport.is_reading)
        written.transport.set_write_buffer_limits(high=1000, low=10)
        limits = await asyncio.to_thread(written.transport.get_write_buffer_limits)
        assert limits == (10, 1000)
        for protocol in (read, written):
            protocol.transport.close()
            await protocol.until_lost()


async def test_flow_of_tls_in_another_thread(loop: Loop) -> None:
    class Asking(Recorder):
        """Lets another thread look while it is inside the connection itself."""

        def data_received(self, data: bytes) -> None:
            def look() -> None:
                transport: Any = self.transport
                self.seen = (
                    transport.is_reading(),
                    transport.get_write_buffer_limits(),
                    transport.get_read_buffer_limits(),
                )

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            super().data_received(data)

    async with tls.connection(Asking()) as (transport, protocol, peer):
        await look_at_flow(transport)
        transport.set_write_buffer_limits(high=1000, low=10)
        transport.set_read_buffer_limits(high=2000, low=20)  # type: ignore[attr-defined]
        await asyncio.to_thread(peer.send, b"x")
        await protocol.until_received(1)
        assert protocol.seen == (True, (10, 1000), (20, 2000))


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
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            await asyncio.to_thread(transport.write, b"x")
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
