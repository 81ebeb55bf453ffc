"""Write buffer limits, pause_writing and resume_writing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.protocols import Recorder, connection
from support.sockets import fill
from support.ticks import pause

Loop = asyncio.AbstractEventLoop


def choke(transport: asyncio.Transport) -> int:
    """Fills the socket below the transport, so that what is written stays in its buffer."""
    sock: Any = transport.get_extra_info("socket")
    return fill(sock._sock if hasattr(sock, "_sock") else sock)


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [
        ({}, (16384, 65536)),
        ({"high": 1000}, (250, 1000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 100, "low": 50}, (50, 100)),
        ({"high": 0}, (0, 0)),
        ({"high": 7, "low": 7}, (7, 7)),
    ],
)
async def test_limits(loop: Loop, arguments: dict[str, int], limits: tuple[int, int]) -> None:
    async with connection(Recorder()) as (transport, _, _):
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(**arguments)
        assert transport.get_write_buffer_limits() == limits


@pytest.mark.parametrize("arguments", [{"high": 1, "low": 2}, {"high": -1}, {"high": 5, "low": -1}])
async def test_wrong_limits(loop: Loop, arguments: dict[str, int]) -> None:
    async with connection(Recorder()) as (transport, _, _):
        with pytest.raises(ValueError, match="must be"):
            transport.set_write_buffer_limits(**arguments)
        assert transport.get_write_buffer_limits() == (16384, 65536)


async def test_limits_that_are_no_sizes(loop: Loop) -> None:
    """asyncio only compares them."""
    async with connection(Recorder()) as (transport, _, _):
        for high in (1e5, 2**70):
            transport.set_write_buffer_limits(high=high)  # type: ignore[arg-type]
            assert transport.get_write_buffer_limits()[1] >= 1e5
        for high in (float("nan"), float("inf"), -(2**70)):
            with pytest.raises(ValueError, match="must be"):
                transport.set_write_buffer_limits(high=high)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            transport.set_write_buffer_limits(high="much")  # type: ignore[arg-type]


async def test_protocol_is_paused_and_resumed(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        sent = choke(transport)
        transport.set_write_buffer_limits(high=100, low=20)
        transport.write(b"x" * 100)
        assert protocol.calls == ["connection_made"], "the limit itself is not above it"
        transport.write(b"x")
        assert protocol.calls[1:] == ["pause_writing"]
        transport.write(b"x" * 500)
        assert transport.get_write_buffer_size() == 601
        assert protocol.calls[1:] == ["pause_writing"], "once only"
        received = await peer.exactly(sent + 601)
        assert received[-601:] == b"x" * 601
        await protocol.until_called("resume_writing")
        assert protocol.calls[1:] == ["pause_writing", "resume_writing"]
        assert transport.get_write_buffer_size() <= 20


async def test_zero_limits_pause_at_any_byte_left(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=0)
        sent = choke(transport)
        transport.write(b"x")
        assert protocol.calls[1:] == ["pause_writing"]
        await peer.exactly(sent + 1)
        await protocol.until_called("resume_writing")


async def test_writelines_takes_part(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=100)
        sent = choke(transport)
        transport.writelines([b"x" * 60, b"y" * 60])
        transport.write(b"z")
        assert transport.get_write_buffer_size() == 121
        assert protocol.calls[1:] == ["pause_writing"]
        assert (await peer.exactly(sent + 121))[-121:] == b"x" * 60 + b"y" * 60 + b"z"
        await protocol.until_called("resume_writing")


async def test_many_rounds(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=1000, low=10)
        for turn in range(1, 6):
            sent = choke(transport)
            transport.write(b"x" * 2000)
            await protocol.until_called("pause_writing", turn)
            await peer.exactly(sent + 2000)
            await protocol.until_called("resume_writing", turn)
        assert protocol.calls[1:] == ["pause_writing", "resume_writing"] * 5


async def test_write_in_resume_writing(loop: Loop) -> None:
    piece = b"y" * (8 << 20)  # more than the sockets take, so that it pauses again

    class Pumping(Recorder):
        left = 2

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.left:
                self.left -= 1
                self.transport.write(piece)
            else:
                loop.call_soon(self.transport.close)

    async with connection(Pumping()) as (transport, protocol, peer):
        transport.write(piece)
        assert len(await peer.to_end()) == 3 * len(piece)
        await protocol.until_lost()
        assert protocol.calls[1:-1] == ["pause_writing", "resume_writing"] * 3


async def test_close_in_resume_writing(loop: Loop, contexts: list[dict[str, Any]]) -> None:
    class Leaving(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport.close()

    async with connection(Leaving()) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=0)  # so that it resumes with nothing left
        transport.write(b"x" * (8 << 20))
        assert len(await peer.to_end()) == 8 << 20
        await protocol.until_lost()
        await pause(2)
        assert protocol.calls.count("connection_lost") == 1
        assert contexts == []


async def test_close_in_pause_writing(loop: Loop) -> None:
    class Leaving(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            self.transport.close()

    async with connection(Leaving()) as (transport, protocol, peer):
        sent = choke(transport)
        transport.write(b"x" * 100_000)
        assert transport.is_closing()
        assert len(await peer.to_end()) == sent + 100_000
        await protocol.until_lost()
        assert protocol.error is None


async def test_abort_in_pause_writing(loop: Loop) -> None:
    class Fleeing(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            self.transport.abort()

    async with connection(Fleeing()) as (transport, protocol, _):
        choke(transport)
        transport.write(b"x" * 100_000)
        assert transport.get_write_buffer_size() == 0
        await protocol.until_lost()
        assert protocol.error is None


async def test_lost_connection_is_not_resumed(loop: Loop) -> None:
    async with connection(Recorder()) as (transport, protocol, _):
        choke(transport)
        transport.write(b"x" * 100_000)
        transport.abort()
        await protocol.until_lost()
        await pause(3)
        assert protocol.calls == ["connection_made", "pause_writing", "connection_lost"]
