"""The documents point to what is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benches/*.md")])


def name(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    local = [link for link in links if not re.match(r"https?://", link)]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_commands(document: Path) -> None:
    """Every `make` recipe that a document names."""
    recipes = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    named = re.findall(r"[`$] ?make ([a-z-]+)", document.read_text(encoding="utf-8"))
    assert set(named) <= set(recipes)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_names(document: Path) -> None:
    """Every `oxlip.something` that a document names is there."""
    for dotted in re.findall(r"\boxlip((?:\.[A-Za-z_]\w*)+)", document.read_text(encoding="utf-8")):
        found = importlib.import_module("oxlip")
        for part in dotted.split(".")[1:]:
            if not hasattr(found, part):
                importlib.import_module(f"{found.__name__}.{part}")
            found = getattr(found, part)


def test_paths_of_the_architecture() -> None:
    """Every file and folder that ARCHITECTURE.md names."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:crates|tests|python|examples)/[\w/.-]+)`", text)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_architecture_stays_short() -> None:
    lines = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150


def test_decisions_are_listed() -> None:
    listed = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")
    records = [path.name for path in (ROOT / "docs/adr").glob("0*.md")]
    assert records
    assert [record for record in records if f"({record})" not in listed] == []


def test_license_texts() -> None:
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE-APACHE").read_text(encoding="utf-8")
    assert "Permission is hereby granted" in (ROOT / "LICENSE-MIT").read_text(encoding="utf-8")


@pytest.mark.parametrize(("python", "run"), [("3.13", "bench"), ("3.14", "bench/3.14")])
def test_every_goal_that_is_missed_is_explained(python: str, run: str) -> None:
    """It has a row in a table of docs/performance.md."""
    results = (ROOT / "docs" / run / "results.md").read_text(encoding="utf-8")
    missed = re.findall(r"^\| (.+?) \| ([≥≤] [\d.]+×).*\*\*no\*\* \|$", results, re.M)
    text = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    _, section = text.split(f"\n### On {python}\n")
    rows = re.findall(r"^\| (.+?) \| ([≥≤] [\d.]+×)", section.split("\n### ")[0], re.M)
    assert missed
    assert sorted(rows) == sorted(missed)
