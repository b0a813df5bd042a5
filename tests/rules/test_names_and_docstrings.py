"""Names of files, first sentences, imports: what a reader relies on to find the room for a line."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from source_tree import ROOT, Module

NOT_A_NOUN = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}


def test_no_file_is_called_by_a_word_that_says_nothing(tracked: list[Path]) -> None:
    names = [path for path in tracked if path.suffix == ".py" and not path.is_relative_to(ROOT / "tests")]
    words = {path: set(path.stem.split("_")) | set(path.relative_to(ROOT).parts) for path in names}
    assert [str(path) for path, parts in words.items() if parts & NOT_A_NOUN] == []


def test_every_module_begins_by_saying_what_it_owns(modules: list[Module]) -> None:
    without = []
    for module in (one for one in modules if one.text.strip()):
        docstring = ast.get_docstring(module.tree)
        if not docstring or not re.match(r"\S.*[.:]", docstring.splitlines()[0]):
            without.append(module.name)
    assert without == []


def test_names_of_test_files_are_unique(tracked: list[Path]) -> None:
    counts = Counter(path.name for path in tracked if path.name.startswith("test_") and path.suffix == ".py")
    assert [name for name, count in counts.items() if count > 1] == []


def test_an_import_that_is_not_at_the_top_says_why(modules: list[Module]) -> None:
    silent = []
    for module in modules:
        lines = module.text.splitlines()
        for number, line in enumerate(lines):
            if "noqa: PLC0415" not in line:
                continue
            explained = len(line.split("PLC0415", 1)[1].strip()) > 5
            above = any(before.strip().startswith("#") for before in lines[max(0, number - 3) : number])
            if not explained and not above:
                silent.append(f"{module.name}:{number + 1}")
    assert silent == []
