"""What the next incarnation of a WDL run takes over from the one before, and what it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from engine_world import RunFolder, World, sandbox_path

pytestmark = pytest.mark.needs("bwrap", "userns")

FLOW = """version 1.1
task one {
  input { String name File f }
  command <<< echo ~{name}; cat ~{f} >>>
  output { File o = stdout() String s = read_string(stdout()) }
}
task two {
  input { Array[File] all }
  command <<< cat ~{sep(" ", all)} >>>
  output { File o = stdout() }
}
workflow w {
  input { Array[String] names File f }
  scatter (name in names) { call one { input: name = name, f = f } }
  call two { input: all = one.o }
  output { File o = two.o Array[String] said = one.s }
}
"""
PARAMETERS = {"names": ["a", "b", "c"], "f": "s3://in/f"}


def first_run(world: World) -> RunFolder:
    run = world.folder(FLOW)
    run.server.objects["s3://in/f"] = b"data\n"
    assert world.execute(run, parameters=PARAMETERS).succeeded
    return run


def again(world: World, run: RunFolder) -> list[str]:
    """The tasks that the second incarnation submits; its outputs are those of the first."""
    run.server.tasks.clear()
    staged = {"s3://in/f": sandbox_path("s3://in/f")}
    result = world.execute(run, parameters=PARAMETERS, staged=staged, incarnation=2)
    assert result.succeeded, result.failure
    assert result.outputs is not None
    assert result.outputs["w.said"] == ["a\ndata", "b\ndata", "c\ndata"]
    assert [one["target"] for one in result.exports] == ["out/o/stdout.txt"]
    return run.server.keys()


def entries(run: RunFolder, task: str) -> list[Path]:
    return list((run.volume / run.uuid / "finished-1" / task).rglob("*.json"))


def test_nothing_that_is_finished_runs_again(world: World) -> None:
    assert again(world, first_run(world)) == []


def test_what_was_lost_runs_again_and_so_does_what_follows_from_it(world: World) -> None:
    run = first_run(world)
    for path in entries(run, "one"):
        path.unlink()
    assert again(world, run) == ["call-one-0-a", "call-one-1-b", "call-one-2-c", "call-two"]


def test_an_output_that_lost_its_end_in_a_crash_is_made_again(world: World) -> None:
    run = first_run(world)
    output = run.workdir / "call-two" / "stdout.txt"
    old = output.stat()
    with output.open("r+") as file:
        file.truncate(3)
    os.utime(output, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert again(world, run) == ["call-two"]


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", '{"format": 1, "outputs": {"o": 5}, "sizes": {}, "add_paths": [], "absent_paths": []}'],
)
def test_an_entry_that_is_damaged_counts_for_nothing(world: World, damage: str) -> None:
    run = first_run(world)
    for path in entries(run, "two"):
        path.write_text(damage)
    assert again(world, run) == ["call-two"]


def test_calls_alike_within_one_incarnation_are_tasks_of_their_own(world: World) -> None:
    run = world.folder(FLOW)
    run.server.objects["s3://in/f"] = b"data\n"
    assert world.execute(run, parameters={**PARAMETERS, "names": ["a", "a"]}).succeeded
    assert run.server.keys() == ["call-one-0", "call-one-1", "call-two"]
