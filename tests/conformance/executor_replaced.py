"""A program: a library has replaced the pool's `submit()` before the loop is imported.

    executor_replaced.py KIND

It prints what the library sees.
"""

from __future__ import annotations

import concurrent.futures.thread as pools
import sys
from typing import Any

submit = pools.ThreadPoolExecutor.submit


def tracing(self: Any, fn: Any, /, *args: Any) -> Any:
    sys.stdout.write(f"{fn.__name__}\n")
    return submit(self, fn, *args)


pools.ThreadPoolExecutor.submit = tracing  # type: ignore[method-assign, assignment]

from support import loops  # noqa: E402

loop = loops.factory(sys.argv[1])()
loop.run_until_complete(loop.run_in_executor(None, abs, -1))
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
