"""The layers hold, and each check of architecture.py notices the slip it is there for."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def load() -> ModuleType:
    """architecture.py is a program: it is on nobody's import path."""
    spec = importlib.util.spec_from_file_location(
        "architecture", Path(__file__).with_name("architecture.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


architecture = load()


@pytest.mark.parametrize("check", architecture.CHECKS, ids=lambda check: check.__name__)
def test_layers_hold(check: Callable[[Path], list[str]]) -> None:
    if check is architecture.workspace and shutil.which("cargo") is None:
        pytest.skip("cargo is not installed")
    assert check(architecture.ROOT) == []


def planted(root: Path, path: str, text: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("crates/core/src/tick.rs", "use std::time::Instant;"),
        ("crates/core/src/tick.rs", "use std::os::fd::OwnedFd;"),
        ("crates/core/src/tick.rs", "use crate::stream::Stream;"),
        ("crates/core/src/stream/mod.rs", "use crate::timers::Timers;"),
        ("crates/core/src/id.rs", "use oxlip_driver::Driver;"),
        ("crates/selectors/src/lib.rs", "use oxlip_core::id::Id;"),
        ("crates/driver/src/lib.rs", "use oxlip_selectors::event::Event;"),
        ("crates/driver/src/readiness/mod.rs", "use crate::sim::Sim;"),
        ("crates/driver/src/sim/mod.rs", "use crate::readiness::Readiness;"),
        ("crates/driver/src/sim/mod.rs", "use rustix::fd::OwnedFd;"),
        ("crates/runtime/src/lib.rs", "use pyo3::Python;"),
        ("crates/python/src/handle.rs", "use oxlip_selectors::selector::Selector;"),
    ],
)
def test_arrow_the_wrong_way(tmp_path: Path, path: str, line: str) -> None:
    root = planted(tmp_path, path, f"//! Head.\n{line}\n")
    assert [problem.split(": ")[0] for problem in architecture.arrows(root)] == [f"{path}:2"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("crates/core/src/tick.rs", '// as with std::os\nlet s = "rustix"; // crate::stream\n'),
        ("crates/core/src/tick.rs", "#[cfg(test)]\nmod tests {\n    use std::time::Instant;\n}\n"),
        ("crates/core/src/stream/tests.rs", "use std::time::Instant;\n"),
        ("crates/driver/src/readiness/mod.rs", "use oxlip_selectors::event::Event;\n"),
        ("crates/driver/src/readiness/mod.rs", "use crate::similar::Thing;\n"),
    ],
)
def test_what_is_no_arrow(tmp_path: Path, path: str, text: str) -> None:
    assert architecture.arrows(planted(tmp_path, path, text)) == []


def test_dependency_the_wrong_way() -> None:
    def package(name: str, other: str, kind: str | None) -> dict[str, object]:
        return {"name": name, "dependencies": [{"name": other, "kind": kind}]}

    def problems(*found: dict[str, object]) -> list[str]:
        result: list[str] = architecture.dependencies(list(found))
        return result

    assert problems(package("oxlip-core", "rustix", None)) != []
    assert problems(package("oxlip-core", "oxlip-driver", "dev")) != []
    assert problems(package("oxlip-driver", "pyo3", None)) != []
    assert problems(package("oxlip-core", "proptest", "dev")) == []
    assert problems(package("oxlip-driver", "oxlip-core", None)) == []


def test_foreign_import(tmp_path: Path) -> None:
    text = "import asyncio\nimport aiohttp.web\nfrom . import _native\nfrom oxlip import run\n"
    text += "if TYPE_CHECKING:\n    from _typeshed import ReadableBuffer\n"
    problems = architecture.imports(planted(tmp_path, "python/oxlip/_loop.py", text))
    assert len(problems) == 1 and "aiohttp" in problems[0]


def test_unsafe_needs_a_place_and_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architecture, "UNSAFE", {"crates/driver/src/wake/*": "a reason"})
    argued = "fn f() {\n    // SAFETY: it is.\n    let x =\n        unsafe { g() };\n}\n"
    argued += '\nunsafe extern "C" fn demands() {}\n'
    bare = "// SAFETY: of another\nlet y = 1;\nlet x = unsafe { g() };\n"

    assert architecture.unsafe(planted(tmp_path, "crates/driver/src/wake/a.rs", argued)) == []
    [problem] = architecture.unsafe(planted(tmp_path, "crates/driver/src/wake/b.rs", bare))
    assert "wake/b.rs:3" in problem and "SAFETY" in problem
    problems = architecture.unsafe(planted(tmp_path, "crates/core/src/a.rs", argued))
    assert [problem.split(": ")[0] for problem in problems if "not listed" in problem] == [
        "crates/core/src/a.rs:4",
        "crates/core/src/a.rs:7",
    ]


def test_unsafe_list_is_not_longer_than_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(architecture, "UNSAFE", {"crates/driver/src/wake/*": "a reason"})
    [problem] = architecture.unsafe(tmp_path)
    assert "has no unsafe" in problem


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("crates/core/src/utils.rs", ""),
        ("crates/core/src/engine/mod.rs", ""),
        ("crates/core/src/tick.rs", "pub struct EventManager;\n"),
        ("python/oxlip/_helpers.py", ""),
        ("python/oxlip/_loop.py", "class WriteHandler:\n    pass\n"),
        ("tests/conformance/util.py", ""),
    ],
)
def test_empty_names(tmp_path: Path, path: str, text: str) -> None:
    assert len(architecture.names(planted(tmp_path, path, text))) == 1


def test_names_that_only_look_alike(tmp_path: Path) -> None:
    text = "pub struct TimerHandle;\nmod utility_of_nothing {}\n"
    assert architecture.names(planted(tmp_path, "crates/core/src/handle.rs", text)) == []


def test_names_of_asyncio(tmp_path: Path) -> None:
    root = planted(tmp_path, "tests/conformance/test_signal_handlers.py", "")
    assert architecture.names(root) == []
    text = "pub struct ExceptionHandler;\n"
    assert architecture.names(planted(root, "crates/core/src/a.rs", text)) == []


def test_unfinished_work(tmp_path: Path) -> None:
    root = planted(tmp_path, "crates/core/src/tick.rs", "fn f() {\n    todo!()\n}\n")
    assert architecture.unfinished(root) == ["crates/core/src/tick.rs:2: todo!"]


def test_length_counts_code_only(tmp_path: Path) -> None:
    tests = "#[cfg(test)]\nmod tests {\n" + "// a line\n" * 900 + "}\n"
    root = planted(tmp_path, "crates/core/src/tick.rs", "fn f() {}\n" * 800 + tests)
    assert architecture.too_long(root) == []
    root = planted(tmp_path, "crates/core/src/tick.rs", "fn f() {}\n" * 801 + tests)
    assert len(architecture.too_long(root)) == 1
