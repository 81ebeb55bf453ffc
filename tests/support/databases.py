"""Real servers of data: Redis and PostgreSQL, each a process of its own for one test module.

Nothing is kept, and nothing of the system's own servers is touched. PostgreSQL refuses to run as
root: then it runs as the user that its package has made.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support import tls
from support.sockets import PATIENCE, unused_port

HOST = "127.0.0.1"
USER = "postgres"


def _program(name: str) -> str:
    """Where it is; Debian keeps PostgreSQL's programs, one set per version, out of the path."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, places)])
    if (found := shutil.which(name, path=path)) is None:
        pytest.skip(f"without {name}")
    return found


def _until(answers: Callable[[], bool], server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while not answers():
        assert server.poll() is None, "the server has ended"
        assert time.monotonic() < end, "the server does not answer"
        time.sleep(0.01)


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
        server = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
        try:
            _until(lambda: _pongs(address), server)
            yield address
        finally:
            server.kill()
            server.wait()


def _pongs(address: Redis) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        if sock.connect_ex(address.path) != 0:
            return False
        sock.sendall(b"PING\r\n")
        return sock.recv(100) == b"+PONG\r\n"


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
            "log_min_messages": "panic",
        }
        arguments = [part for it in options.items() for part in ("-c", "{}={}".format(*it))]
        server = subprocess.Popen(
            [program, "-D", data, *arguments], stderr=subprocess.DEVNULL, cwd=folder, **process
        )
        try:
            _until(Path(data, "postmaster.pid").exists, server)
            _until(lambda: "ready" in Path(data, "postmaster.pid").read_text(), server)
            yield {"host": HOST, "port": port, "user": USER, "database": USER}
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait()
