"""Tests wait for conditions, never for time."""

from __future__ import annotations

import ast
from pathlib import Path

from source_tree import ROOT

SLEEPERS = {"time.sleep", "asyncio.sleep", "sleep"}
YIELDS = {"asyncio.sleep(0)"}
"""Lets other coroutines run; waits for nothing."""


def sleeps_in(text: str) -> list[int]:
    """Lines that call a sleep."""
    calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return sorted(
        call.lineno for call in calls if ast.unparse(call.func) in SLEEPERS and ast.unparse(call) not in YIELDS
    )


def test_no_test_sleeps(tracked: list[Path]) -> None:
    tests = [path for path in tracked if path.suffix == ".py" and path.is_relative_to(ROOT / "tests")]
    assert [f"{path.relative_to(ROOT)}:{line}" for path in tests for line in sleeps_in(path.read_text())] == []


def test_a_sleep_would_be_found() -> None:
    assert sleeps_in("import time\nx = 1\ntime.sleep(0.1)\n") == [3]
