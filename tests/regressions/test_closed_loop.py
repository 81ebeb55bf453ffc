"""A closed loop that is used from within another, running one: an error, and nothing worse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.protocols import Recorder
from support.sockets import connected, listening, pair

NewLoop = Callable[[], asyncio.AbstractEventLoop]


def closed_error() -> Any:
    """Not one for all: it keeps what it caught, and so the loops, alive."""
    return pytest.raises(RuntimeError, match="Event loop is closed")


def test_server_of_a_closed_loop_does_not_start(new_loop: NewLoop) -> None:
    closed, other = new_loop(), new_loop()
    with listening() as sock:
        creating = closed.create_server(Recorder, sock=sock, start_serving=False)
        server = closed.run_until_complete(creating)
        closed.close()
        with closed_error():
            other.run_until_complete(server.start_serving())


def test_closed_loop_makes_no_connection(new_loop: NewLoop) -> None:
    closed, other = new_loop(), new_loop()
    closed.close()
    protocol = Recorder()
    near, far = connected()
    with near, far:
        with closed_error():
            other.run_until_complete(closed.connect_accepted_socket(lambda: protocol, near))
        assert protocol.calls == []


def test_closed_loop_waits_for_no_socket(new_loop: NewLoop) -> None:
    closed, other = new_loop(), new_loop()
    closed.close()
    with pair() as (near, _), closed_error():
        other.run_until_complete(closed.sock_recv(near, 1))


def test_closed_loop_takes_no_callback(new_loop: NewLoop) -> None:
    closed, other = new_loop(), new_loop()
    closed.close()

    async def use() -> None:
        with closed_error():
            closed.call_soon(int)
        with closed_error():
            closed.call_later(0, int)
        with closed_error():
            closed.call_soon_threadsafe(int)
        with closed_error():
            closed.add_reader(0, int)
        closed.stop()
        closed.close()
        assert closed.get_task_factory() is None
        assert "closed=True" in repr(closed)

    other.run_until_complete(use())
