"""Which codec TLS connections get: libssl's functions where they can be had, or `SSLObject`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ECHO = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from support import tls
from support.protocols import Recorder

async def main():
    async with tls.connection(Recorder()) as (transport, protocol, peer):
        transport.write(b"hello" * 100_000)
        assert await peer.exactly(500_000) == b"hello" * 100_000
        await peer.send_all(b"world" * 100_000)
        assert await protocol.until_received(500_000) == b"world" * 100_000
        await asyncio.gather(peer.part(), protocol.until_lost())
        assert protocol.error is None

import oxlip
from oxlip import _native
"""
REPORT = "oxlip.run(main())\nprint(_native.tls_codec())\n"


def run(program: str, codec: str = "") -> subprocess.CompletedProcess[str]:
    tests = os.path.dirname(os.path.dirname(__file__))
    return subprocess.run(
        [sys.executable, "-c", program, tests],
        env={**os.environ, "OXLIP_TLS": codec},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("codec", ["object", "libssl"])
def test_forced(codec: str) -> None:
    done = run(ECHO + REPORT, codec)
    assert done.returncode == 0, done.stderr
    assert f"'codec': '{codec}'" in done.stdout


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("import _ssl; del _ssl.__file__", "_ssl is a part of the interpreter"),
        (
            "import _ssl; _ssl.__file__ = _native.__file__",
            "SSL_read_ex is not among what _ssl was linked with",
        ),
        ("import ssl; ssl.OPENSSL_VERSION = 'OpenSSL 9'", "not OpenSSL 9"),
    ],
)
def test_falls_back(spoil: str, reason: str) -> None:
    done = run(f"{ECHO}\n{spoil}\n{REPORT}")
    assert done.returncode == 0, done.stderr
    assert "'codec': 'object'" in done.stdout
    assert reason in done.stdout
    # Who insists is told.
    done = run(f"{ECHO}\n{spoil}\n{REPORT}", "libssl")
    assert done.returncode != 0
    assert "RuntimeError: OXLIP_TLS is libssl, which cannot be used: " in done.stderr
    assert reason in done.stderr


def test_a_codec_that_does_not_exist() -> None:
    done = run(ECHO + REPORT, "rustls")
    assert "ValueError: OXLIP_TLS is \"rustls\", neither 'object' nor 'libssl'" in done.stderr
