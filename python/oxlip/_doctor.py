"""What `oxlip doctor` prints: which driver a loop gets here and why, versions, limits."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from . import _native
from ._loop import EventLoop

# Fewer descriptors than this are used up by a few hundred clients with a file and a pipe each.
FEW_DESCRIPTORS = 4096


def report() -> tuple[list[tuple[str, str]], bool]:
    """Rows of a table, and whether a loop can be made at all."""
    driver, works = default_driver()
    rows = [
        ("oxlip", _native.__version__),
        ("driver", driver),
        ("OXLIP_DRIVER", os.environ.get("OXLIP_DRIVER") or "not set"),
        *(("available" if index == 0 else "", row) for index, row in enumerate(drivers())),
        ("TLS", tls()),
        ("tasks", tasks()),
        ("python", python()),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("open files", open_files()),
        ("backlog", backlog()),
    ]
    return rows, works


def default_driver() -> tuple[str, bool]:
    """The driver of a loop made without asking for one, and whether there is one."""
    try:
        loop = EventLoop()
    except (OSError, ValueError) as error:
        return f"none: {error}", False
    try:
        return f"{loop.driver}: {loop._driver_reason}", True
    finally:
        loop.close()


def drivers() -> Iterator[str]:
    """One line for each driver that this build knows."""
    for name in _native.drivers():
        try:
            loop = EventLoop(name)
        except (OSError, ValueError) as error:
            yield f"{name}: no ({error})"
        else:
            yield name if loop.driver == name else f"{name}: no ({loop._driver_reason})"
            loop.close()


def tls() -> str:
    """What TLS connections are encrypted with; `OXLIP_TLS` can force it."""
    chosen = _native.tls_codec()
    return f"{chosen['codec']}: {chosen['reason']}"


def tasks() -> str:
    """Whose tasks loops make."""
    if _native.has_tasks():
        return "asyncio's; native ones after oxlip.install() and under oxlip run"
    return "asyncio's: this Python's leave no place for native ones"


def python() -> str:
    """Implementation, version, whether it has a GIL, and where it is."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return (
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"{'with' if gil else 'without'} GIL, {sys.executable}"
    )


def open_files() -> str:
    """The limit on descriptors: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    line = f"{limit(soft)}, can be raised to {limit(hard)}"
    if soft != resource.RLIM_INFINITY and soft < FEW_DESCRIPTORS:
        line += " (few for a server: `ulimit -n` raises it)"
    return line


def limit(value: int) -> str:
    """A resource limit for people."""
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def backlog() -> str:
    """What the kernel cuts the backlog of a listening socket to."""
    try:
        return Path("/proc/sys/net/core/somaxconn").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
