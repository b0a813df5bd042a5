"""The functions of nf-schema, from our own plugin: what fits passes, what does not is told in nf-schema's words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from engine_world import RunFolder, World

from runomics.ports import EngineResult

pytestmark = [pytest.mark.needs("nextflow", "bwrap", "userns"), pytest.mark.slow]

PARAMETERS = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {
        "inputs": {
            "title": "Input options",
            "type": "object",
            "required": ["input", "outdir"],
            "properties": {
                "input": {
                    "type": "string",
                    "format": "file-path",
                    "exists": True,
                    "schema": "assets/schema_input.json",
                    "pattern": "^\\S+\\.csv$",
                    "description": "The samples",
                },
                "outdir": {"type": "string", "format": "directory-path"},
                "depth": {"type": "integer", "minimum": 1, "default": 10},
                "mode": {
                    "type": "string",
                    "enum": ["fast", "slow"],
                    "default": "fast",
                    "errorMessage": "say fast or slow",
                },
            },
        }
    },
    "allOf": [{"$ref": "#/$defs/inputs"}],
}

SAMPLES = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "array",
    "uniqueEntries": ["sample"],
    "items": {
        "type": "object",
        "required": ["sample", "reads"],
        "properties": {
            "sample": {"type": "string", "pattern": "^\\S+$", "meta": ["id"], "errorMessage": "Names have no spaces"},
            "reads": {"type": "string", "format": "file-path", "exists": True},
            "more": {"type": "string", "format": "file-path"},
            "lanes": {"type": "integer", "meta": ["lanes"], "default": 1},
        },
    },
}

MAIN = """
include { validateParameters; paramsSummaryLog; paramsSummaryMap; samplesheetToList } from 'plugin/nf-schema'
workflow {
  validateParameters()
  summary = paramsSummaryLog(workflow).readLines()
  summary.findAll { it =~ "^  (input|depth|mode|outdir)" }.each { println "OUT: $it" }
  println "OUT: ${paramsSummaryMap(workflow)['Input options']}"
  Channel.fromList(samplesheetToList(params.input, "${projectDir}/assets/schema_input.json"))
    .view { meta, reads, more -> "OUT: $meta ${reads.name} ${reads.class.simpleName} $more" }
}
"""

CONFIG = """
plugins { id 'nf-schema@2.4.2' }
params { input = null; outdir = null; depth = 10; mode = 'fast' }
"""


def execute(
    world: World, parameters: Mapping[str, Any], sheet: str, *, schema: Mapping[str, Any] = PARAMETERS
) -> tuple[EngineResult, RunFolder]:
    run = world.folder(
        {
            "main.nf": MAIN,
            "nextflow.config": CONFIG,
            "nextflow_schema.json": json.dumps(schema),
            "assets/schema_input.json": json.dumps(SAMPLES),
        }
    )
    run.server.objects = {"s3://data/sheet.csv": sheet.encode(), "s3://data/a.fq": b"a", "s3://data/b.fq": b"b"}
    given = {"input": "s3://data/sheet.csv", "outdir": "/mnt/workflow/pubdir", **parameters}
    return world.execute(run, 90, engine="NEXTFLOW", main="main.nf", parameters=given), run


def said(run: RunFolder) -> list[str]:
    return [line.removeprefix("OUT: ") for line in run.engine_log.splitlines() if line.startswith("OUT: ")]


GOOD = "sample,reads,more,lanes\nA,s3://data/a.fq,,3\nB,s3://data/b.fq,s3://data/a.fq,\n"


def test_parameters_that_fit_are_summarised_and_a_samplesheet_becomes_a_list(world: World) -> None:
    result, run = execute(world, {"depth": 30}, GOOD)
    assert result.succeeded, run.engine_log
    assert said(run) == [
        "  input      : s3://data/sheet.csv",
        "  outdir     : /mnt/workflow/pubdir",
        "  depth      : 30",
        "[input:s3://data/sheet.csv, outdir:/mnt/workflow/pubdir, depth:30]",
        "[id:A, lanes:3] a.fq S3Path []",
        "[id:B, lanes:1] b.fq S3Path /data/a.fq",
    ]
    assert list(run.server.notes.values()) == ["Plugin nf-schema@2.4.2 is not on this server; version 2.3.0 is used."]


def test_every_wrong_parameter_is_named_with_its_value(world: World) -> None:
    result, _ = execute(world, {"depth": 0, "mode": "middling", "outdir": None}, GOOD)
    assert not result.succeeded
    message = (result.failure or {})["message"]
    for line in (
        "The following invalid input values have been detected:",
        "* Missing required parameter(s): outdir",
        "* --depth (0): 0 is less than 1",
        "* --mode (middling): Expected any of [[fast, slow]] (say fast or slow)",
    ):
        assert line in message, message


def test_a_wrong_samplesheet_is_told_by_entry_and_field(world: World) -> None:
    result, _ = execute(world, {}, "sample,reads\nA A,s3://data/a.fq\n,s3://data/b.fq\nC,s3://data/none.fq\n")
    assert not result.succeeded
    message = (result.failure or {})["message"]
    for line in (
        "* --input (s3://data/sheet.csv): Validation of file failed:",
        "-> Entry 1: Error for field 'sample' (A A): \"A A\" does not match regular expression [^\\S+$] (Names have no spaces)",
        "-> Entry 2: Missing required field(s): sample",
        "-> Entry 3: Error for field 'reads' (s3://data/none.fq): the file or directory 's3://data/none.fq' does not exist",
    ):
        assert line in message, message


def test_the_older_draft_is_read_too_and_unknown_parameters_are_warned_of(world: World) -> None:
    older = json.loads(json.dumps(PARAMETERS).replace("$defs", "definitions"))
    older["$schema"] = "http://json-schema.org/draft-07/schema"
    result, run = execute(world, {"surprise": 1}, GOOD, schema=older)
    assert result.succeeded, run.engine_log
    assert "* --surprise: 1" in run.engine_log
