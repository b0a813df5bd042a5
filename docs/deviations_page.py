"""docs/user/deviations.md: every line of a docstring that begins with `Deviation:`, where the service differs from AWS on purpose."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src" / "runomics"
MARK = "Deviation:"

HEAD = """\
# Where this service differs from AWS

<!-- Generated from the `Deviation:` lines of the docstrings by `make docs`; do not edit. -->

What is not listed is meant to be the same; where it is not, that is a defect.
"""


def pages() -> dict[str, str]:
    """The one page."""
    lines = [f"- {text} (`{place}`)" for place, text in _deviations()]
    return {"user/deviations.md": "\n".join([HEAD, *lines, ""])}


def _deviations() -> Iterator[tuple[str, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        place = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or MARK not in node.value:
                continue
            for text in _marked(node.value):
                yield place, text


def _marked(docstring: str) -> Iterator[str]:
    """The text after each mark, with the lines that go on more deeply indented than it."""
    lines = textwrap.dedent(docstring).splitlines()
    for index, line in enumerate(lines):
        if not line.strip().startswith(MARK):
            continue
        depth = len(line) - len(line.lstrip())
        parts = [line.strip().removeprefix(MARK).strip()]
        for further in lines[index + 1 :]:
            if not further.strip() or len(further) - len(further.lstrip()) <= depth:
                break
            parts.append(further.strip())
        yield " ".join(parts)
