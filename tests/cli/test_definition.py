"""A WDL file as an archive: what goes in, the same bytes every time, and what is refused with which words."""

from __future__ import annotations

import os
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from runomics.cli.definition import BadDefinition, load_wdl

TASK = (
    "version 1.1\ntask say { input { File f } command <<< cat ~{f} >>> output { String s = read_string(stdout()) } }\n"
)
MAIN = """version 1.1
import "../lib/say.wdl" as lib
workflow talk {
  input { File f  Array[File]+ more  Int times = 1 }
  call lib.say { input: f }
  output { String s = say.s }
}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "main").mkdir()
    (tmp_path / "lib" / "say.wdl").write_text(TASK)
    (tmp_path / "main" / "talk.wdl").write_text(MAIN)
    return tmp_path


def members(archive: bytes) -> list[str]:
    return zipfile.ZipFile(BytesIO(archive)).namelist()


def test_a_file_takes_its_imports_along_and_nothing_else(tree: Path) -> None:
    (tree / "lib" / "other.wdl").write_text(TASK)
    definition = load_wdl(tree / "main" / "talk.wdl")
    assert (definition.name, definition.main) == ("talk", "main/talk.wdl")
    assert members(definition.archive) == ["lib/say.wdl", "main/talk.wdl"]


def test_the_digest_depends_on_content_alone(tree: Path) -> None:
    before = load_wdl(tree / "main" / "talk.wdl").sha256
    os.utime(tree / "lib" / "say.wdl", (1, 1))
    assert load_wdl(tree / "main" / "talk.wdl").sha256 == before
    (tree / "lib" / "say.wdl").write_text(TASK + "# changed\n")
    assert load_wdl(tree / "main" / "talk.wdl").sha256 != before


def test_a_folder_is_packed_with_every_visible_file(tmp_path: Path) -> None:
    (tmp_path / "main.wdl").write_text(TASK)
    (tmp_path / "notes.txt").write_text("n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("c")
    definition = load_wdl(tmp_path)
    assert (definition.main, members(definition.archive)) == ("main.wdl", ["main.wdl", "notes.txt"])


def test_a_folder_whose_main_imports_from_outside_is_refused(tree: Path) -> None:
    (tree / "main" / "talk.wdl").rename(tree / "main" / "main.wdl")
    with pytest.raises(BadDefinition, match=r"say\.wdl lies outside .*/main: "):
        load_wdl(tree / "main")


def test_the_types_of_inputs_are_known(tree: Path) -> None:
    types = load_wdl(tree / "main" / "talk.wdl").input_types
    assert {name: str(kind) for name, kind in types.items() if "." not in name} == {
        "f": "File",
        "more": "Array[File]+",
        "times": "Int",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version 1.1\nworkflow w {", r"w\.wdl:2:12: "),
        ("version 1.1\nworkflow w { output { Int x = nothing } }", r"w\.wdl:2:\d+: .*nothing"),
        ('version 1.1\nimport "absent.wdl"\nworkflow w {}', r"w\.wdl:2:1: .*absent\.wdl"),
        ("version 1.1\nstruct S { Int x }", r"w\.wdl has no workflow"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "w.wdl").write_text(text)
    with pytest.raises(BadDefinition, match=message):
        load_wdl(tmp_path / "w.wdl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDefinition) as refused:
        load_wdl(tmp_path / "absent.wdl")
    assert str(refused.value) == f"{tmp_path}/absent.wdl is not there"
