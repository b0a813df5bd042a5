"""What a definition says of itself, and that a hostile one harms nobody."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
from engine_world import World

from runomics.ports import Inspection

pytestmark = pytest.mark.needs("userns")


def inspect(world: World, sources: str | Mapping[str, str], main: str = "main.wdl", seconds: float = 20) -> Inspection:
    run = world.folder(sources if not isinstance(sources, str) else {main: sources})
    return world.host.inspect("WDL", run.definition, main, seconds)


def test_inputs_outputs_and_outline_of_a_workflow(world: World) -> None:
    found = inspect(
        world,
        """version 1.0
struct Sample { String name File reads }
task CramToBamTask { input { File cram } command <<< true >>> output { File bam = "x" } }
task ValidateSamFile { command <<< true >>> }
workflow CramToBamFlow {
  input { Array[Sample]+ samples  File cram  Int threads = 4  String? label  Map[String, Pair[Int, File]] odd }
  call CramToBamTask { input: cram = cram }
  call ValidateSamFile
  output { File bam = CramToBamTask.bam  Array[String] names = [] }
  parameter_meta { cram: "the reads" label: { description: "a label" } threads: { help: "how many" } samples: 3 }
}""",
        main="workflow-crambam.wdl",
    )
    assert found.failure is None
    assert {one["name"]: one for one in found.inputs} == {
        "samples": {"name": "samples", "type": "Array[Sample]+", "optional": False, "description": "", "files": True},
        "cram": {"name": "cram", "type": "File", "optional": False, "description": "the reads", "files": True},
        "threads": {"name": "threads", "type": "Int", "optional": True, "description": "how many", "files": False},
        "label": {"name": "label", "type": "String?", "optional": True, "description": "a label", "files": False},
        "odd": {
            "name": "odd",
            "type": "Map[String,Pair[Int,File]]",
            "optional": False,
            "description": "",
            "files": True,
        },
    }
    assert [one["name"] for one in found.inputs] == ["samples", "cram", "threads", "label", "odd"]
    assert found.outputs == [
        {"name": "bam", "type": "File", "files": True},
        {"name": "names", "type": "Array[String]", "files": False},
    ]
    assert found.message == (
        "workflow-crambam.wdl\n    workflow CramToBamFlow\n        call CramToBamTask\n        call ValidateSamFile\n"
        "    task CramToBamTask\n    task ValidateSamFile\n"
    )


@pytest.mark.source("guide")
def test_a_document_without_version_is_accepted_with_the_warning_clients_look_for(world: World) -> None:
    found = inspect(world, "task t { command { true } }\nworkflow w { call t }")
    assert found.failure is None
    assert "MissingVersion, document should declare WDL version; draft-2 assumed" in found.message


@pytest.mark.source("guide")
def test_an_unknown_function_fails_with_its_place_and_its_line(world: World) -> None:
    line = "  Map[String, Array[Int]] m = collect_by_kee([(1, 2)])"
    found = inspect(world, f"version 1.0\nworkflow w {{\n{line}\n}}")
    assert found.failure == f"(main.wdl Ln 3 Col 31) No such function: collect_by_kee\n    {line}"


def test_a_syntax_error_fails_with_its_place(world: World) -> None:
    found = inspect(world, "version 1.0\nworkflow w {\n  call\n}")
    assert found.failure is not None
    assert found.failure.startswith("(main.wdl Ln ")


def test_all_errors_of_a_document_are_listed(world: World) -> None:
    found = inspect(world, "version 1.0\nworkflow w {\n  Int a = nope\n  Int b = never\n}")
    assert found.failure is not None
    assert "(main.wdl Ln 3 Col 11) Unknown identifier nope" in found.failure
    assert "(main.wdl Ln 4 Col 11) Unknown identifier never" in found.failure


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("https://example.org/a.wdl", "imports must be relative paths of files in the workflow definition"),
        ("http://example.org/a.wdl", "imports must be relative paths of files in the workflow definition"),
        ("file:///etc/passwd", "imports must be relative paths of files in the workflow definition"),
        ("/etc/passwd", "imports must be relative paths of files in the workflow definition"),
        ("../../../../etc/passwd", "it lies outside of the workflow definition"),
        ("missing.wdl", "it cannot be read from the workflow definition: No such file or directory"),
    ],
)
def test_an_import_that_cannot_be_is_named_with_its_line(world: World, uri: str, why: str) -> None:
    found = inspect(world, f'version 1.0\nimport "{uri}" as lib\nworkflow w {{ }}')
    assert found.failure == f"(main.wdl Ln 2 Col 1) Failed to import {uri}: {why}"


def test_a_link_in_the_definition_does_not_reach_outside(world: World) -> None:
    run = world.folder({"main.wdl": 'version 1.0\nimport "evil.wdl"\nworkflow w { }'})
    (run.definition / "evil.wdl").symlink_to("/etc/passwd")
    found = world.host.inspect("WDL", run.definition, "main.wdl", 10)
    assert (
        found.failure == "(main.wdl Ln 2 Col 1) Failed to import evil.wdl: it lies outside of the workflow definition"
    )


def test_an_error_in_an_import_shows_the_way_to_it(world: World) -> None:
    found = inspect(
        world,
        {
            "main.wdl": 'version 1.0\nimport "lib/a.wdl"\nworkflow w { }',
            "lib/a.wdl": "version 1.0\nworkflow v { Int i = zero }",
        },
    )
    assert found.failure is not None
    assert found.failure.split("\n")[:2] == [
        "(main.wdl Ln 2 Col 1) Failed to import lib/a.wdl",
        "(lib/a.wdl Ln 2 Col 22) Unknown identifier zero",
    ]


def test_circular_imports_are_called_that(world: World) -> None:
    found = inspect(
        world,
        {
            "main.wdl": 'version 1.0\nimport "a.wdl" as a\nworkflow w { }',
            "a.wdl": 'version 1.0\nimport "main.wdl" as m\nworkflow v { }',
        },
    )
    assert found.failure == "(main.wdl Ln 2 Col 1) Failed to import a.wdl: circular import"


@pytest.mark.parametrize(
    "body",
    ["Int x = " + "!" * 5000 + "true", "Int x = " + "1 + " * 20000 + "1", "if (true) { " * 3000 + "}" * 3000],
)
def test_a_deeply_nested_document_fails_and_does_not_crash(world: World, body: str) -> None:
    found = inspect(world, "version 1.0\nworkflow w { " + body + " }", seconds=30)
    assert found.failure is not None
    assert found.failure


def test_a_document_that_takes_too_long_is_given_up(world: World) -> None:
    files = {
        f"{n}.wdl": "version 1.0\n" + "".join(f'import "{n + 1}.wdl" as a{i}\n' for i in range(9)) for n in range(25)
    }
    files["25.wdl"] = "version 1.0\ntask t { command <<< true >>> }"
    started = time.monotonic()
    found = inspect(world, files | {"main.wdl": 'version 1.0\nimport "0.wdl" as z\nworkflow w { }'}, seconds=1.0)
    assert found.failure == "the definition could not be read within 1 seconds"
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "declares no workflow"),
        ("version 1.0\n", "declares no workflow"),
        ("version 9.9\nworkflow w { }", "unknown WDL version 9.9"),
    ],
)
def test_a_document_with_nothing_to_run_fails(world: World, content: str, part: str) -> None:
    found = inspect(world, content)
    assert found.failure is not None
    assert part in found.failure


def test_binary_and_missing_main_files_fail_in_plain_words(world: World) -> None:
    run = world.folder({"main.wdl": ""})
    (run.definition / "main.wdl").write_bytes(b"\xff\xfe\x00")
    binary = world.host.inspect("WDL", run.definition, "main.wdl", 10)
    missing = world.host.inspect("WDL", run.definition, "other.wdl", 10)
    assert binary.failure == "main file main.wdl cannot be used: it is no UTF-8 text: invalid start byte at byte 0"
    assert (
        missing.failure
        == "main file other.wdl cannot be used: it cannot be read from the workflow definition: No such file or directory"
    )


def test_nothing_is_left_behind(world: World) -> None:
    inspect(world, "version 1.0\nworkflow w { }")
    assert list((world.data / "inspections").iterdir()) == []


FALLBACK = """version 1.1
task t {{
  input {{ Int cpus = 2 }}
  command <<< >>>
  runtime {{ omicsResourceFallbackOrder: {order} }}
}}
workflow w {{ {body} }}
"""
GPU_FIRST = '[{"acceleratorType": "nvidia-l4", "acceleratorCount": 1}, {"cpu": 4}]'


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("order", "body", "failure"),
    [
        (GPU_FIRST, "call t", None),
        ('[{"cpu": cpus}]', "call t", None),
        (GPU_FIRST, "scatter (i in [1]) { if (i > 0) { call t } }", "which a scatter cannot use"),
        ('[{"cpu": 4}, {"cpu": 2}]', "call t", "one profile at most may be without accelerators"),
    ],
)
def test_fallback_lists_are_checked_before_anything_runs(
    world: World, order: str, body: str, failure: str | None
) -> None:
    found = inspect(world, FALLBACK.format(order=order, body=body)).failure
    assert found is None if failure is None else failure in (found or "")
