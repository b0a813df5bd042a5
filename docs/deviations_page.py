"""docs/user/deviations.md: every line of a docstring that begins with `Deviation:`, where the service differs from AWS on purpose."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src" / "runomics"
MARK = "Deviation:"
FIELD = re.compile(r"[A-Z][a-z]+:")

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
    """The text after each mark, up to an empty line or the next `Word:`."""
    lines = [line.strip() for line in docstring.splitlines()]
    for index, line in enumerate(lines):
        if not line.startswith(MARK):
            continue
        following = itertools.takewhile(lambda text: text and not FIELD.match(text), lines[index + 1 :])
        yield " ".join([line.removeprefix(MARK).strip(), *following])
