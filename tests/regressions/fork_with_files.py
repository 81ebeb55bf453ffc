"""A program that forks while a file is read, and goes on with the file in the child."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile

import oxlip
from oxlip import _file_raw


async def main(path: str) -> None:
    async with oxlip.open(path, "w+") as f:
        await f.write("parent\n")
        await f.seek(0)
        # Then what is read is waited for.
        _file_raw.RawFile.fetch_now = lambda *_: False  # type: ignore[method-assign]
        reading = asyncio.ensure_future(f.read())
        await asyncio.sleep(0)
        has_read, says_so = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                assert await reading == "parent\n"
                os.read(has_read, 1)  # the parent may look for the end of the file meanwhile
                await f.write("child\n")
                await f.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert await reading == "parent\n"
        os.write(says_so, b"x")
        _, status = os.waitpid(child, 0)
        assert status == 0
    with open(path) as written:
        assert written.read() == "parent\nchild\n"


loop = oxlip.EventLoop(driver=sys.argv[1].removeprefix("oxlip-"))
with tempfile.NamedTemporaryFile() as scratch:
    loop.run_until_complete(asyncio.wait_for(main(scratch.name), 10))
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
print("works")
