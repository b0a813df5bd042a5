"""inputs.json as parameters: which strings are local files, where their copies go, what is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import WDL

from runomics.cli.inputs import BadInputs, Uploads, parameters
from runomics.cli.objects import FolderBuckets, sha256_of, split_uri

SOURCE = """version development
struct Sample { String name  File reads  Array[File]? extra }
workflow w {
  input {
    File one
    Array[File] several
    Map[String, File] by_name
    Pair[File, Int] pair
    Sample sample
    Directory folder
    String text
    File? absent
  }
}
"""


@pytest.fixture
def types(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "w.wdl").write_text(SOURCE)
    workflow = WDL.load(str(tmp_path / "w.wdl")).workflow
    return {binding.name: binding.value.type for binding in workflow.available_inputs}


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    folder = tmp_path / "in"
    (folder / "d" / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "d" / "deep" / "b.txt").write_text("b")
    buckets = FolderBuckets(tmp_path / "objects")
    buckets.make("runomics")
    return Uploads(buckets, "runomics", folder)


def test_local_files_are_replaced_wherever_a_type_says_file(
    types: dict[str, Any], uploads: Uploads, tmp_path: Path
) -> None:
    a = f"s3://runomics/inputs/{sha256_of(tmp_path / 'in' / 'a.txt')}/a.txt"
    given = {
        "one": "a.txt",
        "several": ["a.txt", "s3://b/k"],
        "w.by_name": {"x": "a.txt"},
        "pair": {"left": "a.txt", "right": 1},
        "sample": {"name": "a.txt", "reads": str(tmp_path / "in" / "a.txt"), "extra": None},
        "text": "a.txt",
        "absent": None,
    }
    assert parameters(given, types, "w", uploads) == {
        "one": a,
        "several": [a, "s3://b/k"],
        "w.by_name": {"x": a},
        "pair": {"left": a, "right": 1},
        "sample": {"name": "a.txt", "reads": a, "extra": None},
        "text": "a.txt",
        "absent": None,
    }
    bucket, key = split_uri(a)
    assert (tmp_path / "objects" / bucket / key).read_text() == "a"


def test_a_folder_is_uploaded_with_what_lies_below_it(types: dict[str, Any], uploads: Uploads, tmp_path: Path) -> None:
    result = parameters({"folder": "d"}, types, "w", uploads)
    assert list(result) == ["folder"]
    assert result["folder"].endswith("/d/")
    bucket, prefix = split_uri(result["folder"])
    assert (tmp_path / "objects" / bucket / prefix / "deep" / "b.txt").read_text() == "b"


def test_folders_of_the_same_name_and_other_content_do_not_mix(
    types: dict[str, Any], uploads: Uploads, tmp_path: Path
) -> None:
    first = parameters({"folder": "d"}, types, "w", uploads)["folder"]
    (tmp_path / "in" / "d" / "deep" / "b.txt").rename(tmp_path / "in" / "d" / "c.txt")
    second = parameters({"folder": "d"}, types, "w", uploads)["folder"]
    assert first != second
    bucket, prefix = split_uri(second)
    root = tmp_path / "objects" / bucket / prefix
    assert [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()] == ["c.txt"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"one": "nope"}, "one: there is no file {folder}/nope"),
        ({"several": ["a.txt", "nope"]}, "several[1]: there is no file {folder}/nope"),
        ({"folder": "a.txt"}, "folder: there is no folder {folder}/a.txt"),
    ],
)
def test_a_file_that_is_not_there_is_named_with_its_input(
    types: dict[str, Any], uploads: Uploads, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputs) as refused:
        parameters(given, types, "w", uploads)
    assert str(refused.value) == message.format(folder=uploads.folder)


def test_an_input_that_the_workflow_does_not_have_is_left_for_the_service_to_refuse(
    types: dict[str, Any], uploads: Uploads
) -> None:
    assert parameters({"unknown": "a.txt"}, types, "w", uploads) == {"unknown": "a.txt"}


def test_an_object_that_is_there_is_not_written_again(uploads: Uploads, tmp_path: Path) -> None:
    uri = uploads.file(tmp_path / "in" / "a.txt")
    bucket, key = split_uri(uri)
    before = (tmp_path / "objects" / bucket / key).stat().st_ino
    assert uploads.file(tmp_path / "in" / "a.txt") == uri
    assert (tmp_path / "objects" / bucket / key).stat().st_ino == before


def test_a_folder_of_objects_shows_none_that_is_being_written(tmp_path: Path) -> None:
    buckets = FolderBuckets(tmp_path / "objects")
    buckets.make("runomics")
    (tmp_path / "file").write_text("content")
    buckets.put(tmp_path / "file", "runomics", "a/b.txt")
    (tmp_path / "objects/runomics/.runomics/half").write_text("half")
    assert list(buckets.keys("runomics", "")) == ["a/b.txt"]
    buckets.get("runomics", "a/b.txt", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "content"
