"""`oxlip run` starts a program exactly as `python` does: the same program is run by both."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

REPORT = """\
import json, sys
main = sys.modules["__main__"]
print(json.dumps({
    "argv": sys.argv,
    "path": sys.path[0],
    "is_main": main.__dict__ is globals(),
    "names": sorted(name for name in main.__dict__ if name.startswith("__")),
    "name": __name__,
    "file": __file__,
    "package": __package__,
    "spec": repr(__spec__ and __spec__.name),
    "loader": type(__loader__).__name__,
    "builtins": type(__builtins__).__name__,
}))
"""

WITH_OXLIP = (sys.executable, "-m", "oxlip", "run", "-q")
WITH_PYTHON = (sys.executable,)


def start(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=20)


def said(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "report.py").write_text(REPORT)
    (tmp_path / "programs" / "__main__.py").write_text(REPORT)
    (tmp_path / "linked.py").symlink_to(tmp_path / "programs" / "report.py")
    with zipfile.ZipFile(tmp_path / "report.zip", "w") as archive:
        archive.writestr("__main__.py", REPORT)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(REPORT)
    (package / "report.py").write_text(REPORT)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ["programs/report.py"],
        ["programs/report.py", "-q", "--driver", "x", "-m", "--", "a b"],
        ["./programs/../programs/report.py", "x"],
        ["linked.py"],
        ["programs", "x"],
        ["report.zip", "-x"],
        ["-m", "package", "x"],
        ["-m", "package.report", "-q", "--driver", "-m", "x"],
    ],
    ids=" ".join,
)
def test_as_python_itself(folder: Path, command: list[str]) -> None:
    ours = said(start(*WITH_OXLIP, *command, cwd=folder))
    assert ours == said(start(*WITH_PYTHON, *command, cwd=folder))
    assert ours["is_main"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="-P came with Python 3.11")
@pytest.mark.parametrize("program", ["programs/report.py", "programs"])
def test_as_python_itself_with_a_safe_path(folder: Path, program: str) -> None:
    ours = start(sys.executable, "-P", *WITH_OXLIP[1:], program, cwd=folder)
    assert said(ours) == said(start(sys.executable, "-P", program, cwd=folder))


@pytest.mark.parametrize(
    "text",
    [
        "raise SystemExit(7)",
        "raise SystemExit('a message')",
        "1 / 0",
        "def f(:",
        "import atexit, sys; atexit.register(lambda: print(sys.modules[__name__].x)); x = 1",
        "import threading; threading.Thread(target=lambda: print(__name__)).start()",
    ],
)
def test_ends_as_under_python(tmp_path: Path, text: str) -> None:
    (tmp_path / "program.py").write_text(text)
    ours = start(*WITH_OXLIP, "program.py", cwd=tmp_path)
    theirs = start(*WITH_PYTHON, "program.py", cwd=tmp_path)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    assert ours.stderr.splitlines()[-1:] == theirs.stderr.splitlines()[-1:]


def test_program_that_does_not_exist(tmp_path: Path) -> None:
    result = start(*WITH_OXLIP, "nowhere.py", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"oxlip run: cannot open {str(tmp_path / 'nowhere.py')!r}: No such file or directory"
    ]


def test_module_that_does_not_exist(tmp_path: Path) -> None:
    ours = start(*WITH_OXLIP, "-m", "nowhere.at_all", cwd=tmp_path)
    theirs = start(*WITH_PYTHON, "-m", "nowhere.at_all", cwd=tmp_path)
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr)
