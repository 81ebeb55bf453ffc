"""A program: forks with an open loop and uses it in the child, then in the parent.

    fork_and_go_on.py KIND WHAT

WHAT is the name of a function below. The child exits with 0 if all went well there.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from support import loops
from support.protocols import Echo
from support.sockets import PATIENCE

LIMIT = 5.0

Loop = asyncio.AbstractEventLoop


def in_child(action: Callable[[], object]) -> None:
    """Forks, runs the action in the child, waits for its end."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended(child)


def ended(child: int, expected: int = 0) -> None:
    deadline = time.monotonic() + 2 * LIMIT
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            assert code == expected, f"the child ended with {code}"
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the child did not end")


def use(loop: Loop, server: asyncio.Server) -> None:
    """Timers, other threads, signals, new connections, the program's own descriptors."""
    address = server.sockets[0].getsockname()

    async def main() -> None:
        await asyncio.sleep(0.01)
        woken = asyncio.Event()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set,))
        loop.call_soon(thread.start)
        await asyncio.wait_for(woken.wait(), LIMIT)
        thread.join()
        loop.add_signal_handler(signal.SIGUSR1, woken.set)
        woken.clear()
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        await asyncio.wait_for(woken.wait(), LIMIT)
        loop.remove_signal_handler(signal.SIGUSR1)
        with socket.create_connection(address, PATIENCE) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, b"x")
            assert await asyncio.wait_for(loop.sock_recv(client, 10), LIMIT) == b"x"

    loop.run_until_complete(main())


def at_rest(loop: Loop, server: asyncio.Server) -> None:
    in_child(lambda: use(loop, server))
    use(loop, server)


def at_rest_for_long(loop: Loop, server: asyncio.Server) -> None:
    """What has waited since before the fork is still there, and each process has its own."""
    near, far = socket.socketpair()
    near.setblocking(False)
    seen: list[bytes] = []

    def readable() -> None:
        seen.append(near.recv(100))
        loop.stop()

    loop.add_reader(near, readable)
    loop.run_until_complete(asyncio.sleep(0))

    def child() -> None:
        assert loop.remove_reader(near)
        loop.run_until_complete(asyncio.sleep(0.01))
        assert not seen

    in_child(child)
    far.send(b"for the parent")
    loop.run_forever()
    assert seen == [b"for the parent"], seen
    loop.remove_reader(near)
    near.close()
    far.close()


def connection_of_the_child(loop: Loop, server: asyncio.Server) -> None:
    """The child may go on with a connection that the parent leaves alone."""
    address = server.sockets[0].getsockname()
    with socket.create_connection(address, PATIENCE) as client:

        async def converse() -> None:
            client.setblocking(False)
            await loop.sock_sendall(client, b"x")
            assert await asyncio.wait_for(loop.sock_recv(client, 10), LIMIT) == b"x"

        loop.run_until_complete(converse())
        in_child(lambda: loop.run_until_complete(converse()))
        loop.run_until_complete(converse())


def running(loop: Loop, server: asyncio.Server) -> None:
    """A coroutine that forks; both processes go on with it."""

    async def main() -> int:
        child = os.fork()
        future = loop.create_future()
        loop.call_later(0.05, future.set_result, None)
        await future
        # To asyncio it is again the loop that runs, as these find out.
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0.01)
        await asyncio.gather(loop.create_task(asyncio.sleep(0)), asyncio.to_thread(int))
        return child

    child = loop.run_until_complete(main())
    if child == 0:
        try:
            use(loop, server)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended(child)
    use(loop, server)


def leaves_running_loop(loop: Loop, server: asyncio.Server) -> None:
    """The child exits from within the run."""

    async def main() -> int:
        child = os.fork()
        if child == 0:
            sys.exit(3)
        return child

    try:
        child = loop.run_until_complete(main())
    except SystemExit as exit:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        os._exit(int(str(exit.code)))
    ended(child, expected=3)
    use(loop, server)


def in_a_thread(loop: Loop, server: asyncio.Server) -> None:
    """The loop runs in a thread, which the child does not have."""
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def child() -> None:
        for call in (
            lambda: loop.call_soon_threadsafe(print),
            lambda: loop.call_soon(print),
            lambda: loop.call_later(1, print),
            lambda: loop.run_until_complete(asyncio.sleep(0)),
            lambda: loop.add_reader(0, print),
        ):
            try:
                call()
            except RuntimeError as exc:
                assert "forked child" in str(exc) or "already running" in str(exc), exc
            else:
                raise AssertionError("no error")
        asyncio.run(asyncio.sleep(0.01))
        other = loops.factory(sys.argv[1])()
        other.run_until_complete(asyncio.sleep(0.01))
        other.close()

    runs = threading.Event()
    loop.call_soon_threadsafe(runs.set)
    assert runs.wait(LIMIT)
    in_child(child)
    answered: Any = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "yes"), loop)
    assert answered.result(LIMIT) == "yes"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(LIMIT)
    assert not thread.is_alive()


def no_descriptor_left(loop: Loop, server: asyncio.Server) -> None:
    """The child's loop cannot be made anew: every use of it says so, and it can be closed."""
    near, far = socket.socketpair()

    async def connect() -> asyncio.Transport:
        transport, _ = await loop.create_connection(Echo, sock=near)
        return transport

    transport = loop.run_until_complete(connect())

    def refused(call: Callable[[], object]) -> None:
        try:
            call()
        except RuntimeError as exc:
            assert "forked child" in str(exc), exc
        else:
            raise AssertionError("no error")

    def child() -> None:
        refused(lambda: loop.call_soon(print))
        refused(lambda: loop.call_soon_threadsafe(print))
        refused(loop.run_forever)
        refused(transport.close)
        transport.write(b"of no use")
        assert not loop.remove_reader(far)
        assert not loop.is_closed()
        loop.close()
        assert loop.is_closed()

    async def forking() -> int:
        return os.fork()

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as last:
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, limits[1]))
        in_child(child)
        process = os.getpid()
        try:
            pid = loop.run_until_complete(forking())
        except RuntimeError as exc:
            os._exit(0 if "forked child" in str(exc) and os.getpid() != process else 1)
        ended(pid)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    transport.close()
    far.close()
    use(loop, server)


def threads_of_the_child(loop: Loop, server: asyncio.Server) -> None:
    """The executor and the look-ups have threads that the child does not."""

    async def main() -> None:
        assert await asyncio.wait_for(loop.run_in_executor(None, int, "7"), LIMIT) == 7
        assert await asyncio.wait_for(loop.getaddrinfo("localhost", 80), LIMIT)

    loop.run_until_complete(main())
    in_child(lambda: loop.run_until_complete(main()))
    loop.run_until_complete(main())


def written_before(loop: Loop, server: asyncio.Server) -> None:
    """What was written before the fork is sent once."""
    near, far = socket.socketpair()

    class Forking(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.write(b"one")
            self.transport.write(b"two")
            self.child = os.fork()
            if self.child == 0:
                # Goes on with the rest of this tick before it ends.
                loop.call_later(0.01, os._exit, 0)
            else:
                loop.call_later(0.01, loop.stop)

        def connection_lost(self, exc: Exception | None) -> None:
            loop.stop()

    async def connect() -> Forking:
        _, protocol = await loop.create_connection(Forking, sock=near)
        far.send(b"go")
        return protocol

    protocol = loop.run_until_complete(connect())
    loop.run_forever()  # The child does not come to its end.
    ended(protocol.child)
    protocol.transport.close()
    loop.run_forever()
    far.settimeout(LIMIT)
    received = b""
    while data := far.recv(100):
        received += data
    assert received == b"onetwo", received
    far.close()


def written_beside_an_error(loop: Loop, server: asyncio.Server) -> None:
    """What calls a program before a wait may fork: what others have written leaves once."""
    near, far = socket.socketpair()
    failing, gone = socket.socketpair()

    child = -1

    def fork(record: logging.LogRecord) -> bool:
        nonlocal child
        if child < 0 and "Fatal write error" in record.getMessage():
            child = os.fork()
        return False

    async def main() -> None:
        ours, _ = await loop.create_connection(asyncio.Protocol, sock=near)
        other, _ = await loop.create_connection(asyncio.Protocol, sock=failing)
        await asyncio.sleep(0)

        def write() -> None:
            ours.write(b"once")
            gone.close()
            # Much, so that it is tried at once.
            other.write(b"x" * 20_000)

        loop.call_soon(write)
        # Until the last handle of the tick, writes wait.
        loop.call_soon(int)
        while child < 0:
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)

    logger = logging.getLogger("asyncio")
    logger.addFilter(fork)
    logger.setLevel(logging.DEBUG)
    loop.set_debug(True)
    loop.run_until_complete(main())
    loop.set_debug(False)
    logger.removeFilter(fork)
    assert child >= 0, "nothing was logged"
    if child == 0:
        os._exit(0)
    ended(child)
    far.setblocking(False)
    assert far.recv(100) == b"once"
    far.close()


def new_loop_in_a_process(loop: Loop, server: asyncio.Server) -> None:
    """multiprocessing within a coroutine; the child runs a loop of its own."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def target() -> None:
        async def child_main() -> str:
            await asyncio.sleep(0.01)
            return "done"

        own = loops.factory(sys.argv[1])()
        answers.put(own.run_until_complete(child_main()))
        own.close()
        answers.put(asyncio.run(child_main()))

    async def main() -> None:
        process = context.Process(target=target)
        process.start()
        await loop.run_in_executor(None, process.join, LIMIT)
        assert process.exitcode == 0
        assert answers.get() == "done"
        assert answers.get() == "done"

    loop.run_until_complete(main())
    use(loop, server)


def main() -> None:
    loop = loops.factory(sys.argv[1])()
    server: Any = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    globals()[sys.argv[2]](loop, server)
    server.close()
    loop.run_until_complete(loop.shutdown_default_executor())
    for _ in range(10):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    print("works")


if __name__ == "__main__":
    main()
