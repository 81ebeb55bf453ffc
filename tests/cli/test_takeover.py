"""Under `oxlip run` every loop that a program makes is ours, however it makes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """\
import asyncio, selectors
import oxlip

async def which():
    return asyncio.get_running_loop()

def ours(loop):
    assert isinstance(loop, oxlip.EventLoop), loop
    assert loop.is_closed() or loop.run_until_complete(which()) is loop
    loop.close()
    print("ours", loop.driver)
"""

WAYS = {
    "run": "ours(asyncio.run(which()))",
    "new_event_loop": "ours(asyncio.new_event_loop())",
    "the policy": "ours(asyncio.get_event_loop_policy().new_event_loop())",
    "the default policy again": (
        "asyncio.set_event_loop_policy(None); ours(asyncio.new_event_loop())"
    ),
    "a policy of the program": (
        "class Policy(asyncio.DefaultEventLoopPolicy): pass\n"
        "asyncio.set_event_loop_policy(Policy())\n"
        "ours(asyncio.run(which()))"
    ),
    "the class": "ours(asyncio.SelectorEventLoop())",
    "a subclass": "class Mine(asyncio.SelectorEventLoop): pass\nours(Mine())",
    "the module's class": "import asyncio.unix_events as u; ours(u.SelectorEventLoop())",
    "oxlip": "ours(oxlip.new_event_loop()); ours(oxlip.run(which()))",
    "oxlip's policy": "oxlip.install(); ours(asyncio.new_event_loop())",
    "uvloop's loop": "import uvloop; ours(uvloop.new_event_loop()); ours(uvloop.Loop())",
    "uvloop.install": "import uvloop; uvloop.install(); ours(asyncio.run(which()))",
    "uvloop.run": "import uvloop; ours(uvloop.run(which(), debug=True))",
    "uvloop's policy": (
        "import uvloop\n"
        "asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())\n"
        "ours(asyncio.new_event_loop())"
    ),
    "isinstance": "assert isinstance(asyncio.new_event_loop(), asyncio.SelectorEventLoop)",
}
WAYS["streams"] = (
    "import asyncio.streams\n"
    "assert asyncio.start_server is asyncio.streams.start_server is oxlip.start_server\n"
    "ours(asyncio.new_event_loop())"
)
WAYS["tasks"] = (
    "async def task():\n"
    "    return type(asyncio.current_task())\n"
    "loop = asyncio.new_event_loop()\n"
    "assert loop.run_until_complete(task()) is oxlip.Task\n"
    "ours(loop)"
)
WAYS["primitives"] = (
    "lock = asyncio.Lock()\n"
    "assert type(lock) is oxlip.Lock and isinstance(lock, asyncio.Lock)\n"
    "ours(asyncio.new_event_loop())"
)
if sys.version_info >= (3, 11):
    WAYS["Runner"] = "with asyncio.Runner() as runner: loop = runner.run(which())\nours(loop)"
if sys.version_info >= (3, 12):
    WAYS["a loop factory"] = "ours(asyncio.run(which(), loop_factory=asyncio.SelectorEventLoop))"
if sys.version_info >= (3, 13):
    WAYS["EventLoop"] = "ours(asyncio.EventLoop())"


def start(
    program: str, *options: str, folder: Path, driver: str | None = None
) -> subprocess.CompletedProcess[str]:
    path = folder / "program.py"
    path.write_text(HEAD + program)
    environment = {name: value for name, value in os.environ.items() if name != "OXLIP_DRIVER"}
    if driver is not None:
        environment["OXLIP_DRIVER"] = driver
    python = (sys.executable, "-W", "ignore::DeprecationWarning")
    return subprocess.run(
        [*python, "-m", "oxlip", "run", *options, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
    )


@pytest.mark.parametrize("way", WAYS)
def test_every_loop_is_ours(tmp_path: Path, way: str) -> None:
    result = start(WAYS[way], "-q", folder=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_importing_oxlip_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import asyncio, sys\n"
        "def snapshot():\n"
        "    loop = asyncio.new_event_loop(); loop.close()\n"
        "    return dict(vars(asyncio)), type(loop), sys.modules.get('uvloop')\n"
        "before = snapshot()\n"
        "import oxlip, oxlip._cli\n"
        "after = snapshot()\n"
        "assert before == after\n"
    )
    subprocess.run([sys.executable, str(tmp_path / "program.py")], check=True, timeout=20)


def test_names_the_driver(tmp_path: Path) -> None:
    result = start("ours(asyncio.new_event_loop())", "--driver", "poll", folder=tmp_path)
    assert result.stdout == "ours poll\n"
    assert result.stderr.startswith("oxlip run: driver poll (")


@pytest.mark.parametrize("driver", ["poll", "select", "io_uring"])
def test_driver_from_the_environment(tmp_path: Path, driver: str) -> None:
    result = start("ours(asyncio.run(which()))", "-q", folder=tmp_path, driver=driver)
    assert result.stdout == f"ours {driver}\n"


def test_option_wins_over_the_environment(tmp_path: Path) -> None:
    options = ("-q", "--driver", "select")
    result = start("ours(asyncio.run(which()))", *options, folder=tmp_path, driver="poll")
    assert result.stdout == "ours select\n"


def test_selector_chooses_the_driver(tmp_path: Path) -> None:
    program = "ours(asyncio.SelectorEventLoop(selectors.PollSelector()))"
    assert start(program, "-q", folder=tmp_path).stdout == "ours poll\n"
    program = "ours(asyncio.SelectorEventLoop(selector=selectors.SelectSelector()))"
    assert start(program, "-q", folder=tmp_path).stdout == "ours select\n"


def test_unknown_driver_is_one_line(tmp_path: Path) -> None:
    result = start("", "--driver", "abacus", folder=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("oxlip run: ") and "abacus" in line and "epoll" in line
