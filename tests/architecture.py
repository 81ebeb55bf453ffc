"""Holds the layers: who may import whom, where `unsafe` may stand, which names are not used.

Runs alone (`python tests/architecture.py` prints the table of file sizes and every problem, and
exits 1 if there is one) and in pytest (test_architecture.py). Each check takes the root of a source
tree and returns one line per problem. ARCHITECTURE.md says why the rules are what they are.

The sources are read as text, with comments, strings and the tests at a file's end left out. That is
enough to hold a rule nobody is trying to break.
"""

from __future__ import annotations

import ast
import fnmatch
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent

# Normal dependencies. What a crate uses only in its tests or benchmarks is its own affair, as long
# as it does not turn an arrow round (see `dependencies`).
DEPENDENCIES = {
    "oxlip-selectors": {"rustix"},
    "oxlip-core": set(),
    "oxlip-driver": {"oxlip-core", "oxlip-selectors", "io-uring", "libc", "rustix"},
    "oxlip": {"oxlip-core", "oxlip-driver"},
    "oxlip-python": {
        "oxlip-core",
        "oxlip-driver",
        "memchr",
        "pyo3",
        "rustix",
    },
}


class Barrier(NamedTuple):
    """Files in which some words must not occur."""

    files: str
    words: str
    reason: str
    but: tuple[str, ...] = ()


OS = r"rustix|libc|std::os|std::fs|std::env|std::process|TcpStream|TcpListener|UdpSocket"

BARRIERS = (
    Barrier("crates/core/*", OS, "the core sees no operating system"),
    Barrier("crates/core/*", r"Instant|SystemTime|thread::", "the core has no clock and no thread"),
    Barrier("crates/core/*", r"oxlip_\w+|pyo3", "the core imports nothing of ours"),
    *(
        Barrier(
            f"crates/core/src/{machine}*",
            r"crate::(tick|timers|inbox)",
            "a machine does not see the tick",
        )
        for machine in ("stream", "datagram", "listener", "connect", "tls", "flow", "write_queue")
    ),
    *(
        Barrier(
            f"crates/core/src/{tick}*",
            r"crate::(stream|datagram|listener|connect|tls|flow|write_queue)",
            "the tick does not see the machines",
        )
        for tick in ("tick", "timers", "inbox")
    ),
    Barrier("crates/selectors/*", r"oxlip_(core|driver)|pyo3", "selectors stand alone"),
    Barrier(
        "crates/driver/*",
        r"oxlip_selectors",
        "only the readiness driver knows the multiplexers",
        but=("crates/driver/src/readiness/*",),
    ),
    *(
        Barrier(f"crates/driver/src/{driver}/*", others, "drivers do not see each other")
        for driver, others in (
            ("readiness", r"crate::(sim|uring)"),
            ("uring", r"crate::sim"),
            ("sim", r"crate::(readiness|uring)"),
        )
    ),
    Barrier(
        "crates/driver/*",
        r"io_uring::",
        "only its driver knows io_uring",
        but=("crates/driver/src/uring/*",),
    ),
    Barrier("crates/driver/src/sim/*", rf"{OS}|crate::net", "the simulation sees only the core"),
    Barrier("crates/driver/*", r"pyo3", "Python is known in one crate"),
    Barrier("crates/runtime/*", r"pyo3|oxlip_selectors", "the runtime stands on driver and core"),
    Barrier("crates/python/*", r"oxlip_selectors", "the extension stands on driver and core"),
)

# Files that may contain `unsafe`, each with the reason. Patterns as in a shell, * crosses folders.
UNSAFE = {
    "crates/selectors/src/backend/*.rs": "descriptors are plain numbers, borrowed for one call",
    "crates/driver/src/files.rs": "preadv2(2) into memory without a value has no safe form",
    "crates/driver/src/kernel_tls.rs": "options and messages that rustix does not know",
    "crates/driver/src/readiness/batch.rs": "recvmmsg(2) has no safe form",
    "crates/driver/src/readiness/offload.rs": "options that rustix does not know",
    "crates/driver/src/uring/buffers.rs": "the kernel writes to memory of ours",
    "crates/driver/src/uring/peer.rs": "an option that rustix does not know",
    "crates/driver/src/uring/region.rs": "mmap(2): memory that no allocator gives to others",
    "crates/driver/src/uring/ring.rs": "requests point to memory",
    "crates/python/src/awaited.rs": "as ffi.rs",
    "crates/python/src/buffer.rs": "bytes of Python objects are sent without a copy",
    "crates/python/src/context/mod.rs": "entering and leaving a context has no safe call",
    "crates/python/src/context/snapshot.rs": "whether two contexts are equal has no call at all",
    "crates/python/src/ffi.rs": "vectorcall has no safe call",
    "crates/python/src/fields.rs": "a cell that counts no borrows",
    "crates/python/src/finalizing.rs": "stands in for functions of the C API",
    "crates/python/src/handle/args.rs": "vectorcall has no safe call",
    "crates/python/src/handle/callback.rs": "a frozen object changes in its critical section",
    "crates/python/src/handle/collector.rs": "what the cycle collector follows has no safe call",
    "crates/python/src/handle/freed.rs": "objects that end are used again",
    "crates/python/src/handle/timer.rs": "as callback.rs",
    "crates/python/src/kept.rs": "objects that end are used again",
    "crates/python/src/methods.rs": "methods that CPython calls without a tuple",
    "crates/python/src/names.rs": "what a dict of a known version refers to",
    "crates/python/src/native_base.rs": "types of known layout for PyO3 (ADR 4, ADR 12)",
    "crates/python/src/loop_/fastcall.rs": "methods that CPython calls without a tuple",
    "crates/python/src/loop_/files.rs": "a number of the user, and how much has been read",
    "crates/python/src/loop_/sock.rs": "system calls on numbers and buffers of the user",
    "crates/python/src/primitives/condition.rs": "says which fields members are",
    "crates/python/src/primitives/event.rs": "says which field a member is",
    "crates/python/src/primitives/member.rs": "a field that the interpreter reads and writes",
    "crates/python/src/primitives/task_group.rs": "as event.rs",
    "crates/python/src/prompt/*.rs": "slots of types that PyO3 calls with detours",
    "crates/python/src/py_buffer.rs": "a view of an object's memory",
    "crates/python/src/streams/bytes.rs": "a bytearray is looked at and extended in place",
    "crates/python/src/room.rs": "a bytes object is filled before anybody sees it",
    "crates/python/src/owner.rs": "a cell that checks the thread instead of locking",
    "crates/python/src/tasks/awaiting.rs": "slots of types that PyO3 calls with detours",
    "crates/python/src/tasks/base.rs": "types of known layout for PyO3 (ADR 12)",
    "crates/python/src/tasks/calls.rs": "as loop_/fastcall.rs",
    "crates/python/src/tasks/core.rs": "as handle/callback.rs",
    "crates/python/src/tasks/current_of_thread.rs": "it is in the thread's state (ADR 12)",
    "crates/python/src/tasks/end.rs": "PyO3 knows no finalizers",
    "crates/python/src/tasks/part.rs": "what asyncio keeps in its own part of a task (ADR 12)",
    "crates/python/src/tasks/step.rs": "sending to a coroutine has no safe call",
    "crates/python/src/tasks/task.rs": "as handle/callback.rs",
    "crates/python/src/tasks/told.rs": "whether somebody else refers to an object has no safe call",
    "crates/python/src/tasks/unlisted.rs": "references that are not counted",
    "crates/python/src/tls/codec/libssl.rs": "OpenSSL's functions on an `SSL` of `_ssl`'s (ADR 9)",
    "crates/python/src/tls/codec/symbols.rs": "looks these functions up, and tries them out",
    "crates/python/src/tls/codec/wire.rs": "a BIO of ours below it, which OpenSSL calls",
    "crates/python/src/transport/calls.rs": "as methods.rs",
    "crates/python/src/transport/base.rs": "a type of known layout for PyO3 (ADR 4)",
    "crates/python/src/transport/begin.rs": "a descriptor is taken out of a socket object",
    "crates/python/src/transport/body.rs": "as handle/callback.rs",
    "crates/python/src/transport/direct.rs": "so much has been filled, the driver says",
}

# Words that say nothing about what a thing is; `reactor` is the driver, `engine` the embedder.
EMPTY_NAMES = {"common", "engine", "handler", "helper", "manager", "processor", "reactor", "util"}
# asyncio's words keep asyncio's meaning.
ASYNCIO_NAMES = re.compile(r"(exception|signal)_?handler", re.IGNORECASE)

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|unimplemented!|todo!|dbg!)")

SMELL = 600
LIMIT = 800


class Source(NamedTuple):
    """One Rust file, without what the checks must not see."""

    path: str
    lines: list[str]
    """The whole text, line by line."""
    code: list[str]
    """The same lines without comments and strings, up to the tests at the end."""


def rust(root: Path) -> Iterator[Source]:
    """Every Rust file of the crates; `tests/`, `benches/` and `examples/` of a crate are not."""
    files = [*root.glob("crates/*/src/**/*.rs"), *root.glob("benches/**/*.rs")]
    for path in sorted([*files, *root.glob("fuzz/fuzz_targets/**/*.rs")]):
        lines = path.read_text(encoding="utf-8").splitlines()
        name = path.relative_to(root).as_posix()
        # A folder's tests.rs is what `#[cfg(test)] mod tests` at a file's end would be.
        tests = path.name == "tests.rs" or "tests" in path.parent.parts
        yield Source(name, lines, [] if tests else code_of(lines))


def code_of(lines: list[str]) -> list[str]:
    """The lines without comments and strings, up to the tests at the end."""
    code = []
    for line in lines:
        if line.startswith(("#[cfg(test)]", "#[cfg(all(test", "#[cfg(all(loom, test")):
            break
        line = line.replace("'\"'", "' '")
        line = re.sub(r'"(\\.|[^"\\])*"', '""', line)
        code.append(re.sub(r"//.*", "", line))
    return code


def python(root: Path) -> list[Path]:
    """The package's modules."""
    return sorted(root.glob("python/oxlip/**/*.py"))


def packages(root: Path) -> list[dict[str, Any]]:
    """What cargo says about the workspace's packages."""
    answer = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found: list[dict[str, Any]] = json.loads(answer.stdout)["packages"]
    return found


def dependencies(found: list[dict[str, Any]]) -> list[str]:
    """A crate depends on what the table allows; in its tests, on nothing above it either."""
    problems = []
    for package in found:
        name = package["name"]
        if name not in DEPENDENCIES:
            continue
        for dependency in package["dependencies"]:
            other = dependency["name"]
            allowed = other in DEPENDENCIES[name]
            if dependency["kind"] is not None:
                allowed = allowed or not other.startswith("oxlip")
            elif dependency.get("target") == "cfg(loom)":
                allowed = allowed or other == "loom"
            if not allowed:
                problems.append(f"{name} must not depend on {other}")
    return problems


def arrows(root: Path) -> list[str]:
    """The barriers between and inside the crates."""
    problems = []
    for source in rust(root):
        barriers = [
            barrier
            for barrier in BARRIERS
            if fnmatch.fnmatch(source.path, barrier.files)
            and not any(fnmatch.fnmatch(source.path, pattern) for pattern in barrier.but)
        ]
        for number, line in enumerate(source.code, 1):
            for barrier in barriers:
                if found := re.search(rf"\b({barrier.words})(?!\w)", line):
                    problems.append(f"{source.path}:{number}: {found[0]}: {barrier.reason}")
    return problems


def imports(root: Path) -> list[str]:
    """The Python package needs nothing but itself and the standard library."""
    problems = []
    for path in python(root):
        name = path.relative_to(root).as_posix()
        for node in run_time(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for imported in names:
                top = imported.partition(".")[0]
                if top != "oxlip" and top not in sys.stdlib_module_names:
                    problems.append(f"{name}: imports {top}, which is not in the standard library")
    return problems


def run_time(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module, without what is there for type checkers only."""
    yield node
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        children: list[ast.AST] = [*node.orelse]
    else:
        children = [*ast.iter_child_nodes(node)]
    for child in children:
        yield from run_time(child)


def unsafe(root: Path) -> list[str]:
    """`unsafe` stands only in the files of the list, each time with its reason."""
    problems = []
    used = set()
    for source in rust(root):
        if not source.path.startswith("crates/"):
            continue
        pattern = next((p for p in UNSAFE if fnmatch.fnmatch(source.path, p)), None)
        for index, line in enumerate(source.code):
            if not re.search(r"\bunsafe\b", line):
                continue
            # What a function demands is no claim yet: the blocks in it, and of its callers, are.
            claim = re.search(r"\bunsafe(?! (extern \"\" )?fn\b)", line)
            if pattern is None:
                problems.append(f"{source.path}:{index + 1}: unsafe in a file that is not listed")
            elif claim and not is_argued(source.lines, index):
                problems.append(f"{source.path}:{index + 1}: unsafe without a SAFETY comment")
            used.add(pattern)
    problems += [f"{pattern}: listed, but has no unsafe" for pattern in UNSAFE.keys() - used]
    return problems


def is_argued(lines: list[str], index: int) -> bool:
    """Whether the statement of this line, or the comment above it, says why it is sound."""
    argued = re.compile(r"SAFETY:|# Safety")
    if argued.search(lines[index]):
        return True
    for line in reversed(lines[:index]):
        text = line.strip()
        if argued.search(text):
            return True
        if not text or (text.endswith((";", "{", "}")) and not text.startswith("//")):
            return False
    return False


def names(root: Path) -> list[str]:
    """Modules and types are called what they are."""
    problems = []
    files = [Path(source.path) for source in rust(root)]
    files += [path.relative_to(root) for path in [*python(root), *root.glob("tests/**/*.py")]]
    for path in files:
        for part in (*path.parts[:-1], path.stem):
            if empty := EMPTY_NAMES & words(part):
                problems.append(f"{path.as_posix()}: {empty.pop()!r} says nothing")
    for source in rust(root):
        for number, line in enumerate(source.code, 1):
            for kind, name in re.findall(r"\b(struct|enum|trait|type|mod) (\w+)", line):
                if empty := EMPTY_NAMES & words(name):
                    problems.append(f"{source.path}:{number}: {kind} {name}: {empty.pop()!r}")
    for path in python(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and (empty := EMPTY_NAMES & words(node.name)):
                place = f"{path.relative_to(root).as_posix()}:{node.lineno}"
                problems.append(f"{place}: class {node.name}: {empty.pop()!r}")
    return problems


def words(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name, in the singular."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", ASYNCIO_NAMES.sub("", name))
    return {part.lower().removesuffix("s") for part in parts}


def unfinished(root: Path) -> list[str]:
    """Nothing is left for later."""
    files = [*root.glob("crates/**/*.rs"), *root.glob("benches/**/*.rs"), *python(root)]
    files += root.glob("fuzz/fuzz_targets/**/*.rs")
    return [
        f"{path.relative_to(root).as_posix()}:{number}: {found[0]}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := UNFINISHED.search(line))
    ]


def sizes(root: Path) -> dict[str, dict[str, int]]:
    """Lines by part and file, without the tests at a file's end."""
    table: dict[str, dict[str, int]] = {}
    for source in rust(root):
        if source.code:
            part = "/".join(source.path.split("/")[:2])
            table.setdefault(part, {})[source.path] = len(source.code)
    for path in [*python(root), *root.glob("benches/**/*.py")]:
        name = path.relative_to(root).as_posix()
        lines = len(path.read_text(encoding="utf-8").splitlines())
        part = "benches" if name.startswith("benches/") else "python/oxlip"
        table.setdefault(part, {})[name] = lines
    return table


def too_long(root: Path) -> list[str]:
    """A file that has to be scrolled for ever has more than one subject."""
    return [
        f"{path}: {lines} lines, the limit is {LIMIT}"
        for files in sizes(root).values()
        for path, lines in files.items()
        if lines > LIMIT
    ]


def print_sizes(root: Path) -> None:
    """One row for each part, then the files that are becoming too long."""
    table = sizes(root)
    print(f"{'part':24}{'files':>6}{'lines':>8}{'median':>8}  largest")
    for part, files in table.items():
        largest = max(files, key=files.__getitem__)
        median = int(statistics.median(files.values()))
        row = f"{part:24}{len(files):6}{sum(files.values()):8}{median:8}"
        print(f"{row}  {files[largest]:4} {largest.removeprefix(part + '/')}")
    for files in table.values():
        for path, lines in files.items():
            if lines > SMELL:
                print(f"smells: {path} has {lines} lines (more than {SMELL})")


def workspace(root: Path) -> list[str]:
    """The crates' manifests."""
    return dependencies(packages(root))


CHECKS: tuple[Callable[[Path], list[str]], ...] = (
    workspace,
    arrows,
    imports,
    unsafe,
    names,
    unfinished,
    too_long,
)


def main() -> int:
    """Prints the sizes and every problem; 1 if there is one."""
    print_sizes(ROOT)
    problems = [problem for check in CHECKS for problem in check(ROOT)]
    for problem in problems:
        print(f"architecture: {problem}")
    print(f"architecture: {len(CHECKS)} checks, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
