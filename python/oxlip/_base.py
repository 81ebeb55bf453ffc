"""What the parts of the loop may assume of `self`.

`oxlip.EventLoop` is put together from parts, one subject a file, over the native loop. A part
sees the native methods and those of `asyncio.AbstractEventLoop`; a part that needs another part
derives from it. At run time `LoopBase` is nothing: the native loop is a base of `EventLoop`
alone, so that its methods are found without a detour through the parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from . import _native

    class LoopBase(_native.EventLoop, asyncio.AbstractEventLoop): ...

else:

    class LoopBase:
        __slots__ = ()

        def __init__(self):
            """The end of the line: asyncio's base class keeps its state elsewhere."""
