"""What is measured: the table of cases, with the goal that oxlip has in each.

A goal is the CPU time of the better uvloop divided by oxlip's, so more is better; a peer goal is
the same against everybody else. Latency and rate goals are peer goals with the median latency or
the requests per second in the place of CPU time. A growth goal compares oxlip with itself in a
smaller case: there less is better.
"""

import sys
from dataclasses import dataclass

# No case may be worse than this.
FLOOR = 0.95


@dataclass(frozen=True)
class Growth:
    """How many times the cost of a smaller case this one may have."""

    # The name of the smaller case.
    smaller: str
    limit: float


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
    latency_goal: float | None = None
    rate_goal: float | None = None
    growth: Growth | None = None
    # How many times as long as others its windows are: all connections are to have many turns.
    longer: int = 1
    # Open files of server and load generator, each.
    files: int = 0


@dataclass(frozen=True)
class ProgramCase:
    """A case of a program that has no client: all of it is in the measured process."""

    name: str
    title: str
    program: str
    goal: float = FLOOR
    peer_goal: float | None = None
    growth: Growth | None = None
    quick: bool = True


def scheduling(
    name: str,
    title: str,
    goal: float = FLOOR,
    peer_goal: float | None = None,
    growth: Growth | None = None,
    quick: bool = True,
) -> ProgramCase:
    """A case of scheduling.py."""
    return ProgramCase(name, title, "scheduling.py", goal, peer_goal, growth, quick)


def pipes(name: str, title: str, peer_goal: float | None = None) -> ProgramCase:
    """A case of pipes.py."""
    return ProgramCase(name, title, "pipes.py", peer_goal=peer_goal, quick=False)


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
        "echo-1k-1",
        "echo 1 KiB, 1 connection",
        "echo",
        echo(KIB, 1),
        bare=True,
        quick=True,
        latency_goal=1,
    ),
    NetworkCase("echo-1k-10", "echo 1 KiB, 10 connections", "echo", echo(KIB, 10), bare=True),
    NetworkCase(
        "echo-1k-50",
        "echo 1 KiB, 50 connections",
        "echo",
        echo(KIB, 50),
        bare=True,
        quick=True,
        goal=1.1,
        peer_goal=1.08,
        bare_goal=1,
    ),
    NetworkCase(
        "echo-1k-1000",
        "echo 1 KiB, 1000 connections",
        "echo",
        echo(KIB, 1000),
        bare=True,
        longer=2,
        peer_goal=1.08,
        bare_goal=1,
    ),
    NetworkCase(
        "echo-1k-10000",
        "echo 1 KiB, 10,000 connections",
        "echo",
        echo(KIB, 10_000),
        bare=True,
        growth=Growth("echo-1k-10", 1.5),
        longer=5,
        files=10_000,
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
    # Only here is it the server that limits the rate.
    NetworkCase(
        "udp-joined", "UDP received 64 B, sent 64 at a time", "udp-sink", JOINED, rate_goal=2
    ),
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
        "write-block",
        "write, then block for 2 ms",
        "write-block",
        # The pause outlasts the blocking: the latency is the time until the answer has left.
        (*echo(KIB, 1), "--pause", "0.004"),
        latency_goal=1,
        longer=2,
    ),
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

SCHEDULING: tuple[ProgramCase, ...] = (
    scheduling("call_soon", "call_soon, 100 a tick", goal=2.0, peer_goal=1.3),
    scheduling("tick", "call_soon, 1 a tick"),
    scheduling("call_later_cancel", "call_later and cancel", goal=2.0, peer_goal=1.3),
    scheduling("sleep_zero", "sleep(0), 100 tasks", peer_goal=1.3),
    scheduling("task_spawn", "create_task and await", peer_goal=1.3),
    scheduling("gather", "gather of 100", peer_goal=1.3),
    scheduling("ping_pong", "future ping-pong", peer_goal=1.3),
    scheduling("threadsafe", "call_soon_threadsafe from a thread", goal=2.0, peer_goal=1.3),
    scheduling("sleep_alone", "sleep(0) alone", peer_goal=1.3),
    scheduling("lock", "Lock, uncontended", peer_goal=1.5),
    scheduling("lock_contended", "Lock, two tasks", peer_goal=1.5),
    scheduling("semaphore", "Semaphore, uncontended"),
    scheduling("event", "Event ping-pong", peer_goal=1.5),
    scheduling("event_set", "Event that is set", peer_goal=1.5),
    scheduling("condition", "Condition ping-pong"),
    scheduling("queue", "Queue(10), two tasks", peer_goal=1.5),
    scheduling("queue_ping_pong", "Queue ping-pong", peer_goal=1.5),
    scheduling("queue_nowait", "Queue put_nowait, get_nowait", peer_goal=1.5),
    scheduling("wait_for_future", "wait_for a future", peer_goal=1.5),
    scheduling("wait_for_coroutine", "wait_for a coroutine", peer_goal=1.5),
    scheduling("wait", "wait for 100 tasks"),
    scheduling("executor", "run_in_executor of nothing", peer_goal=1.2),
    scheduling("literal", "getaddrinfo of an address"),
)
if sys.version_info >= (3, 11):
    SCHEDULING += (
        scheduling("timeout", "timeout that is not reached", peer_goal=1.5),
        scheduling("task_group", "TaskGroup of 100", peer_goal=1.3),
    )
# Last, because of what a million timers leave behind in the process.
SCHEDULING += (
    scheduling("timers", "call_later that fires"),
    scheduling(
        "timers_million",
        "the same, a million pending",
        # What a heap takes: log2 of a million is thrice that of the hundred of the other case.
        growth=Growth("timers", 3),
        quick=False,
    ),
)

PIPES = (
    pipes("spawn", "subprocess, spawn and wait", peer_goal=1.2),
    pipes("child", "subprocess, communicate()"),
    pipes("child_pipes", "64 KiB to a subprocess and back", peer_goal=1.2),
    pipes("pipe_echo", "pipe, 64 B read and written"),
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
    peer_goal: float = 1.0
    quick: bool = True

    @property
    def files(self) -> int:
        """Open files of the server; the load generator has fewer."""
        return self.warm_up + self.connections


MEMORY = (
    MemoryCase("memory", "idle connection", "echo", (), warm_up=100, connections=10_000),
    MemoryCase(
        "memory-tls",
        "idle TLS connection",
        "tls",
        ("--tls",),
        warm_up=100,
        connections=10_000,
        quick=False,
    ),
)

Case = NetworkCase | ProgramCase | MemoryCase
