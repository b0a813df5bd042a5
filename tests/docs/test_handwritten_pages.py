"""Hand-written pages lead somewhere: links, make targets, commands and decisions that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer.main

from runomics.cli.application import application

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", page.read_text(), re.MULTILINE))
    assert named - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_named_exist(page: Path) -> None:
    commands = set(typer.main.get_command(application).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"(?:`|^|\(|bin/)runomics ([a-z]+)", page.read_text(), re.MULTILINE))
    assert named - commands == set()


def test_every_dependency_is_in_a_decision_record() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    records = "\n".join(path.read_text() for path in (ROOT / "docs" / "adr").glob("*.md"))
    listed = [*project["dependencies"], *(ROOT / "requirements" / "dev.in").read_text().splitlines()]
    names = [re.split(r"[<>=!;\s]", line)[0] for line in listed if line and not line.startswith(("#", "-"))]
    assert [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", records)] == []


def test_decision_records_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    pending = [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = (page.parent / link for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text()))
        for target in targets:
            pending += (
                sorted(target.resolve().glob("*.md"))
                if target.is_dir()
                else [target.resolve()] * (target.suffix == ".md")
            )
    docs = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert sorted(str(page.relative_to(ROOT)) for page in docs - reached) == []
