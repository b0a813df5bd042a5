"""Fixtures of the rules: the modules of the package, parsed once, and the tracked files."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest
from source_tree import ROOT, Module


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    """The package's modules."""
    result = []
    for path in sorted((ROOT / "src" / "runomics").rglob("*.py")):
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        text = path.read_text()
        result.append(Module(name, path, ast.parse(text, str(path)), text))
    return result


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Every file under version control that is there, plus new ones that are not ignored."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
    )
    paths = (ROOT / name.decode() for name in listed.stdout.split(b"\0") if name)
    return sorted(path for path in paths if path.is_file())
