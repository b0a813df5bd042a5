"""Generated pages say what the code says now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from runomics.settings import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load(name: str) -> ModuleType:
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_generated_page_is_old() -> None:
    old = load("generate").old_pages()
    assert [str(path.relative_to(DOCS)) for path in old] == [], "make docs"


def test_an_old_page_is_noticed_and_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = load("generate")
    monkeypatch.setattr(generate, "pages", lambda: {tmp_path / "new" / "a.md": "now\n", tmp_path / "b.md": "now\n"})
    monkeypatch.setattr(generate, "DOCS", tmp_path / "docs")
    (tmp_path / "b.md").write_text("then\n")
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert (tmp_path / "new" / "a.md").read_text() == "now\n"


def test_every_setting_is_on_the_settings_page() -> None:
    page = (DOCS / "user" / "settings.md").read_text()
    assert [name for name in Settings.model_fields if f"## {name}\n" not in page] == []


def test_every_setting_has_one_line_of_meaning() -> None:
    assert [name for name, field in Settings.model_fields.items() if not (field.description or "").endswith(".")] == []


def test_a_deviation_that_goes_on_over_lines_is_whole() -> None:
    marked = load("deviations_page")._marked
    docstring = "Do it.\n\n    Source: model\n    Deviation: we do\n    otherwise.\n    Raises: never\n\n    Deviation: and this.\n"
    assert list(marked(docstring)) == ["we do otherwise.", "and this."]


def test_provenance_counts_decorators_and_marks_of_the_module(tmp_path: Path) -> None:
    path = tmp_path / "test_x.py"
    path.write_text(
        "import pytest\npytestmark = pytest.mark.source('model')\n"
        "def test_a(): ...\n@pytest.mark.source('guide', 'assumed')\ndef test_b(): ...\ndef helper(): ...\n"
    )
    assert load("provenance").kinds_of(path) == {"model": 1, "guide": 1, "assumed": 1}
