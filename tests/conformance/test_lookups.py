"""Where names are looked up: in threads, and on our loop not in those of the default executor."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import children
from support.sockets import PATIENCE
from support.ticks import pause

Loop = asyncio.AbstractEventLoop

ANSWER: list[Any] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]

NEVER_CLOSED = """
import asyncio, sys
from support import loops
loop = loops.factory(sys.argv[1])()
loop.run_until_complete(loop.getaddrinfo("localhost", 80))
print("answered")
"""


class Resolver:
    """A `socket.getaddrinfo` that answers when it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []

    def __call__(self, *query: Any) -> list[Any]:
        self.threads.append(threading.current_thread())
        self.asked.release()
        assert self.go.wait(PATIENCE)
        return ANSWER


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    slow = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield slow
    slow.go.set()


async def test_replaced_functions_are_called(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *query: [query])
    monkeypatch.setattr(socket, "getnameinfo", lambda *query: query)
    assert await loop.getaddrinfo("name.invalid", 80, family=2, type=1, proto=6, flags=4) == [
        ("name.invalid", 80, 2, 1, 6, 4)
    ]
    assert await loop.getnameinfo(("192.0.2.1", 80), 1) == (("192.0.2.1", 80), 1)  # type: ignore[comparison-overlap]


async def test_a_replaced_function_is_not_asked_for_an_address(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As tests replace it, to forbid or to fake look-ups."""

    def forbid(*query: object) -> None:
        raise AssertionError(f"looked up: {query}")

    monkeypatch.setattr(socket, "getaddrinfo", forbid)
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    transport, _ = await loop.create_connection(asyncio.Protocol, *address)
    assert transport.get_extra_info("peername") == address
    transport.abort()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
    datagrams, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    datagrams.abort()
    with pytest.raises(AssertionError, match="looked up"):
        await loop.create_connection(asyncio.Protocol, "localhost", address[1])
    server.close()


async def test_a_replaced_function_is_called_in_a_thread(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*query: object) -> list[Any]:
        assert threading.current_thread() is not threading.main_thread()
        return ANSWER

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    assert await loop.getaddrinfo("192.0.2.1", 80) == ANSWER


async def test_many_at_once(loop: Loop, resolver: Resolver) -> None:
    tasks = [asyncio.ensure_future(loop.getaddrinfo(f"{n}.invalid", 80)) for n in range(100)]
    await pause()
    resolver.go.set()
    assert await asyncio.gather(*tasks) == [ANSWER] * 100
    # No more threads than asyncio's executor would have.
    assert len(set(resolver.threads)) <= ThreadPoolExecutor()._max_workers


async def test_a_cancelled_look_up_never_begins(loop: Loop, resolver: Resolver) -> None:
    limit = ThreadPoolExecutor()._max_workers
    tasks = [asyncio.ensure_future(loop.getaddrinfo(f"{n}.invalid", 80)) for n in range(limit + 5)]
    await pause()
    for task in tasks[-5:]:
        task.cancel()
    await pause(3)
    resolver.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results[-5:]] == [asyncio.CancelledError] * 5
    assert len(resolver.threads) <= limit


@pytest.mark.ours
@pytest.mark.parametrize("how", ["full", "replaced", "shut down"])
async def test_independent_of_the_default_executor(loop: Loop, how: str) -> None:
    release = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        if how == "shut down":
            await loop.run_in_executor(None, int)
            await loop.shutdown_default_executor()
        else:
            loop.set_default_executor(executor)
        if how == "full":
            executor.submit(release.wait, PATIENCE)
        try:
            found = await asyncio.wait_for(loop.getaddrinfo("localhost", 80), PATIENCE)
            assert found == socket.getaddrinfo("localhost", 80)
            assert await loop.getnameinfo(("127.0.0.1", 80)) == socket.getnameinfo(
                ("127.0.0.1", 80), 0
            )
        finally:
            release.set()


@pytest.mark.ours
def test_the_default_executor_is_not_delayed(loop: Loop, resolver: Resolver) -> None:
    async def main() -> None:
        limit = ThreadPoolExecutor()._max_workers
        tasks = [
            asyncio.ensure_future(loop.getaddrinfo(f"{n}.invalid", 80)) for n in range(limit + 5)
        ]
        await pause()
        assert await asyncio.wait_for(loop.run_in_executor(None, int, "7"), PATIENCE) == 7
        resolver.go.set()
        await asyncio.gather(*tasks)

    loop.run_until_complete(main())


@pytest.mark.ours
def test_end_of_the_loop_does_not_wait_for_an_answer(
    new_loop: Callable[[], Loop], resolver: Resolver
) -> None:
    loop = new_loop()

    async def main() -> None:
        task = asyncio.ensure_future(loop.getaddrinfo("name.invalid", 80))
        await pause()
        assert await asyncio.to_thread(resolver.asked.acquire, timeout=PATIENCE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())
    loop.close()
    assert resolver.threads[0].is_alive()
    resolver.go.set()
    resolver.threads[0].join(PATIENCE)
    assert not resolver.threads[0].is_alive()


@pytest.mark.ours
def test_threads_end_with_the_loop(new_loop: Callable[[], Loop]) -> None:
    before = set(threading.enumerate())
    loop = new_loop()
    loop.run_until_complete(loop.getaddrinfo("localhost", 80))
    assert len(set(threading.enumerate()) - before) == 1
    loop.close()
    assert set(threading.enumerate()) == before
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        coroutine = loop.getaddrinfo("localhost", 80)
        coroutine.send(None)


def test_the_interpreter_ends_although_the_loop_was_not_closed(kind: str) -> None:
    program = subprocess.run(
        [sys.executable, "-c", NEVER_CLOSED, kind],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(children.TESTS), *filter(None, sys.path)]),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert program.stdout == "answered\n"
