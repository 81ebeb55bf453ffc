"""The module was made more than once: in subinterpreters that share the GIL, by a new import."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import loops

pytestmark = pytest.mark.skipif(loops.STOCK_ONLY, reason="without oxlip")

IMPORT = """
import sys
try:
    from oxlip import _native
except ImportError as error:
    print("subinterpreters" in str(error))
else:
    print("imported")
sys.stdout.flush()
"""

INTERPRETERS = """
import sys
order, code = sys.argv[1:]
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    make = lambda: interpreters.create("legacy")
else:
    import _xxsubinterpreters as interpreters
    make = lambda: interpreters.create(isolated=False)
if order == "main first":
    import oxlip
for _ in range(2):
    made = make()
    interpreters.run_string(made, code)
    interpreters.destroy(made)
import asyncio, oxlip
async def program():
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
    return "runs"
print(oxlip.run(program()))
"""

AGAIN = """
import asyncio, sys
import oxlip
for name in [name for name in sys.modules if name.partition(".")[0] == "oxlip"]:
    del sys.modules[name]
try:
    import oxlip as other
except ImportError as error:
    print("once" in str(error))
print(oxlip.run(asyncio.sleep(0, "runs")))
"""


def printed_by(program: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("order", ["main first", "subinterpreter first"])
def test_subinterpreters_are_refused(order: str) -> None:
    assert printed_by(INTERPRETERS, order, IMPORT) == ["True", "True", "runs"]


def test_module_is_made_once() -> None:
    assert printed_by(AGAIN) == ["True", "runs"]
