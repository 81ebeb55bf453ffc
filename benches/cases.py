"""What is measured: the table of cases, with the goal that oxlip has in each.

A goal is the CPU time of the better uvloop divided by oxlip's, so more is better; a peer goal is
that of whoever else is best.
"""

import sys
from dataclasses import dataclass

# No case may be worse than this.
FLOOR = 0.95


@dataclass(frozen=True)
class NetworkCase:
    """A server, and what the load generator does to it."""

    name: str
    title: str
    # A case of servers.py.
    server: str
    # Mode and options of the load generator.
    load: tuple[str, ...]
    # Whether the bare echo server can stand in for the server.
    bare: bool = False
    quick: bool = False
    goal: float = FLOOR
    peer_goal: float | None = None
    # How many times the bare server's CPU oxlip may take.
    bare_goal: float | None = None


@dataclass(frozen=True)
class SchedulingCase:
    """A case of scheduling.py."""

    name: str
    title: str
    goal: float = FLOOR
    peer_goal: float | None = None


def echo(size: int, connections: int, in_flight: int = 1) -> tuple[str, ...]:
    """The load of an echo case."""
    shape = ("--connections", str(connections), "--in-flight", str(in_flight))
    return ("echo", "--size", str(size), *shape)


KIB = 1024
FLOOD = ("flood", "--size", "64", "--connections", "1", "--in-flight", "192")
JOINED = (*FLOOD, "--joined", "64")
HTTP = ("http", "--size", "1024", "--connections", "50")

NETWORK = (
    NetworkCase(
        "echo-1k-1", "echo 1 KiB, 1 connection", "echo", echo(KIB, 1), bare=True, quick=True
    ),
    NetworkCase(
        "echo-1k-50",
        "echo 1 KiB, 50 connections",
        "echo",
        echo(KIB, 50),
        bare=True,
        quick=True,
        goal=1.1,
        peer_goal=1.08,
        bare_goal=1.2,
    ),
    NetworkCase(
        "echo-1k-1000",
        "echo 1 KiB, 1000 connections",
        "echo",
        echo(KIB, 1000),
        bare=True,
        peer_goal=1.08,
    ),
    NetworkCase(
        "echo-100k-10",
        "echo 100 KiB, 10 connections",
        "echo",
        echo(100 * KIB, 10),
        bare=True,
        peer_goal=1.05,
    ),
    NetworkCase(
        "echo-64-50x16",
        "echo 64 B, 50 connections, 16 in flight",
        "echo",
        echo(64, 50, 16),
        bare=True,
    ),
    NetworkCase("buffered-1k-50", "BufferedProtocol 1 KiB × 50", "buffered", echo(KIB, 50)),
    NetworkCase(
        "buffered-10k-50",
        "BufferedProtocol 10 KiB × 50",
        "buffered",
        echo(10 * KIB, 50),
        peer_goal=1.2,
    ),
    NetworkCase("unix", "Unix socket, echo 1 KiB × 50", "unix", echo(KIB, 50), peer_goal=1.1),
    NetworkCase(
        "tls-1k-50", "TLS, echo 1 KiB × 50", "tls", (*echo(KIB, 50), "--tls"), peer_goal=1.4
    ),
    NetworkCase(
        "tls-100k-10",
        "TLS, echo 100 KiB × 10",
        "tls",
        (*echo(100 * KIB, 10), "--tls"),
        peer_goal=1.1,
    ),
    NetworkCase(
        "streams-read",
        "streams read() 1 KiB × 50",
        "streams-read",
        echo(KIB, 50),
        peer_goal=1.25,
    ),
    NetworkCase(
        "streams-readline",
        "streams readline() 80 B × 50",
        "streams-readline",
        ("line", "--size", "80", "--connections", "50"),
        quick=True,
        peer_goal=1.4,
    ),
    NetworkCase("sock", "sock_recv, sock_sendall 1 KiB × 50", "sock", echo(KIB, 50), peer_goal=1.5),
    NetworkCase(
        "udp-1",
        "UDP echo 64 B, 1 in flight",
        "udp",
        ("udp", "--size", "64", "--connections", "1"),
        peer_goal=1.2,
    ),
    NetworkCase(
        "udp-50",
        "UDP echo 64 B, 50 peers",
        "udp",
        ("udp", "--size", "64", "--connections", "50"),
        quick=True,
        peer_goal=1.2,
    ),
    NetworkCase("udp-flood", "UDP received 64 B", "udp-sink", FLOOD, peer_goal=2),
    NetworkCase("udp-batch", "UDP received 64 B, datagrams_received", "udp-batch", FLOOD),
    NetworkCase("udp-joined", "UDP received 64 B, sent 64 at a time", "udp-sink", JOINED),
    NetworkCase("udp-joined-batch", "the same, datagrams_received", "udp-batch", JOINED),
    NetworkCase(
        "http-1", "minimal HTTP, one write", "http-1", HTTP, quick=True, goal=1.1, peer_goal=1.1
    ),
    NetworkCase("http-2", "minimal HTTP, two writes", "http-2", HTTP, goal=1.1, peer_goal=1.1),
    NetworkCase(
        "uvicorn-1",
        "uvicorn, body in one",
        "uvicorn-1",
        HTTP,
        quick=True,
        goal=1.15,
        peer_goal=1.05,
    ),
    NetworkCase("uvicorn-2", "uvicorn, body in two", "uvicorn-2", HTTP, goal=1.15, peer_goal=1.05),
    NetworkCase("aiohttp-1", "aiohttp, body in one", "aiohttp-1", HTTP, peer_goal=1.05),
    NetworkCase("aiohttp-2", "aiohttp, body in two", "aiohttp-2", HTTP, peer_goal=1.05),
    NetworkCase("tornado", "Tornado", "tornado", HTTP, peer_goal=1.05),
    NetworkCase(
        "connect",
        "connect, 1 byte, close",
        "echo",
        ("connect", "--connections", "8"),
        bare=True,
        quick=True,
        peer_goal=1.2,
    ),
)

SCHEDULING = (
    SchedulingCase("call_soon", "call_soon, 100 a tick", goal=2.0),
    SchedulingCase("tick", "call_soon, 1 a tick"),
    SchedulingCase("call_later_cancel", "call_later and cancel", goal=2.0),
    SchedulingCase("sleep_zero", "sleep(0), 100 tasks"),
    SchedulingCase("task_spawn", "create_task and await"),
    SchedulingCase("gather", "gather of 100"),
    SchedulingCase("ping_pong", "future ping-pong"),
    SchedulingCase("threadsafe", "call_soon_threadsafe from a thread", goal=2.0),
    SchedulingCase("sleep_alone", "sleep(0) alone"),
    SchedulingCase("lock", "Lock, uncontended"),
    SchedulingCase("lock_contended", "Lock, two tasks"),
    SchedulingCase("semaphore", "Semaphore, uncontended"),
    SchedulingCase("event", "Event ping-pong"),
    SchedulingCase("event_set", "Event that is set"),
    SchedulingCase("condition", "Condition ping-pong"),
    SchedulingCase("queue", "Queue(10), two tasks"),
    SchedulingCase("queue_ping_pong", "Queue ping-pong"),
    SchedulingCase("queue_nowait", "Queue put_nowait, get_nowait"),
    SchedulingCase("wait_for_future", "wait_for a future"),
    SchedulingCase("wait_for_coroutine", "wait_for a coroutine"),
    SchedulingCase("wait", "wait for 100 tasks"),
)
if sys.version_info >= (3, 11):
    SCHEDULING += (
        SchedulingCase("timeout", "timeout that is not reached"),
        SchedulingCase("task_group", "TaskGroup of 100"),
    )


@dataclass(frozen=True)
class MemoryCase:
    """Open and silent connections on an echo server, each after one message of 1 KiB."""

    name: str
    title: str
    # A case of servers.py.
    server: str
    # Options of the load generator.
    load: tuple[str, ...]
    # Held before the first look, so that what is allocated once is not counted.
    warm_up: int
    # Added before the second look.
    connections: int
    goal: float = 1.0


MEMORY = (
    MemoryCase("memory", "idle connection", "echo", (), warm_up=100, connections=2000),
    MemoryCase(
        "memory-tls", "idle TLS connection", "tls", ("--tls",), warm_up=100, connections=500
    ),
)

Case = NetworkCase | SchedulingCase | MemoryCase
