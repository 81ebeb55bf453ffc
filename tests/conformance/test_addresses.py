"""getaddrinfo and getnameinfo: literals answer as the system does, and without a thread."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Loop = asyncio.AbstractEventLoop
Answer = list[tuple[Any, ...]] | str

interfaces = [name for _, name in socket.if_nameindex()] if hasattr(socket, "if_nameindex") else []

# Spellings that getaddrinfo knows beside the plain ones, and some that it refuses.
ODD_HOSTS = [
    "127.1",
    "127.0.1",
    "0x7f.1",
    "017700000001",
    "2130706433",
    "1.2.3.4.5",
    "1.2.3",
    "256.1.1.1",
    "01.02.03.04",
    " 127.0.0.1",
    "127.0.0.1 ",
    "::",
    "::1%",
    "::ffff:1.2.3.4",
    "1::2::3",
    "[::1]",
    "fe80::1%lo",
    "fe80::1%1",
    "fe80::1%0",
    "fe80::1%999999",
    "fe80::1%no-such-interface",
    "ff02::1%lo",
    "::1%lo",
    "::1%1",
    "0:0:0:0:0:0:0:1",
    "2001:DB8::a",
    "",
    None,
]


def addresses() -> st.SearchStrategy[str | None]:
    zones = st.sampled_from(["", *(f"%{name}" for name in interfaces), "%1", "%2", "%0"])
    return st.one_of(
        st.ip_addresses(v=4).map(str),
        st.ip_addresses(v=6).map(str),
        st.ip_addresses(v=6).map(lambda address: address.exploded.upper()),
        st.builds(lambda low, zone: f"fe80::{low:x}{zone}", st.integers(1, 0xFFFF), zones),
        st.sampled_from(ODD_HOSTS),
    )


ports = st.one_of(
    st.integers(0, 65535),
    st.integers(0, 65535).map(str),
    st.sampled_from([None, "", "http", b"80", "65536", -1, 65536, 100000, "no-such-service"]),
)
families = st.sampled_from([0, socket.AF_INET, socket.AF_INET6])
types = st.sampled_from([0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW])
protocols = st.sampled_from([0, socket.IPPROTO_TCP, socket.IPPROTO_UDP])
flags = st.sampled_from(
    [
        0,
        socket.AI_PASSIVE,
        socket.AI_NUMERICHOST,
        socket.AI_NUMERICSERV,
        socket.AI_CANONNAME,
        socket.AI_NUMERICHOST | socket.AI_NUMERICSERV | socket.AI_PASSIVE,
    ]
)


def outcome(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def by_the_system(*arguments: Any, **options: Any) -> Answer:
    try:
        return socket.getaddrinfo(*arguments, **options)
    except (OSError, OverflowError, TypeError, UnicodeError) as error:
        return outcome(error)


def by_the_loop(loop: Loop, *arguments: Any, **options: Any) -> Answer:
    try:
        return loop.run_until_complete(loop.getaddrinfo(*arguments, **options))
    except (OSError, OverflowError, TypeError, UnicodeError) as error:
        return outcome(error)


def is_local(host: str | None) -> bool:
    """Whether the system answers without asking the network (or a resolver that is slow to)."""
    try:
        socket.getaddrinfo(host, 1, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True


# The loop is only looked at, so that one may serve all examples.
examples = settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@examples
@given(
    host=addresses().filter(is_local),
    port=ports,
    family=families,
    type=types,
    proto=protocols,
    flags=flags,
)
def test_literals_answer_as_the_system_does(
    loop: Loop, host: str | None, port: Any, family: int, type: int, proto: int, flags: int
) -> None:
    options = {"family": family, "type": type, "proto": proto, "flags": flags}
    assert by_the_loop(loop, host, port, **options) == by_the_system(host, port, **options)


@pytest.mark.parametrize("host", ODD_HOSTS)
@pytest.mark.parametrize("family", [0, socket.AF_INET, socket.AF_INET6])
def test_odd_spellings(loop: Loop, host: str | None, family: int) -> None:
    # AI_NUMERICHOST keeps those that are no literal from being asked of the network.
    options = {"family": family, "type": socket.SOCK_STREAM, "flags": socket.AI_NUMERICHOST}
    assert by_the_loop(loop, host, 80, **options) == by_the_system(host, 80, **options)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", b"127.0.0.1", b"::1"])
@pytest.mark.parametrize("port", [80, "80", b"80", "http", None])
def test_types_of_arguments(loop: Loop, host: Any, port: Any) -> None:
    options = {"type": socket.SOCK_STREAM}
    assert by_the_loop(loop, host, port, **options) == by_the_system(host, port, **options)


def test_answer_has_the_right_types(loop: Loop) -> None:
    for info in by_the_loop(loop, "127.0.0.1", 80, type=socket.SOCK_STREAM):
        assert isinstance(info, tuple)
        assert isinstance(info[0], socket.AddressFamily)
        assert isinstance(info[1], socket.SocketKind)


@pytest.mark.ours
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "10.1.2.3", "fe80::1%1", "2001:db8::1", "127.1"]
)
def test_literals_cost_no_thread(loop: Loop, host: str) -> None:
    before = threading.active_count()
    started: list[str] = []
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        started.append(thread.name)
        original(thread)

    threading.Thread.start = start  # type: ignore[method-assign]
    try:
        answer = by_the_loop(loop, host, 80, type=socket.SOCK_STREAM)
    finally:
        threading.Thread.start = original  # type: ignore[method-assign]
    assert answer == by_the_system(host, 80, type=socket.SOCK_STREAM)
    assert started == []
    assert threading.active_count() == before


async def test_names_are_resolved(loop: Loop) -> None:
    infos = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    assert infos == socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)


async def test_unknown_name(loop: Loop) -> None:
    with pytest.raises(socket.gaierror):
        await loop.getaddrinfo("no.such.host.invalid", 80)


async def test_several_at_once(loop: Loop) -> None:
    answers = await asyncio.gather(*(loop.getaddrinfo("localhost", port) for port in range(1, 20)))
    assert [answer[0][4][1] for answer in answers] == list(range(1, 20))


async def test_getnameinfo(loop: Loop) -> None:
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    for address in (("127.0.0.1", 80), ("::1", 80), ("::1", 80, 0, 0)):
        assert await loop.getnameinfo(address, numeric) == socket.getnameinfo(address, numeric)
    where = ("127.0.0.1", 80)
    assert await loop.getnameinfo(where) == socket.getnameinfo(where, 0)


async def test_getnameinfo_of_nonsense(loop: Loop) -> None:
    with pytest.raises(OSError):
        await loop.getnameinfo(("127.0.0.1.invalid", 80), socket.NI_NUMERICHOST)
    with pytest.raises((TypeError, OSError)):
        await loop.getnameinfo("127.0.0.1")  # type: ignore[arg-type]


@contextmanager
def asking() -> Iterator[list[str]]:
    """How often the system is asked."""
    asked: list[str] = []

    def notice(_frame: Any, event: str, function: Any) -> None:
        if event == "c_call" and getattr(function, "__name__", "") == "getaddrinfo":
            asked.append(event)

    sys.setprofile(notice)
    try:
        yield asked
    finally:
        sys.setprofile(None)


@pytest.mark.ours
async def test_the_system_is_asked_once_about_an_address(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oxlip._resolve._answers", {})
    query: dict[str, Any] = {"type": socket.SOCK_STREAM}
    first = await loop.getaddrinfo("127.9.8.7", 80, **query)
    expected = first.copy()
    first.clear()  # It is the caller's.
    with asking() as asked:
        second = await loop.getaddrinfo("127.9.8.7", 80, **query)
        third = await loop.getaddrinfo("127.9.8.7", 81, **query)
    assert second == expected == socket.getaddrinfo("127.9.8.7", 80, **query)
    assert third == socket.getaddrinfo("127.9.8.7", 81, **query)
    assert len(asked) == 1


@pytest.mark.ours
@pytest.mark.parametrize(
    ("host", "flags"), [("fe80::1%lo", 0), (b"fe80::1%lo", 0), ("127.9.8.7", socket.AI_ADDRCONFIG)]
)
async def test_what_may_change_is_asked_again(loop: Loop, host: str | bytes, flags: int) -> None:
    with asking() as asked:
        for _ in range(2):
            await loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM, flags=flags)
    assert len(asked) == 2


def test_each_question_is_audited(loop: Loop) -> None:
    seen = []
    listening = True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if listening and event == "socket.getaddrinfo":
            seen.append(args)

    sys.addaudithook(hook)
    for _ in range(2):
        loop.run_until_complete(loop.getaddrinfo("127.9.8.6", 80, type=socket.SOCK_STREAM))
    listening = False
    assert seen == [("127.9.8.6", 80, 0, socket.SOCK_STREAM, 0)] * 2
