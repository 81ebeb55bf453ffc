"""Runs a program as `python PROGRAM` and `python -m MODULE` do, in this process.

The program gets its own `__main__`, `sys.argv` and `sys.path[0]`; what it raises is not caught. A
program that cannot be found is one line on standard error and the interpreter's own exit status.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import io
import os
import pkgutil
import runpy
import sys
from types import ModuleType


def run_path(path: str, arguments: list[str]) -> None:
    """Runs a source file, or the `__main__` of a folder or zip archive."""
    # Absolute, but otherwise as it was typed.
    absolute = os.path.join(os.getcwd(), path)
    if pkgutil.get_importer(absolute) is not None:
        _begin([path, *arguments])
        sys.path.insert(0, absolute)
        _run_as_main("__main__", alter_argv=False)
        return
    try:
        with io.open_code(absolute) as file:
            source = file.read()
    except OSError as error:
        print(f"oxlip run: cannot open {absolute!r}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    main = _begin([path, *arguments], os.path.dirname(os.path.realpath(path)))
    main.__file__ = absolute
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", absolute)
    if sys.version_info < (3, 15):
        main.__dict__["__cached__"] = None
    exec(compile(source, absolute, "exec", dont_inherit=True), main.__dict__)


def run_module(name: str, arguments: list[str]) -> None:
    """Runs a module, or the `__main__` of a package."""
    _begin(["-m", *arguments], os.getcwd())
    _run_as_main(name, alter_argv=True)


def _begin(argv: list[str], *folders: str) -> ModuleType:
    """Sets up what the interpreter does before a program; returns the new, empty `__main__`."""
    sys.argv = argv
    # Without `-P` the first entry is the folder of whatever was started, here of oxlip itself.
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        sys.path[:1] = folders
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    sys.modules["__main__"] = main
    return main


def _run_as_main(name: str, *, alter_argv: bool) -> None:
    # What the interpreter itself calls for `-m`. The public run_module() takes the program's
    # `__main__` away when its last statement is done, while its threads and atexit calls live on.
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]
