"""asyncio's checks of TLS arguments, with its messages."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support import tls
from support.protocols import Recorder
from support.sockets import connected, unused_port

Loop = Any
Call = Callable[[Loop], Awaitable[object]]


def dial(loop: Loop, **options: Any) -> Awaitable[object]:
    call: Awaitable[object] = loop.create_connection(
        Recorder, "127.0.0.1", unused_port(), **options
    )
    return call


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda loop: dial(loop, server_hostname="x"),
            ValueError,
            "server_hostname is only meaningful with ssl",
        ),
        (
            lambda loop: loop.create_connection(Recorder, sock=None, ssl=True),
            ValueError,
            "You must set server_hostname when using ssl without a host",
        ),
        (
            lambda loop: dial(loop, ssl_handshake_timeout=1),
            ValueError,
            "ssl_handshake_timeout is only meaningful with ssl",
        ),
        (
            lambda loop: loop.create_server(Recorder, "127.0.0.1", 0, ssl=True),
            TypeError,
            "ssl argument must be an SSLContext or None",
        ),
        (
            lambda loop: loop.create_server(Recorder, "127.0.0.1", 0, ssl_handshake_timeout=1),
            ValueError,
            "ssl_handshake_timeout is only meaningful with ssl",
        ),
        (
            lambda loop: loop.start_tls(None, None, None),
            TypeError,
            "sslcontext is expected to be an instance of ssl.SSLContext, got None",
        ),
        (
            lambda loop: loop.start_tls(None, None, tls.client_context()),
            TypeError,
            "transport None is not supported by start_tls()",
        ),
    ],
)
async def test_refused(
    loop: asyncio.AbstractEventLoop, call: Call, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        await call(loop)


@pytest.mark.parametrize("seconds", [0, -1, -0.5])
async def test_times_must_be_positive(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    near, far = connected()
    with near, far, pytest.raises(ValueError, match="should be a positive number, got") as caught:
        await loop.connect_accepted_socket(
            Recorder, near, ssl=tls.server_context(), ssl_handshake_timeout=seconds
        )
    assert str(seconds) in str(caught.value)


async def test_a_server_needs_a_context(loop: Loop) -> None:
    near, far = connected()
    with near, far, pytest.raises(ValueError, match="Server side SSL needs a valid SSLContext"):
        await loop.connect_accepted_socket(Recorder, near, ssl=True)


async def test_true_means_the_default_context(loop: asyncio.AbstractEventLoop) -> None:
    near, far = connected()
    theirs = asyncio.ensure_future(tls.handshake(far, tls.server_context(), server_side=True))
    with near, far:
        # It does not trust our authority.
        with pytest.raises(ssl.SSLCertVerificationError):
            await loop.create_connection(Recorder, sock=near, ssl=True, server_hostname=tls.HOST)
        await asyncio.gather(theirs, return_exceptions=True)


async def test_data_of_the_wrong_type(loop: asyncio.AbstractEventLoop) -> None:
    async with tls.connection(Recorder()) as (transport, _, peer):
        wrong: Any = "text"
        with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got str"):
            transport.write(wrong)
        transport.write(b"")
        transport.write(b"right")
        assert await peer.exactly(5) == b"right"


@pytest.mark.parametrize("limits", [(1, 2), (-1, None), (None, -1), (5, -1)])
async def test_limits_that_cannot_be(
    loop: asyncio.AbstractEventLoop, limits: tuple[int | None, int | None]
) -> None:
    high, low = limits
    async with tls.connection(Recorder()) as (transport, _, _):
        with pytest.raises(ValueError, match=r"^high \(.*\) must be >= low \(.*\) must be >= 0$"):
            transport.set_write_buffer_limits(high, low)
