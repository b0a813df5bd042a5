"""What a CWL definition declares, and why one cannot be used."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from runomics.engines.cwl import inspect as cwl_inspect
from runomics.engines.cwl import javascript, needs, schema, tool
from runomics.engines.cwl.schema import VERSIONS, with_retry_field

TYPES = """
cwlVersion: {version}
class: CommandLineTool
requirements:
  SchemaDefRequirement:
    types: [{{name: pair, type: record, fields: {{f: File, n: int}}}}, {{name: mode, type: enum, symbols: [a, b]}}]
baseCommand: "true"
inputs:
  file: {{type: File, label: A file}}
  files: {{type: "File[]?", doc: [Several, files]}}
  directory: Directory
  number: {{type: int, default: 3}}
  text: {{type: ["null", string]}}
  either: [File, string]
  pair: "#pair"
  mode: "#mode"
  any: Any
outputs: {{out: {{type: "File[]", outputBinding: {{glob: "*"}}}}, n: {{type: int?, outputBinding: {{outputEval: $(1)}}}}}}
"""


@pytest.fixture(scope="module", autouse=True)
def schemas() -> None:
    schema.prepare()


def look(tmp_path: Path, text: str, main: str = "main.cwl") -> dict[str, object]:
    (tmp_path / main.partition("#")[0]).write_text(textwrap.dedent(text))
    found, kept = cwl_inspect.inspect(str(tmp_path), main)
    assert kept is None
    return found


@pytest.mark.source("guide")
@pytest.mark.parametrize("version", ["v1.0", "v1.1", "v1.2"])
def test_inputs_tell_their_type_whether_they_may_be_left_out_and_what_they_are(tmp_path: Path, version: str) -> None:
    found = look(tmp_path, TYPES.format(version=version).replace("outputEval: $(1)", 'outputEval: "$(inputs.number)"'))
    assert found["failure"] is None
    inputs = {one["name"]: one for one in found["inputs"]}  # type: ignore[index,attr-defined]
    assert {name: (one["type"], one["optional"], one["files"]) for name, one in inputs.items()} == {
        "file": ("File", False, True),
        "files": ("File[]?", True, True),
        "directory": ("Directory", False, True),
        "number": ("int", True, False),
        "text": ("string?", True, False),
        "either": ("Any", False, True),
        "pair": ("record", False, True),
        "mode": ("string", False, False),
        "any": ("Any", False, True),
    }
    assert (inputs["file"]["description"], inputs["files"]["description"]) == ("A file", "Several files")


def test_a_workflow_that_needs_javascript_cannot_be_made_without_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(javascript, "node", lambda: None)
    head = "cwlVersion: v1.2\nclass: CommandLineTool\nrequirements: {InlineJavascriptRequirement: {}}\n"
    head += "baseCommand: echo\ninputs: {n: int}\noutputs: []\n"
    assert look(tmp_path, head + 'arguments: ["$(inputs.n + 1)"]\n')["failure"] == needs.NO_NODE
    assert look(tmp_path, head + 'arguments: ["$(inputs.n)", "${return 1;}"]\n')["failure"] == needs.NO_NODE
    assert look(tmp_path, head + 'arguments: ["$(inputs.n)", "plain", "\\\\$(escaped + 1)"]\n')["failure"] is None
    assert look(tmp_path, head.replace("{InlineJavascriptRequirement: {}}", "{}"))["failure"] is None


@pytest.mark.source("guide")
def test_the_services_own_requirements_are_taken_and_other_names_are_not(tmp_path: Path) -> None:
    text = """
        cwlVersion: v1.1
        class: CommandLineTool
        $namespaces: {arv: "http://arvados.org/cwl#", cwltool: "http://commonwl.org/cwltool#"}
        requirements:
          ResourceRequirement: {ramMin: 1, omicsRetryOn5xx: false}
          cwltool:CUDARequirement:
            {cudaVersionMin: "11.4", cudaComputeCapability: nvidia-l4, cudaDeviceCountMin: 1}
        hints: {"arv:OutOfMemoryRetry": {memoryRetryMultiplier: 3}}
        baseCommand: echo
        inputs: []
        outputs: []
        """
    assert look(tmp_path, text)["failure"] is None
    refused = look(tmp_path, text.replace("omicsRetryOn5xx", "omicsRetry"))["failure"]
    assert "omicsRetry" in str(refused)


def test_a_definition_reads_nothing_outside_of_itself(tmp_path: Path) -> None:
    (tmp_path / "secret.yml").write_text("- secret")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "link.yml").symlink_to("../secret.yml")
    for name in ("../secret.yml", "link.yml", "/etc/passwd", "http://127.0.0.1:9/x"):
        text = (
            f"cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: [{{$import: '{name}'}}]\ninputs: []\noutputs: []\n"
        )
        (tmp_path / "d" / "main.cwl").write_text(text)
        found, _ = cwl_inspect.inspect(str(tmp_path / "d"), "main.cwl")
        assert found["failure"] is not None
        assert "secret" not in str(found["failure"]).replace("secret.yml", "")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "just text", "{}", "cwlVersion: v9\nclass: Workflow\n", "a: &x [*x]\n", "\0", "- " * 3000, "{" * 1000],
)
def test_what_is_no_cwl_is_told_and_never_raises(tmp_path: Path, text: str) -> None:
    assert look(tmp_path, text)["failure"]


def test_every_version_has_the_services_field() -> None:
    assert list(VERSIONS) == ["v1.0", "v1.1", "v1.2"]
    with pytest.raises(RuntimeError, match="ResourceRequirement"):
        with_retry_field("type: record\nname: Other\n")


def test_tools_are_ours(tmp_path: Path) -> None:
    (tmp_path / "t.cwl").write_text(
        "{cwlVersion: v1.2, class: CommandLineTool, baseCommand: x, inputs: [], outputs: []}"
    )
    from_file = cwl_inspect.definition.load(str(tmp_path), "t.cwl", tool.make)
    assert type(from_file) is tool.Tool
