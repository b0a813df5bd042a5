"""Counts the tests by where their truth comes from (`@pytest.mark.source`). Runs in `make check`."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
KINDS = ("model", "guide", "observed", "assumed")


def kinds_of(path: Path) -> Counter[str]:
    """How many test functions of a file carry each kind; `unmarked` for those with none. A mark of the module counts for each."""
    tree = ast.parse(path.read_text())
    whole = [kind for node in tree.body if isinstance(node, ast.Assign) for kind in _marks(node.value)]
    counts: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            kinds = [kind for decorator in node.decorator_list for kind in _marks(decorator)] or whole or ["unmarked"]
            counts.update(set(kinds))
    return counts


def _marks(node: ast.AST) -> list[str]:
    calls = [
        one for one in ast.walk(node) if isinstance(one, ast.Call) and ast.unparse(one.func) == "pytest.mark.source"
    ]
    return [str(argument.value) for call in calls for argument in call.args if isinstance(argument, ast.Constant)]


def main() -> int:
    """Print one line; 1 when a test names a kind that there is not."""
    counts: Counter[str] = Counter()
    for path in sorted(TESTS.rglob("test_*.py")):
        counts.update(kinds_of(path))
    unknown = set(counts) - {*KINDS, "unmarked"}
    print("tests by source: " + ", ".join(f"{kind} {counts[kind]}" for kind in (*KINDS, "unmarked")))
    if unknown:
        print(f"unknown sources: {', '.join(sorted(unknown))}", file=sys.stderr)
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
