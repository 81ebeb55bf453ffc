"""The same small program on asyncio's loop and on ours: the same log, warnings and contexts.

What is compared is what a user reads: log records, warnings, and what the exception handler is
given, each as text without addresses, numbers of descriptors, durations and the names of classes
that are not the same.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from support import loops
from support.ticks import turn

Loop = asyncio.AbstractEventLoop
Program = Callable[[Loop], object]
PROGRAMS: list[Program] = []


def program(function: Program) -> Program:
    PROGRAMS.append(function)
    return function


def fail(*_: object) -> None:
    raise ZeroDivisionError("on purpose")


async def coroutine_function() -> None: ...


class Failing(asyncio.Protocol):
    """Raises in the callback of that name."""

    def __init__(self, name: str) -> None:
        setattr(self, name, fail)


def attempt(call: Callable[..., object], *arguments: object) -> str:
    """What came of it, as text."""
    try:
        return repr(call(*arguments))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def until_ended(loop: Loop, transport: asyncio.BaseTransport) -> None:
    """Runs until the transport closes, and what that leads to."""
    while not transport.is_closing():
        turn(loop)
    turn(loop, 3)


@program
def callbacks(loop: Loop) -> object:
    loop.call_soon(fail)
    loop.call_soon_threadsafe(fail, 1)
    loop.call_later(0, fail)
    loop.call_at(loop.time(), fail, "argument")
    loop.call_at(loop.time(), loop.stop)
    loop.run_forever()
    return None


@program
def wrong_callbacks(loop: Loop) -> object:
    calls = [loop.call_soon, loop.call_soon_threadsafe]
    found = [attempt(call, what) for call in calls for what in (7, coroutine_function)]
    timers = [loop.call_later, loop.call_at]
    return found + [attempt(call, 0, what) for call in timers for what in (7, coroutine_function)]


@program
def wrong_arguments(loop: Any) -> object:
    return [
        # Python 3.10 does not look: the error is one of adding or comparing it.
        sys.version_info >= (3, 11) and attempt(loop.call_later, None, print),
        sys.version_info >= (3, 11) and attempt(loop.call_at, None, print),
        attempt(loop.set_exception_handler, "text"),
        attempt(loop.set_task_factory, "text"),
        # Before, asyncio only warns, and has an executor that is none.
        sys.version_info >= (3, 11) and attempt(loop.set_default_executor, "text"),
        attempt(loop.run_until_complete, 7),
        attempt(loop.add_signal_handler, signal.SIGKILL, print),
        attempt(loop.add_signal_handler, 1000, print),
        attempt(loop.add_signal_handler, "text", print),
        attempt(loop.add_signal_handler, signal.SIGUSR1, coroutine_function),
        attempt(loop.remove_signal_handler, signal.SIGUSR1),
        attempt(loop.add_reader, "text", print),
        attempt(loop.add_reader, -1, print),
        attempt(loop.remove_reader, "text"),
        attempt(loop.run_until_complete, loop.run_in_executor(None, fail)),
        attempt(loop.run_until_complete, loop.shutdown_default_executor()),
    ]


@program
def wrong_executor_function(loop: Any) -> object:
    outcomes = [attempt(loop.run_in_executor, None, what) for what in (coroutine_function, 7)]
    loop.run_until_complete(loop.shutdown_default_executor())
    # asyncio's future shows what the executor calls back.
    return [outcome.partition(" cb=")[0].removesuffix(">") for outcome in outcomes]


@program
def cancelled_handles(loop: Loop) -> object:
    handles = [
        loop.call_soon(fail, 1),
        loop.call_soon_threadsafe(fail, 1),
        loop.call_later(1, fail, 1),
        loop.call_at(1, fail, 1),
    ]
    for handle in handles:
        handle.cancel()
    return handles


@program
def slow(loop: Loop) -> object:
    loop.slow_callback_duration = 0.005
    loop.call_soon(time.sleep, 0.01)
    loop.call_later(0, time.sleep, 0.01)

    async def slow_step() -> None:
        time.sleep(0.01)

    loop.run_until_complete(loop.create_task(slow_step(), name="slow one"))
    turn(loop)
    return None


@program
def task_that_fails(loop: Loop) -> object:
    async def failing() -> None:
        fail()

    async def main() -> None:
        task = loop.create_task(failing(), name="failing")
        await asyncio.sleep(0)
        del task
        gc.collect()

    loop.run_until_complete(main())
    return None


@program
def task_that_is_forgotten(loop: Loop) -> object:
    async def forgotten() -> None:
        await loop.create_future()

    async def main() -> None:
        loop.create_task(forgotten(), name="forgotten")
        await asyncio.sleep(0)
        gc.collect()

    loop.run_until_complete(main())
    gc.collect()
    return None


@program
def coroutine_that_is_forgotten(loop: Loop) -> object:
    async def main() -> None:
        coroutine_function()

    loop.run_until_complete(main())
    return None


@program
def asynchronous_generators(loop: Loop) -> object:
    async def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            fail()

    async def main() -> None:
        generator = numbers()
        await generator.__anext__()
        await loop.shutdown_asyncgens()
        await numbers().__anext__()

    loop.run_until_complete(main())
    return None


@program
def readers(loop: Loop) -> object:
    one, other = socket.socketpair()
    one.setblocking(False)

    def callback() -> None:
        one.recv(1)
        loop.stop()
        fail()

    loop.add_reader(one, callback)
    other.send(b"x")
    loop.run_forever()
    loop.remove_reader(one)
    one.close()
    other.close()
    return None


def connection(loop: Loop, protocol: Callable[[], asyncio.BaseProtocol]) -> tuple[Any, Any]:
    one, other = socket.socketpair()
    one.setblocking(False)
    transport, _ = loop.run_until_complete(loop.create_connection(protocol, sock=one))
    return transport, other


@program
def connection_made_fails(loop: Loop) -> object:
    transport, other = connection(loop, lambda: Failing("connection_made"))
    transport.close()
    until_ended(loop, transport)
    other.close()
    return None


@program
def data_received_fails(loop: Loop) -> object:
    transport, other = connection(loop, lambda: Failing("data_received"))
    other.send(b"x")
    until_ended(loop, transport)
    other.close()
    return None


@program
def eof_received_fails(loop: Loop) -> object:
    transport, other = connection(loop, lambda: Failing("eof_received"))
    other.close()
    until_ended(loop, transport)
    return None


@program
def connection_lost_fails(loop: Loop) -> object:
    transport, other = connection(loop, lambda: Failing("connection_lost"))
    transport.abort()
    until_ended(loop, transport)
    other.close()
    return None


@program
def pause_and_resume_writing_fail(loop: Loop) -> object:
    def protocol() -> asyncio.BaseProtocol:
        both = Failing("pause_writing")
        both.resume_writing = fail  # type: ignore[method-assign]
        return both

    transport, other = connection(loop, protocol)
    transport.set_write_buffer_limits(1)
    transport.write(bytes(1_000_000))

    other.setblocking(False)

    async def drain() -> None:
        left = 1_000_000
        while left:
            left -= len(await loop.sock_recv(other, 1_000_000))

    loop.run_until_complete(drain())
    transport.close()
    until_ended(loop, transport)
    other.close()
    return None


@program
def end_of_the_stream(loop: Loop) -> object:
    transport, other = connection(loop, asyncio.Protocol)
    other.close()
    until_ended(loop, transport)
    return None


@program
def writing_to_a_lost_connection(loop: Loop) -> object:
    transport, other = connection(loop, asyncio.Protocol)
    transport.abort()
    for _ in range(7):
        transport.write(b"x")
    until_ended(loop, transport)
    other.close()
    return [attempt(transport.write, "text"), attempt(transport.is_closing)]


@program
def pausing_and_resuming(loop: Loop) -> object:
    transport, other = connection(loop, asyncio.Protocol)
    for method in (transport.resume_reading, transport.pause_reading) * 2:
        method()
        method()
    transport.close()
    transport.pause_reading()
    transport.resume_reading()
    until_ended(loop, transport)
    other.close()
    return None


@program
def wrong_limits(loop: Loop) -> object:
    transport, other = connection(loop, asyncio.Protocol)
    limits = [(-5, None), (None, -5), (5, 6)]
    outcomes = [attempt(transport.set_write_buffer_limits, *each) for each in limits]
    transport.close()
    until_ended(loop, transport)
    other.close()
    return outcomes


@program
def buffers_that_cannot_be_written_to(loop: Loop) -> object:
    class ReadOnly(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            return b"read-only"  # type: ignore[return-value]

    transport, other = connection(loop, ReadOnly)
    other.send(b"x")
    until_ended(loop, transport)
    other.setblocking(False)
    calls = [loop.sock_recv_into(other, what) for what in (b"read-only", None, 7)]  # type: ignore[arg-type]
    outcomes = [attempt(loop.run_until_complete, call) for call in calls]
    other.close()
    return outcomes


@program
def no_addresses(loop: Any) -> object:
    async def nothing(*_: object, **__: object) -> list[object]:
        return []

    loop.getaddrinfo = nothing
    calls = [
        loop.create_server(asyncio.Protocol, "name", 1),
        loop.create_server(asyncio.Protocol, ["name", "another"], 1),
        loop.create_connection(asyncio.Protocol, "name", 1),
    ]
    outcomes = [attempt(loop.run_until_complete, call) for call in calls]
    del loop.getaddrinfo
    return outcomes


@program
def accepted_connections(loop: Loop) -> object:
    class Closing(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.close()

    async def main() -> None:
        server = await loop.create_server(Closing, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as peer:
            peer.setblocking(False)
            assert await loop.sock_recv(peer, 1) == b""
        server.close()

    loop.run_until_complete(main())
    turn(loop, 3)
    return None


@program
def unclosed_transport(loop: Loop) -> object:
    transport, other = connection(loop, asyncio.Protocol)
    other.close()
    loop.close()
    del transport
    gc.collect()
    return None


@program
def failed_connections(loop: Loop) -> object:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
        connecting = loop.create_connection(asyncio.Protocol, *address)
        refused = attempt(loop.run_until_complete, connecting)
    arguments: list[dict[str, Any]] = [
        {},
        {"host": "127.0.0.1", "port": 1, "sock": 1},
        {"host": "127.0.0.1", "port": 1, "server_hostname": "x"},
        {"host": "127.0.0.1", "port": 1, "ssl_handshake_timeout": 1},
    ]
    coroutines = [loop.create_connection(asyncio.Protocol, **each) for each in arguments]
    coroutines += [loop.create_server(asyncio.Protocol, **each) for each in arguments[:2]]
    return [refused.replace(str(address[1]), "PORT")] + [
        attempt(loop.run_until_complete, each) for each in coroutines
    ]


@program
def closed_loop(loop: Any) -> object:
    loop.close()
    calls = [
        lambda: loop.call_soon(print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.run_forever(),
        lambda: loop.run_until_complete(None),
        lambda: loop.run_in_executor(None, print),
        lambda: loop.add_signal_handler(signal.SIGUSR1, print),
        lambda: loop.stop(),
        lambda: loop.close(),
    ]
    return [attempt(call) for call in calls]


@program
def unclosed_loop(loop: Loop) -> object:
    return None  # whoever runs this forgets it


class Lines(logging.Handler):
    """Renders a record at once: later its objects look different."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.msg.startswith("Using "):
            error = (record.exc_info or [None])[0]
            self.lines.append(f"log: {record.levelname} {record.getMessage()} ({error})")


def run(kind: str, program: Program, debug: bool) -> list[str]:
    """What one program told, as lines."""
    lines: list[str] = []
    log = Lines()
    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.propagate = False  # pytest would keep the records, and with them transports alive
    logger.addHandler(log)
    logger.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            loop: Any = loops.factory(kind)()
            loop.set_debug(debug)
            # A busy machine makes anything slow; the one program about that sets its own.
            loop.slow_callback_duration = 60

            def note(loop: Loop, context: dict[str, Any]) -> None:
                what = f"{context['message']} {context.get('exception')!r}"
                lines.append(f"context: {sorted(context)} {what}")
                loop.default_exception_handler(context)

            loop.set_exception_handler(note)
            lines.append(f"result: {program(loop)}")
            if program is not unclosed_loop:
                loop.close()
            del loop
            gc.collect()
    finally:
        logger.propagate = True
        logger.setLevel(level)
        logger.removeHandler(log)
    lines += log.lines
    lines += sorted(f"warning: {each.category.__name__} {each.message}" for each in warned)
    return [normal(line) for line in lines]


def normal(text: str) -> str:
    """Without what is different from run to run, and what our loop says better: where a callback of
    a transport was scheduled, and which callback it was."""
    for pattern, instead in [
        (r"\n(handle|source)_traceback: (Handle|Object) created at .*(\n  .*)*", ""),
        (r"\nCoroutine created at (.*\n)*.*", ""),
        (r" created at [^ >]+", ""),
        (r" at 0x[0-9a-f]+", ""),
        (r"fd=\d+", "fd=N"),
        (r"write=<(idle|polling)", "write=<"),
        (r"took \d+\.\d+", "took N"),
        (r"when=\d+(\.\d+)?", "when=N"),
        (r"_ThreadSafeHandle", "Handle"),
        (r"a bytes, bytearray, or memoryview object", "a bytes-like object"),
        (r"Task-\d+", "Task-N"),
        (r"\('127\.0\.0\.1', \d+\)", "ADDRESS"),
        (r"oxlip\._borrowed_socket\.BorrowedSocket", "socket.socket"),
        (r"_UnixSelectorEventLoop|\bEventLoop\b", "Loop"),
        (r"_SelectorSocketTransport|StreamTransport", "Transport"),
        (r"_SelectorSoc\.\.\.|StreamTransp\.\.\.", "Transport..."),
        (r"Transport\._call_connection_lost", "fail"),
        (r"fail(\([^)]*\)) at \S+:\d+", r"fail\1"),
        (r"(?<=unclosed transport <Transport fd=N) .*", ">"),
    ]:
        text = re.sub(pattern, instead, text)
    return text


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_tells_the_same(program: Program, debug: bool) -> None:
    expected = run(loops.STOCK, program, debug)
    for driver in loops.drivers() if not loops.STOCK_ONLY else ():
        assert run(f"oxlip-{driver}", program, debug) == expected
