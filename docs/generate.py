"""Writes the generated pages of the documentation; `--check` only says which are old. Runs in `make docs` and `make check`.

A page module lies beside this file and has `pages() -> dict[str, str]`: path below docs/ → whole text.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PAGE_MODULES = ("compatibility", "deviations_page", "commands_page", "lifecycle_page", "settings_page")


def pages() -> dict[Path, str]:
    """Every generated page with the text it should have."""
    result: dict[Path, str] = {}
    sys.path.insert(0, str(DOCS))
    for name in PAGE_MODULES:
        if (DOCS / f"{name}.py").is_file():
            module = importlib.import_module(name)
            result |= {DOCS / path: text for path, text in module.pages().items()}
    return result


def old_pages() -> list[Path]:
    """The pages that differ from what the code says now."""
    return [path for path, text in pages().items() if not path.is_file() or path.read_text() != text]


def main(arguments: Sequence[str]) -> int:
    """Write, or with `--check` compare; the exit code."""
    old = old_pages()
    if "--check" in arguments:
        for path in old:
            print(f"{path.relative_to(DOCS.parent)} is old: make docs", file=sys.stderr)
        return 1 if old else 0
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages()[path])
        print(f"wrote {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
