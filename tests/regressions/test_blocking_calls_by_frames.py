"""Under blockbuster, starting a child and sending a file were refused as calls that block.

Until a child has started, or said why not, asyncio reads from a pipe; and it calls `os.sendfile`.
Who replaces these functions to find what blocks a loop lets asyncio's own calls pass, which it
knows by their frames.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.protocols import Recorder, connection

Loop = asyncio.AbstractEventLoop


def _comes_from(method: str) -> bool:
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        code = frame.f_code
        if code.co_name == method and code.co_filename.endswith("asyncio/base_events.py"):
            return True
    return False


@pytest.mark.parametrize(
    ("method", "start"),
    [
        ("subprocess_exec", lambda **options: asyncio.create_subprocess_exec("true", **options)),
        ("subprocess_shell", lambda **options: asyncio.create_subprocess_shell("true", **options)),
    ],
)
@pytest.mark.parametrize("options", [{"cwd": "/"}, {"umask": 0o77}], ids=["short", "by the class"])
def test_start_is_read_in_asyncios_method(
    loop: Loop,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    start: Callable[..., Any],
    options: dict[str, Any],
) -> None:
    stock, allowed = os.read, []

    def read(fd: int, size: int) -> bytes:
        if asyncio._get_running_loop() is not None:
            allowed.append(_comes_from(method))
        return stock(fd, size)

    async def main() -> int:
        process = await start(**options)
        monkeypatch.setattr(os, "read", stock)
        return int(await process.wait())

    monkeypatch.setattr(os, "read", read)
    assert loop.run_until_complete(main()) == 0
    assert allowed
    assert all(allowed)


@pytest.mark.skipif(not hasattr(os, "sendfile"), reason="the system has none")
async def test_file_is_sent_in_asyncios_method(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stock, allowed = os.sendfile, []

    def sendfile(*args: Any) -> int:
        allowed.append(_comes_from("sendfile"))
        return stock(*args)

    monkeypatch.setattr(os, "sendfile", sendfile)
    path = tmp_path / "file"
    path.write_bytes(b"content")
    async with connection(Recorder()) as (transport, _, peer):
        with path.open("rb") as file:
            assert await loop.sendfile(transport, file) == 7
        assert await peer.exactly(7) == b"content"
    # asyncio's second call, which finds the end of the file, is a callback's.
    assert allowed[0]
