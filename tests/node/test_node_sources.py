"""The node folder travels to other machines: an older Python, no packages, one zip file."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from node_world import SYSTEM_PYTHON

from runomics import node
from runomics.node.cgroups import Counters
from runomics.node.usage import UsageRecord
from runomics.runners.node_archive import write_archive

FOLDER = Path(node.__file__).parent


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_every_file_is_python_3_9_and_imports_the_standard_library_or_its_neighbours(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    found = [each for each in ast.walk(tree) if isinstance(each, (ast.Import, ast.ImportFrom))]
    absolute = [name.name for each in found if isinstance(each, ast.Import) for name in each.names]
    absolute += [each.module or "" for each in found if isinstance(each, ast.ImportFrom) and each.level == 0]
    assert {name.split(".")[0] for name in absolute} <= sys.stdlib_module_names
    assert all(each.level == 1 for each in found if isinstance(each, ast.ImportFrom) and each.level)


def test_the_archive_is_the_same_for_the_same_sources_and_runs_by_itself(tmp_path: Path) -> None:
    first, second = write_archive(tmp_path / "a"), write_archive(tmp_path / "b")
    assert (first.name, first.read_bytes()) == (second.name, second.read_bytes())
    assert {"__main__.py", "node/supervisor.py", "node/supervisor.pyc"} <= set(zipfile.ZipFile(first).namelist())
    said = subprocess.run(
        [SYSTEM_PYTHON, "-S", "-E", "-I", str(first)], capture_output=True, text=True, check=False, env={}, cwd="/"
    )
    assert (said.returncode, said.stderr.startswith("usage: node.pyz launch RUNS FD")) == (2, True)


def test_the_launcher_holds_no_module_that_works_in_every_fork() -> None:
    """threading and random register for forks: work that each supervisor would do, for nothing."""
    code = f"import sys; sys.path.insert(0, {str(FOLDER.parent)!r}); import node.launcher; print(*sys.modules)"
    said = subprocess.run(
        [SYSTEM_PYTHON, "-S", "-E", "-I", "-c", code], capture_output=True, text=True, check=True, env={}, cwd="/"
    )
    assert set(said.stdout.split()) & {"threading", "random", "logging", "tempfile", "subprocess"} == set()
    assert "node.supervisor" in said.stdout.split()


def test_usage_is_booked_on_the_minute_it_was_seen_in() -> None:
    record = UsageRecord()
    record.take(59_000, Counters(1.0, 100, 150))
    record.take(61_000, Counters(1.5, 120, 150))
    record.take(119_000, Counters(4.0, 90, 150))
    record.take(121_000, Counters(4.0, 80, 300))
    assert record.minutes() == [
        [0, 1.0, 150, 100],
        [60_000, 3.0, 120, (120 * 2 + 90 * 58) // 60],
        [120_000, 0.0, 300, 80],
    ]
    assert (record.cpu_seconds, record.peak_bytes) == (4.0, 300)
