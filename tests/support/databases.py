"""Real servers of data: Redis and PostgreSQL, each a process of its own for one test module.

Nothing is kept, and nothing of the system's own servers is touched. PostgreSQL refuses to run as
root: then it runs as the user that its package has made.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support import tls
from support.sockets import unused_port

HOST = "127.0.0.1"
USER = "postgres"


def _program(name: str) -> str:
    """Where it is; Debian keeps PostgreSQL's programs, one set per version, out of the path."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, places)])
    if (found := shutil.which(name, path=path)) is None:
        pytest.skip(f"without {name}")
    return found


@contextmanager
def _running(
    command: list[str], ready: str, ends_by: signal.Signals, **options: Any
) -> Iterator[None]:
    """A server, from the line in which it says that it is ready. What it says later is lost."""
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    try:
        assert server.stdout is not None
        with server.stdout:
            said = []
            for line in server.stdout:
                said.append(line)
                if ready in line:
                    break
            else:
                raise AssertionError(f"the server has ended: {said}")
        yield
    finally:
        server.send_signal(ends_by)
        server.wait()


class Redis(NamedTuple):
    host: str
    port: int
    path: str


@contextmanager
def redis() -> Iterator[Redis]:
    """A server on a port and a Unix socket."""
    program = _program("redis-server")
    with tempfile.TemporaryDirectory() as folder:
        address = Redis(HOST, unused_port(), f"{folder}/redis.sock")
        options = {
            "bind": HOST,
            "port": str(address.port),
            "unixsocket": address.path,
            "save": "",
            "dir": folder,
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        with _running([program, *arguments], "eady to accept connections", signal.SIGKILL):
            yield address


@contextmanager
def postgresql() -> Iterator[dict[str, Any]]:
    """A server with TLS; where it is and as whom to go there, in asyncpg's words."""
    initdb, program = _program("initdb"), _program("postgres")
    process: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(USER)
            process = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        data = f"{folder}/data"
        subprocess.run(
            [initdb, "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **process,
        )
        certificate = tls.certificate(HOST)
        for name, blob in (
            ("server.key", certificate.private_key_pem),
            ("server.crt", certificate.cert_chain_pems[0]),
        ):
            blob.write_to_path(f"{data}/{name}")
            os.chmod(f"{data}/{name}", 0o600)
            if process:
                os.chown(f"{data}/{name}", process["user"], process["group"])
        port = unused_port()
        options = {
            "listen_addresses": HOST,
            "port": port,
            "unix_socket_directories": folder,
            "ssl": "on",
            "fsync": "off",
            "log_min_messages": "log",
            "lc_messages": "C",
        }
        arguments = [part for it in options.items() for part in ("-c", "{}={}".format(*it))]
        command = [program, "-D", data, *arguments]
        ready = "ready to accept connections"
        with _running(command, ready, signal.SIGQUIT, cwd=folder, **process):
            yield {"host": HOST, "port": port, "user": USER, "database": USER}
