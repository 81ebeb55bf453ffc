"""The command `oxlip`: run a program on our loops, show what this machine has, measure a little."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import _bench, _doctor, _program, _takeover
from ._native import __version__

RUN = """\
Runs a Python program so that every event loop it makes is oxlip's: through asyncio.run, Runner,
new_event_loop and policies, by the name asyncio.SelectorEventLoop, or through uvloop, which is
replaced by a module of that name that gives oxlip's loops. Processes that it forks make
oxlip's loops, too; other programs that it starts are not touched.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line; ends with `SystemExit` if anything but 0 is to be returned."""
    arguments = _parser().parse_args(argv)
    status = arguments.command(arguments)
    if status:
        sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oxlip", description="asyncio, whole, in Rust.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"oxlip {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run",
        help="run a program on oxlip's loops",
        description=RUN,
        usage="oxlip run [-q] [--driver NAME] (PROGRAM | -m MODULE) [ARGS ...]",
        allow_abbrev=False,
    )
    run.add_argument("-q", "--quiet", action="store_true", help="do not name the driver on stderr")
    run.add_argument("--driver", metavar="NAME", help="instead of the best one, see `oxlip doctor`")
    run.add_argument(
        "-m",
        dest="module",
        metavar="MODULE [ARGS ...]",
        nargs=argparse.REMAINDER,
        help="a module, as in `python -m`",
    )
    run.add_argument(
        "program",
        metavar="PROGRAM [ARGS ...]",
        nargs=argparse.REMAINDER,
        help="a file, folder or zip archive, as in `python PROGRAM`",
    )
    run.set_defaults(command=_command_run, error=run.error)

    doctor = commands.add_parser(
        "doctor", help="which driver, why, versions and limits", allow_abbrev=False
    )
    doctor.set_defaults(command=_command_doctor)

    bench = commands.add_parser(
        "bench", help="a short comparison with asyncio in this process", allow_abbrev=False
    )
    bench.set_defaults(command=_command_bench)
    return parser


def _command_run(arguments: argparse.Namespace) -> int:
    command = arguments.module or arguments.program
    if not command:
        arguments.error("say what to run: a PROGRAM or -m MODULE")
    if arguments.driver is not None:
        os.environ["OXLIP_DRIVER"] = arguments.driver
    try:
        loop = _takeover.SelectorEventLoop()
    except (OSError, ValueError) as error:
        print(f"oxlip run: {error}", file=sys.stderr)
        return 2
    if not arguments.quiet:
        print(f"oxlip run: driver {loop.driver} ({loop._driver_reason})", file=sys.stderr)
    loop.close()

    _takeover.take_over()
    name, *rest = command
    if arguments.module:
        _program.run_module(name, rest)
    else:
        _program.run_path(name, rest)
    return 0


def _command_doctor(_: argparse.Namespace) -> int:
    rows, works = _doctor.report()
    for name, value in rows:
        print(f"{name:14}{value}")
    return 0 if works else 1


def _command_bench(_: argparse.Namespace) -> int:
    _bench.main()
    return 0
