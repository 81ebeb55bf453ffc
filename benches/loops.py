"""Loop names, and what makes the loop of each.

Imported by the measured processes, each of which sees one release of each library: the runner puts
the contestant's folder on their path. `python benches/loops.py NAME` prints what NAME is, as JSON.
"""

import asyncio
import importlib
import importlib.metadata
import json
import sys
from typing import Any

# What the servers of the benchmark need, and whose releases are named in the results.
FRAMEWORKS = ("uvicorn", "httptools", "aiohttp", "tornado", "trustme")


def library(name: str) -> str:
    """The distribution that the loop `name` comes from: the part before the first dash."""
    return name.partition("-")[0]


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """A new event loop by its name in the benchmark.

    `aiofastnet` is a uvloop whose transports are that library's, `oxlip-installed` is after
    `oxlip.install()`, `oxlip-DRIVER` asks for that driver (`oxlip-installed-DRIVER`: both),
    `uvloop-RELEASE` insists on that release: another one on the path is an ImportError, and so is a
    library that is not there.
    """
    kind, _, detail = name.partition("-")
    if kind == "asyncio":
        return asyncio.SelectorEventLoop()
    module = importlib.import_module(kind)
    if kind == "oxlip":
        if detail.startswith("installed"):
            module.install()
            detail = detail.removeprefix("installed").removeprefix("-")
        ours: Any = module.EventLoop(driver=detail or None)
        if detail not in ("", ours.driver):
            ours.close()
            raise OSError(ours._driver_reason)
        loop: asyncio.AbstractEventLoop = ours
        return loop
    found = importlib.metadata.version(kind)
    if detail not in ("", found):
        raise ImportError(f"{kind} {detail} was wanted, {found} is what was found")
    if kind == "aiofastnet":
        make = module.loop_factory(importlib.import_module("uvloop").new_event_loop)
    else:
        make = module.new_event_loop
    loop = make()
    return loop


def describe(name: str) -> dict[str, str]:
    """Release and class of the loop, its driver if it has one, and the frameworks' releases."""
    loop = new_loop(name)
    try:
        kind = library(name)
        python = ".".join(str(part) for part in sys.version_info[:3])
        facts = {
            "release": python if kind == "asyncio" else importlib.metadata.version(kind),
            "class": f"{type(loop).__module__}.{type(loop).__qualname__}",
        }
        driver = getattr(loop, "driver", None)
        if isinstance(driver, str):
            facts["driver"] = driver
    finally:
        loop.close()
    for framework in FRAMEWORKS:
        facts[framework] = importlib.metadata.version(framework)
    return facts


if __name__ == "__main__":
    print(json.dumps(describe(sys.argv[1])))
