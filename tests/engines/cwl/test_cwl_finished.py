"""What the next incarnation of a run takes over from the one before, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engine_world import RunFolder, World

pytestmark = pytest.mark.needs("bwrap", "userns", "javascript")

FLOW = {
    "main.cwl": """
cwlVersion: v1.0
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs: {names: "string[]", f: File}
steps:
  one:
    scatter: name
    in: {name: names, f: f}
    out: [o]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'echo "$1"; cat "$2"', x]
      inputs: {name: {type: string, inputBinding: {position: 1}}, f: {type: File, inputBinding: {position: 2}}}
      stdout: o.txt
      outputs: {o: stdout}
  two:
    in: {all: one/o}
    out: [o]
    run:
      class: CommandLineTool
      baseCommand: cat
      inputs: {all: {type: "File[]", inputBinding: {position: 1}}}
      stdout: all.txt
      outputs: {o: stdout}
outputs: {o: {type: File, outputSource: two/o}}
"""
}
PARAMETERS = {"names": ["a", "b"], "f": {"class": "File", "location": "s3://in/f"}}


def first_run(world: World, files: dict[str, str]) -> RunFolder:
    run = world.folder(files)
    run.server.objects["s3://in/f"] = b"data\n"
    assert world.execute(run, engine="CWL", main="main.cwl", parameters=PARAMETERS).succeeded
    return run


def again(world: World, run: RunFolder) -> tuple[Any, list[str]]:
    """The second incarnation, and the tasks it submitted."""
    before = set(run.server.tasks)
    run.server.tasks.clear()
    result = world.execute(run, engine="CWL", main="main.cwl", parameters=PARAMETERS, incarnation=2)
    assert before
    return result, run.server.keys()


def records(run: RunFolder) -> dict[str, Path]:
    return {str(path.parent.relative_to(run.workdir)): path for path in run.workdir.rglob("finished.json")}


def test_nothing_that_is_finished_runs_again(world: World) -> None:
    run = first_run(world, FLOW)
    result, submitted = again(world, run)
    assert result.succeeded, result.failure
    assert submitted == []
    source = run.on_host(result.exports[0]["source"])
    assert source.read_text() == "a\ndata\nb\ndata\n"


def test_what_was_lost_runs_again_and_so_does_what_follows_from_it(world: World) -> None:
    run = first_run(world, FLOW)
    records(run)["one-1"].unlink()
    result, submitted = again(world, run)
    assert result.succeeded, result.failure
    assert submitted == ["one-1", "two"]
    assert run.on_host(result.exports[0]["source"]).read_text() == "a\ndata\nb\ndata\n"


def test_an_output_that_changed_its_size_is_made_again(world: World) -> None:
    run = first_run(world, FLOW)
    (run.workdir / "one-0" / "work" / "o.txt").write_text("cut")
    result, submitted = again(world, run)
    assert result.succeeded
    assert submitted == ["one-0", "two"]


def test_after_a_crash_of_the_host_an_output_counts_only_with_its_checksum(world: World) -> None:
    run = first_run(world, FLOW)
    for path in records(run).values():
        path.write_text(path.read_text().replace(json.loads(path.read_text())["boot_id"], "another boot"))
    (run.workdir / "one-0" / "work" / "o.txt").write_text("A\ndata\n")
    result, submitted = again(world, run)
    assert result.succeeded
    assert submitted == ["one-0", "two"]


@pytest.mark.parametrize(
    "damage",
    ["", "{", '{"fingerprint": 1}', "[]", '{"outputs": {"o": {"class": "File", "location": "file:///etc/passwd"}}}'],
)
def test_a_record_that_is_damaged_or_forged_counts_for_nothing(world: World, damage: str) -> None:
    run = first_run(world, FLOW)
    records(run)["two"].write_text(damage)
    result, submitted = again(world, run)
    assert result.succeeded
    assert submitted == ["two"]


@pytest.mark.source("guide")
def test_work_reuse_can_be_refused(world: World) -> None:
    text = FLOW["main.cwl"].replace("cwlVersion: v1.0", "cwlVersion: v1.1")
    text = text.replace(
        "      baseCommand: cat\n", "      baseCommand: cat\n      requirements: {WorkReuse: {enableReuse: false}}\n"
    )
    run = first_run(world, {"main.cwl": text})
    result, submitted = again(world, run)
    assert result.succeeded
    assert submitted == ["two"]
