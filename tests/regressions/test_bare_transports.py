"""The classes between asyncio's transports and ours made objects. They could be freed twice."""

from __future__ import annotations

from typing import Any

import pytest
from support import loops

pytestmark = pytest.mark.skipif(loops.STOCK_ONLY, reason="asyncio has no such classes")


@pytest.mark.parametrize(
    "name",
    [
        "StreamTransport",
        "SSLTransport",
        "DatagramTransport",
        "ReadPipeTransport",
        "WritePipeTransport",
    ],
)
def test_only_loops_make_transports(name: str) -> None:
    from oxlip import _native

    ours: Any = getattr(_native, name)
    base: Any = ours.__base__
    assert base.__module__ == "oxlip._native"

    class Derived(base):  # type: ignore[misc]
        pass

    for make in (base, Derived, lambda: base.__new__(Derived), lambda: base.__new__(ours), ours):
        with pytest.raises(TypeError):
            make()
