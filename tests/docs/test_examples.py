"""Every example runs, and does what its first lines say."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.sockets import unused_port
from websockets.sync.client import connect

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 20.0

WITH_PYTHON = (sys.executable,)
WITH_OXLIP = (sys.executable, "-m", "oxlip", "run")


@contextmanager
def serving(*command: str, ready: str) -> Iterator[int]:
    """A server that has printed that it is ready, and is ended by Ctrl-C: gives its port."""
    port = unused_port()
    environment = os.environ | {"HOST": "127.0.0.1", "PORT": str(port), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        printed = []
        try:
            for line in process.stdout:
                printed.append(line)
                if re.search(ready, line):
                    break
            else:
                pytest.fail(f"{command} ended: {''.join(printed)}")
            yield port
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        assert process.returncode == 0, rest
        assert "Traceback" not in rest


def talk(port: int) -> str:
    """Opens the page, says something in the room; the name of the loop that served it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as response:
        assert response.status == 200
        assert b"new WebSocket" in response.read()
    with connect(f"ws://127.0.0.1:{port}/live", open_timeout=PATIENCE) as client:
        client.send("not JSON")
        client.send(json.dumps({"kind": "ping", "value": 1}))
        client.send(json.dumps({"kind": "say", "value": "hello"}))
        seen: dict[str, dict[str, Any]] = {}
        while not {"welcome", "pong", "say", "stats"} <= seen.keys():
            message = json.loads(client.recv(timeout=PATIENCE))
            seen[message["kind"]] = message
    assert seen["pong"]["value"] == 1
    assert (seen["say"]["name"], seen["say"]["text"]) == (seen["welcome"]["name"], "hello")
    assert seen["stats"]["here"] == 1
    return f"{seen['welcome']['loop']} {seen['welcome']['driver']}"


def echo(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(b"hello")
        return client.recv(100).decode()


def get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as response:
        text: str = response.read().decode()
        return text


@pytest.mark.parametrize(
    ("runner", "use", "example", "ready", "answer"),
    [
        (WITH_PYTHON, talk, "webapp.py", "CTRL", r"^asyncio\."),
        (WITH_OXLIP, talk, "webapp.py", "CTRL", r"^oxlip\..* epoll$"),
        ((*WITH_OXLIP, "--driver", "poll"), talk, "webapp.py", "CTRL", r"^oxlip\..* poll$"),
        (WITH_PYTHON, echo, "echo.py", "echoing on 127.0.0.1", "^hello$"),
        (WITH_PYTHON, get, "uvicorn_app.py", "running on", r"^served by oxlip\."),
    ],
    ids=["webapp-asyncio", "webapp-oxlip", "webapp-poll", "echo", "uvicorn"],
)
def test_server(
    runner: tuple[str, ...],
    use: Callable[[int], str],
    example: str,
    ready: str,
    answer: str,
) -> None:
    with serving(*runner, str(EXAMPLES / example), ready=ready) as port:
        assert re.search(answer, use(port).strip())


def test_uvicorn_command_line_is_taken_over() -> None:
    command = (*WITH_OXLIP, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "uvicorn_app:app")
    port = unused_port()
    options = ("--port", str(port), "--loop", "asyncio", "--lifespan", "off")
    with serving(*command, *options, ready="running on"):
        assert "served by oxlip." in get(port)


def test_timers() -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "timers.py")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    late = re.findall(r"^(asyncio|oxlip)\S* .* late by +(-?[\d.]+)", result.stdout, re.MULTILINE)
    assert [name for name, _ in late] == ["asyncio"] * 3 + ["oxlip"] * 3
    assert all(float(microseconds) >= 0 for _, microseconds in late)


def test_files() -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "files.py")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert result.stdout.split() == ["2", "0.txt", "4", "1.txt", "6", "2.txt"]


def test_every_example_is_run() -> None:
    tested = {"webapp.py", "echo.py", "uvicorn_app.py", "timers.py", "files.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested
