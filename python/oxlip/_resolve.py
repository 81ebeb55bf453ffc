"""`getaddrinfo` and `getnameinfo`, and which calls of them need no thread.

A name may need the network, so it is looked up in a thread (`_lookups.py`). An address literal
only has to be parsed. `socket.getaddrinfo` itself does that at once, with every zone, short
form and flag of the platform, so the answer (or the error) is exactly its own. It is the same each
time, and is asked for once.

Runs on the loop's thread; only the look-up of names leaves it.
"""

from __future__ import annotations

import functools
import socket
import sys
import time
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeAlias

from ._executor import outcome_of
from ._lifecycle import Lifecycle
from ._lookups import Lookups

AddressInfo: TypeAlias = tuple[
    socket.AddressFamily, socket.SocketKind, int, str, "tuple[str, int] | tuple[str, int, int, int]"
]

# The system's own: what a program has put in its place may say anything, and take its time. That is
# asked in a thread, and not for the address of a connection or server, which asyncio parses itself.
_system_getaddrinfo = socket.getaddrinfo

# What the system said of addresses, by what it was asked.
_answers: dict[tuple[Any, ...], list[Any]] = {}
_ANSWERS_AT_MOST = 256

_NUMERIC_NAME = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
_IPV4_DIGITS = frozenset("0123456789abcdefABCDEFxX.")


class Resolve(Lifecycle):
    """Names to addresses and back."""

    STATE: tuple[str, ...] = (*Lifecycle.STATE, "_lookups")

    def __init__(self) -> None:
        super().__init__()
        self._lookups = Lookups()

    def close(self) -> None:
        """Drops everything scheduled and closes every descriptor of the loop.

        The executor's threads are not waited for. `RuntimeError` while the loop is running.
        """
        super().close()
        self._lookups.end()

    def _after_fork(self) -> bool:
        self._lookups = Lookups()  # Its threads are not in the child.
        return super()._after_fork()

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """As `socket.getaddrinfo`, without blocking the loop."""
        look_up: Callable[..., list[Any]] = socket.getaddrinfo
        if self.get_debug():
            look_up = functools.partial(_look_up_and_log, self.slow_callback_duration)
        query = (host, port, family, type, proto, flags)
        self._check_closed()
        if socket.getaddrinfo is _system_getaddrinfo and (
            _is_known(query) or _is_numeric(host, port)
        ):
            return _ask(look_up, *query)
        return await outcome_of(self._lookups.submit(look_up, *query), self)

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int = 0
    ) -> tuple[str, str]:
        """As `socket.getnameinfo`, without blocking the loop."""
        self._check_closed()
        if flags & _NUMERIC_NAME == _NUMERIC_NAME:
            return socket.getnameinfo(sockaddr, flags)
        answer = self._lookups.submit(socket.getnameinfo, sockaddr, flags)
        return await outcome_of(answer, self)

    async def _ensure_resolved(
        self,
        address: tuple[Any, ...],
        *,
        family: int = 0,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        flags: int = 0,
        none: str = "getaddrinfo() returned empty list",
    ) -> list[AddressInfo]:
        """The socket addresses of `(host, port[, flowinfo, scope_id])`, or `OSError(none)`.

        An address that is already numeric keeps its port, flow label and scope, which
        `getaddrinfo` would cut to 16 bits or drop.
        """
        host, port, *ipv6_rest = address
        number = _port_number(port)
        if number is None or not is_literal(host):
            found = await self.getaddrinfo(
                host, port, family=family, type=type, proto=proto, flags=flags
            )
        else:
            # AI_ADDRCONFIG is about which names to look up: it must not veto a loopback address.
            flags &= ~socket.AI_ADDRCONFIG
            # Bytes: text goes through a codec, which cannot be imported at the interpreter's end.
            literal = host.encode() if isinstance(host, str) else host
            plain = _ask(_system_getaddrinfo, literal, 0, family, type, proto, flags)
            found = [(*info[:4], _complete(info[4], number, ipv6_rest)) for info in plain]
        if not found:
            raise OSError(none)
        return found


def _is_known(query: tuple[Any, ...]) -> bool:
    try:
        return query in _answers
    except TypeError:
        return False  # Something in it has no hash.


def _ask(look_up: Callable[..., list[Any]], *query: Any) -> list[Any]:
    """What `look_up` says of an address, or has said before."""
    known = _answers.get(query)
    if known is not None:
        sys.audit("socket.getaddrinfo", *query[:-1])
        return known.copy()
    found = look_up(*query)
    host, *_, flags = query
    # An interface may come or go, and any host is an address of this machine's.
    if host and (b"%" if isinstance(host, bytes) else "%") not in host:
        if not flags & socket.AI_ADDRCONFIG:
            if len(_answers) >= _ANSWERS_AT_MOST:
                _answers.clear()
            _answers[query] = found.copy()
    return found


def is_literal(host: object) -> bool:
    """Whether `host` is an address and not a name, so that no look-up can follow.

    Narrower than what the C library accepts; whatever is left out is only slower.
    """
    if isinstance(host, bytes):
        text = host.decode("latin-1")
    elif isinstance(host, str):
        text = host
    else:
        return False
    if not text.isascii() or "\0" in text:
        return False
    address, _, _zone = text.partition("%")
    if ":" in address:
        try:
            socket.inet_pton(socket.AF_INET6, address)
        except OSError:
            return False
        return True
    # inet_aton alone would allow white space and anything after it.
    if not _IPV4_DIGITS.issuperset(text):
        return False
    try:
        socket.inet_aton(text)
    except OSError:
        return False
    return True


def _is_numeric(host: object, port: object) -> bool:
    """Whether getaddrinfo(3) has nothing to look up, neither a host nor a service.

    It takes what does not fit an `int`, a negative number among them, for the name of a service.
    """
    if isinstance(port, int):
        numeric_port = 0 <= port < 2**31
    elif isinstance(port, str | bytes):
        numeric_port = not port or (port.isascii() and port.isdigit() and len(port) < 10)
    else:
        numeric_port = port is None
    return numeric_port and (host is None or is_literal(host))


def _port_number(port: Any) -> int | None:
    if port is None or port == "" or port == b"":
        return 0
    try:
        return int(port)
    except (TypeError, ValueError):
        return None


def _complete(found: tuple[Any, ...], port: int, ipv6_rest: list[int]) -> tuple[Any, ...]:
    """A resolved address with the port and the IPv6 parts that the caller gave.

    A zone in the address itself wins over a scope beside it.
    """
    if len(found) == 2:
        return (found[0], port)
    host, _, flowinfo, scope_id = found
    given_flowinfo, given_scope_id = (*ipv6_rest, 0, 0)[:2]
    return (host, port, given_flowinfo or flowinfo, scope_id or given_scope_id)


def _look_up_and_log(slow: float, host: object, port: object, *rest: Any) -> list[Any]:
    asked = [f"{host}:{port!r}"]
    asked += [
        f"{name}={value!r}"
        for name, value in zip(("family", "type", "proto", "flags"), rest, strict=True)
        if value
    ]
    text = ", ".join(asked)
    logger.debug("Get address info %s", text)
    started = time.monotonic()
    found = socket.getaddrinfo(host, port, *rest)  # type: ignore[arg-type]
    took = time.monotonic() - started
    log = logger.info if took >= slow else logger.debug
    log("Getting address info %s took %.3fms: %r", text, took * 1e3, found)
    return found
