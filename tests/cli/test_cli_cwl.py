"""A CWL file on disk as what CreateWorkflow and StartRun are sent."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from runomics.cli.cwl import BadDefinition, cwl_parameters, is_cwl, load_cwl
from runomics.cli.inputs import BadInputs, Uploads

TOOL = (
    "cwlVersion: v1.2\nclass: CommandLineTool\nrequirements: {SchemaDefRequirement: {types: [{$import: types.yml}]}}\n"
)


class Kept:
    """Buckets that only remember."""

    def __init__(self) -> None:
        self.objects: dict[str, str] = {}

    def put(self, path: Path, bucket: str, key: str) -> None:
        self.objects[f"s3://{bucket}/{key}"] = path.read_text()


def tree(root: Path) -> Path:
    (root / "flow" / "tools").mkdir(parents=True)
    (root / "flow" / "main.cwl").write_text(
        "cwlVersion: v1.2\nclass: Workflow\ninputs:\n  bam: {type: File, secondaryFiles: [.bai, {pattern: ^.csi}, ^^.x?]}\n"
        "  plain: string\nsteps: {s: {run: tools/t.cwl, in: [], out: []}, web: {run: '#other', in: [], out: []}}\noutputs: []\n"
    )
    (root / "flow" / "tools" / "t.cwl").write_text(TOOL)
    (root / "flow" / "tools" / "types.yml").write_text("[]")
    (root / "flow" / "notes.txt").write_text("not named")
    return root / "flow"


def members(archive: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(archive)).namelist()


def test_a_file_is_packed_with_all_it_names(tmp_path: Path) -> None:
    definition = load_cwl(tree(tmp_path) / "main.cwl")
    assert (definition.name, definition.main, definition.engine) == ("flow", "main.cwl", "CWL")
    assert members(definition.archive) == ["main.cwl", "tools/t.cwl", "tools/types.yml"]
    assert definition.sha256 == load_cwl(tmp_path / "flow" / "main.cwl").sha256


def test_a_folder_is_packed_whole_and_a_process_of_a_file_may_be_named(tmp_path: Path) -> None:
    folder = tree(tmp_path)
    assert members(load_cwl(folder).archive) == ["main.cwl", "notes.txt", "tools/t.cwl", "tools/types.yml"]
    (folder / "p.cwl").write_text(
        "cwlVersion: v1.2\n$graph:\n- {id: one, class: CommandLineTool, inputs: {f: {type: File, secondaryFiles: .i}}}\n"
    )
    packed = load_cwl(Path(f"{folder}/p.cwl#one"))
    assert (packed.name, packed.main, packed.input_types["f"].secondary) == ("one", "p.cwl#one", (".i",))
    assert (is_cwl(folder), is_cwl(Path("x.cwl#one")), is_cwl(Path("x.wdl"))) == (True, True, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "main.cwl"),
        ("steps: {s: {run: 'https://x/y.cwl'}}", "https://x/y.cwl"),
        ("steps: {s: {run: ../up.cwl}}", "outside"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_name(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "up.cwl").write_text("{}")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "main.cwl").write_text(text)
    with pytest.raises(BadDefinition, match=words):
        load_cwl(tmp_path / "d")


def test_local_files_are_uploaded_with_those_beside_them(tmp_path: Path) -> None:
    types = load_cwl(tree(tmp_path)).input_types
    for name in ("a.b.bam", "a.b.bam.bai", "a.b.csi", "a.x"):
        (tmp_path / name).write_text(name)
    kept = Kept()
    uploads = Uploads(kept, "bucket", tmp_path)  # type: ignore[arg-type]
    given: dict[str, Any] = {
        "bam": {"class": "File", "path": "a.b.bam"},
        "plain": "a.b.bam",
        "far": {"class": "File", "location": "s3://elsewhere/x"},
        "many": [{"class": "File", "location": (tmp_path / "a.x").as_uri()}],
    }
    sent = cwl_parameters(given, types, uploads)
    assert (sent["plain"], sent["far"]) == ("a.b.bam", given["far"])
    assert kept.objects[sent["bam"]["location"]] == "a.b.bam"
    assert [kept.objects[one["location"]] for one in sent["bam"]["secondaryFiles"]] == ["a.b.bam.bai", "a.b.csi", "a.x"]
    assert kept.objects[sent["many"][0]["location"]] == "a.x"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    uploads = Uploads(Kept(), "bucket", tmp_path)  # type: ignore[arg-type]
    with pytest.raises(BadInputs, match=r"f\[0\].*none.txt"):
        cwl_parameters({"f": [{"class": "File", "path": "none.txt"}]}, {}, uploads)
