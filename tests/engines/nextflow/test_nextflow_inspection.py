"""What a definition says of itself: parameters from schema or text, and errors with file, line and reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from engine_world import World

from runomics.engines.nextflow import definition
from runomics.ports import Inspection


def inputs_of(tmp_path: Path, sources: Mapping[str, str], main: str = "main.nf") -> dict[str, tuple[bool, str | None]]:
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = definition.inputs(str(tmp_path), main)
    assert all(item["files"] and item["type"] == "" for item in found)
    return {item["name"]: (item["optional"], item["description"]) for item in found}


@pytest.mark.source("guide")
@pytest.mark.parametrize(("keyword", "draft"), [("$defs", "2020-12"), ("definitions", "07")])
def test_a_schema_gives_groups_and_top_level_properties(tmp_path: Path, keyword: str, draft: str) -> None:
    schema = {
        "$schema": f"draft {draft}",
        keyword: {
            "one": {"required": ["input"], "properties": {"input": {"description": "Reads"}, "depth": {"default": 3}}},
            "two": {"properties": {"outdir": {"description": None}}},
        },
        "properties": {"email": {"description": "Who"}, "must": {}},
        "required": ["must"],
    }
    sources = {"sub/main.nf": "params.other = 1\n", "sub/nextflow_schema.json": json.dumps(schema)}
    assert inputs_of(tmp_path, sources, "sub/main.nf") == {
        "input": (False, "Reads"),
        "depth": (True, None),
        "outdir": (True, None),
        "email": (True, "Who"),
        "must": (False, None),
    }


@pytest.mark.source("guide")
def test_without_a_schema_the_texts_tell_which_have_a_default(tmp_path: Path) -> None:
    main = """
    #!/usr/bin/env nextflow
    params.given = 'x' // params.commented = 1
    params.map = [a: 1]
    /* params.also_commented = 2 */
    params.compared == 3
    println "text of params.not_code = 1 but ${params.in_text} and $params.plain"
    workflow { A(params.wanted); other.params.foreign; params.map.a }
    """
    configuration = """
    params {
      first = 1
      second = "a { b"
      nested { inner = 2 }
      'quoted' = 3; third = [x: 1, y = 2]
    }
    params.wanted_by_config = null
    process { withName: X { ext.args = params.in_closure } }
    """
    found = inputs_of(tmp_path, {"main.nf": main, "nextflow.config": configuration})
    assert {name: optional for name, (optional, _) in found.items()} == {
        "given": True, "map": True, "compared": False, "in_text": False, "plain": False, "wanted": False,
        "first": True, "second": True, "third": True, "wanted_by_config": True, "in_closure": False,
    }  # fmt: skip


def test_only_literal_includes_are_followed_and_missing_ones_named_by_line(tmp_path: Path) -> None:
    sources = {
        "main.nf": "// include { Z } from './z'\ninclude { A; B } from './modules/a'\ninclude { C } from 'plugin/nf-schema'\n"
        "include { D } from \"$projectDir/d\"\ninclude {\n  E\n} from './gone'\n",
        "modules/a/main.nf": "include { F } from '../f.nf'\ninclude { A } from '../../main'\n",
        "modules/f.nf": "include { G } from '../../outside'\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    scripts, missing = definition.scripts(str(tmp_path), "main.nf")
    assert scripts == ["main.nf", "modules/a/main.nf", "modules/f.nf"]
    assert [(one.file, one.line, one.wanted) for one in missing] == [
        ("main.nf", 7, "./gone"),
        ("modules/f.nf", 1, "../../outside"),
    ]


def inspect(world: World, sources: Mapping[str, str]) -> Inspection:
    run = world.folder(sources)
    return world.host.inspect("NEXTFLOW", run.definition, "main.nf", 60)


GOOD = "process A { script: 'true' }\nworkflow { A() }\n"


@pytest.mark.needs("nextflow", "userns")
@pytest.mark.parametrize(
    ("sources", "failure"),
    [
        ({"main.nf": "process A {\n  script: 'true'\n}\nworkflow { A( }\n"}, "(main.nf Ln 4 Col 10) Unexpected input"),
        (
            {"main.nf": "include { B } from './b'\nworkflow { B() }\n", "b.nf": "process B { script: 'true'\n"},
            "(b.nf Ln ",
        ),
        ({"main.nf": "include { B } from './b'\n"}, "(main.nf Ln 1) No such file or directory: include from './b'"),
        ({"main.nf": "nextflow.enable.dsl = 1\n"}, "(main.nf) DSL1 is not supported"),
        (
            {"main.nf": "process A {\n input: val x from Channel.of(1)\n output: stdout into y\n 'true'\n}\n"},
            "(main.nf) DSL1 is not",
        ),
        (
            {"main.nf": GOOD, "nextflow.config": "process {\n  cpus = = 1\n}\n"},
            "(nextflow.config Ln 1 Col 9) Unexpected input",
        ),
        ({"main.nf": GOOD, "nextflow_schema.json": "{"}, "nextflow_schema.json is not JSON"),
    ],
    ids=["syntax", "module", "missing module", "declared DSL1", "DSL1", "configuration", "schema"],
)
def test_a_broken_definition_is_refused_with_file_line_and_reason(
    world: World, sources: Mapping[str, str], failure: str
) -> None:
    found = inspect(world, sources)
    assert found.failure is not None
    assert failure in found.failure


@pytest.mark.needs("nextflow", "userns")
def test_a_definition_is_compiled_and_never_run(world: World) -> None:
    sources: dict[str, Any] = {
        "main.nf": f"new File('/run/engine/ran').text = 'x'\nparams.a = 1\n{GOOD}",
        "nextflow.config": "params.b = 2\n",
    }
    found = inspect(world, sources)
    assert found.failure is None
    assert [item["name"] for item in found.inputs] == ["a", "b"]
