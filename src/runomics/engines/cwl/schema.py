"""CWL's schemas with what this service adds to them, parsed once in the launcher."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from importlib.resources import files
from typing import Any

import cwltool.process
from cwltool.process import cwl_files, salad_files
from schema_salad.schema import load_schema

from runomics.engines.cwl import definition, resources
from runomics.engines.cwl.definition import ToolMaker

VERSIONS = {"v1.0": "extensions.yml", "v1.1": "extensions-v1.1.yml", "v1.2": "extensions-v1.2.yml"}

_METASCHEMA = "salad/schema_salad/metaschema"
_CWL = "https://w3id.org/cwl/"
_RESOURCES = "  name: ResourceRequirement\n"
_FIELDS = "\n  fields:\n"
_RETRY_FIELD = """    - name: omicsRetryOn5xx
      type: ["null", boolean]
      doc: Whether the service repeats a task that it lost itself.
"""


def prepare() -> None:
    """Parse the schema of each version, with cwltool's extensions and the field `omicsRetryOn5xx` of ResourceRequirement.

    Source: guide, "CWL workflow definition specifics" (omicsRetryOn5xx, CUDARequirement, Loop, OutOfMemoryRetry).

    Raises:
        RuntimeError: the schema's text is not the one that was tested.
    """
    for version, extensions in VERSIONS.items():
        texts = {f"{_CWL}{name}": _text(f"{version}/{name}") for name in cwl_files}
        texts |= {f"{_CWL}{_METASCHEMA}/{name}": _text(f"{version}/{_METASCHEMA}/{name}") for name in salad_files}
        cache: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
        tools = f"{_CWL}CommandLineTool.yml"
        cache[tools] = with_retry_field(cache[tools])
        extended = files("cwltool").joinpath(extensions).read_text("utf-8")
        cache["http://commonwl.org/cwltool"] = extended
        cwltool.process.SCHEMA_CACHE[version] = load_schema("http://commonwl.org/cwltool", cache=cache)
    if resources.OUT_OF_MEMORY_RETRY not in cwltool.process.supportedProcessRequirements:
        cwltool.process.supportedProcessRequirements.append(resources.OUT_OF_MEMORY_RETRY)


def with_retry_field(text: str) -> str:
    """The schema of tools with the service's own field.

    Raises:
        RuntimeError: there is no such requirement in it.
    """
    before, found, after = text.partition(_RESOURCES)
    head, fields, rest = after.partition(_FIELDS)
    if not found or not fields or "- name: " in head:
        raise RuntimeError("cwltool's schema has no ResourceRequirement; runomics must be adapted to this version")
    return f"{before}{found}{head}{fields}{_RETRY_FIELD}{rest}"


def _text(path: str) -> str | None:
    try:
        return files("cwltool").joinpath(f"schemas/{path}").read_text("utf-8")
    except OSError:
        return None


_WARM = """cwlVersion: {version}
class: Workflow
requirements: {{ScatterFeatureRequirement: {{}}, InlineJavascriptRequirement: {{}}, StepInputExpressionRequirement: {{}}}}
inputs: {{names: "string[]", file: "File?"}}
steps:
  one:
    run:
      class: CommandLineTool
      hints: {{ResourceRequirement: {{ramMin: 1}}, DockerRequirement: {{dockerPull: x}}}}
      baseCommand: echo
      inputs: {{name: {{type: string, inputBinding: {{position: 1}}}}}}
      outputs: {{out: stdout}}
    scatter: name
    in: {{name: names}}
    out: [out]
outputs: {{all: {{type: "File[]", outputSource: one/out}}}}
"""


def exercise(make: ToolMaker) -> None:
    """Read one document of each version, so that what is loaded late is loaded."""
    directory = tempfile.mkdtemp()
    logging.getLogger("cwltool").setLevel(logging.ERROR)
    try:
        for version in VERSIONS:
            with open(os.path.join(directory, f"{version}.cwl"), "w", encoding="utf-8") as file:
                file.write(_WARM.format(version=version))
            definition.load(directory, f"{version}.cwl", make)
    finally:
        shutil.rmtree(directory)
