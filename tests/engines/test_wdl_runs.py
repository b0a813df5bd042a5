"""Real WDL through a real run process: values, files, shapes of workflows, resources and retries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engine_world import RunFolder, World

pytestmark = pytest.mark.needs("bwrap", "userns")


def content(run: RunFolder, export: dict[str, Any]) -> str:
    """What an export's source holds, links followed as the sandbox would."""
    path = Path(export["source"])
    for _ in range(10):
        on_host = run.on_host(str(path))
        if not on_host.is_symlink():
            return on_host.read_text()
        target = on_host.readlink()
        path = target if target.is_absolute() else Path(*_normal(path.parent / target))
    raise AssertionError("too many links")


def _normal(path: Path) -> list[str]:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return parts


def test_a_workflow_scatters_gathers_and_exports_arrays_by_index(world: World) -> None:
    run = world.folder("""
        version 1.0
        task shout {
          input { String word }
          command <<< echo "~{word}" | tr a-z A-Z > shout.txt >>>
          output { File loud = "shout.txt"  String text = read_string("shout.txt") }
        }
        workflow choir {
          input { Array[String] words }
          scatter (word in words) { call shout { input: word = word } }
          output { Array[File] files = shout.loud  Array[String] texts = shout.text  Int n = length(words) }
        }""")
    result = world.execute(run, parameters={"words": ["one", "two"]})
    assert result.failure is None
    assert result.outputs == {
        "choir.files": [{"__export__": "out/files/0/shout.txt"}, {"__export__": "out/files/1/shout.txt"}],
        "choir.texts": ["ONE", "TWO"],
        "choir.n": 2,
    }
    assert [(one["target"], one["directory"]) for one in result.exports] == [
        ("out/files/0/shout.txt", False),
        ("out/files/1/shout.txt", False),
    ]
    assert [content(run, one) for one in result.exports] == ["ONE\n", "TWO\n"]
    assert [key.split("-")[:3] for key in run.server.keys()] == [["call", "shout", "0"], ["call", "shout", "1"]]  # noqa: SIM118


def test_sub_workflows_structs_maps_pairs_and_conditions_pass_values_and_files(world: World) -> None:
    run = world.folder(
        {
            "main.wdl": """
                version 1.1
                import "lib/sub.wdl" as lib
                struct Sample { String name  File reads  Int? depth }
                task count { input { Sample sample } command <<< wc -c < ~{sample.reads} >>> output { Int n = read_int(stdout()) } }
                workflow main {
                  input { Map[String, Sample] samples  Pair[String, Int] pair  Boolean more = false }
                  scatter (entry in as_pairs(samples)) {
                    call count { input: sample = entry.right }
                    call lib.twice { input: n = count.n }
                  }
                  if (more) { call lib.twice as never { input: n = 1 } }
                  output { Array[Int] counts = twice.doubled  String l = pair.left  Int? none = never.doubled
                           Map[String, Sample] back = samples  Pair[File, Int] p = (twice.file[0], 7) }
                }""",
            "lib/sub.wdl": """
                version 1.1
                import "../tasks.wdl"
                workflow twice {
                  input { Int n }
                  call tasks.add { input: a = n, b = n }
                  output { Int doubled = add.sum  File file = add.file }
                }""",
            "tasks.wdl": """
                version 1.1
                task add { input { Int a  Int b } command <<< echo $((~{a} + ~{b})) | tee sum.txt >>>
                  output { Int sum = read_int(stdout())  File file = "sum.txt" } }""",
        }
    )
    staged = {"s3://b/x.fq": run.put_input("s3://b/x.fq", b"12345")}
    samples = {"x": {"name": "x", "reads": "s3://b/x.fq"}}
    result = world.execute(run, parameters={"main.samples": samples, "pair": {"Left": "L", "RIGHT": 2}}, staged=staged)
    assert result.failure is None
    assert result.outputs == {
        "main.counts": [10],
        "main.l": "L",
        "main.none": None,
        "main.back": {"x": {"name": "x", "reads": {"__export__": "out/back/x/reads/x.fq"}, "depth": None}},
        "main.p": {"left": {"__export__": "out/p/left/sum.txt"}, "right": 7},
    }
    assert {one["target"]: content(run, one) for one in result.exports} == {
        "out/back/x/reads/x.fq": "12345",
        "out/p/left/sum.txt": "10\n",
    }
    assert run.server.staged == []


def test_written_files_globs_stdout_and_inputs_as_outputs_are_there(world: World) -> None:
    run = world.folder("""
        version 1.0
        task mix {
          input { File given  Array[String] lines }
          File list = write_lines(lines)
          command <<<
            sort ~{list}
            mkdir parts; touch parts/b.txt parts/a.txt
            ln -s ~{given} linked.txt
            echo warn >&2
          >>>
          output { File out = stdout()  String err = read_string(stderr())  Array[File] parts = glob("parts/*.txt")
                   File linked = "linked.txt"  File same = given  File? absent = "absent.txt" }
        }
        workflow w { input { File given }
          call mix { input: given = given, lines = ["b", "a"] }
          output { String sorted = read_string(mix.out)  String err = mix.err  Array[File] parts = mix.parts
                   File linked = mix.linked  File same = mix.same  File? absent = mix.absent  String head = read_string(given) }
        }""")
    staged = {"s3://b/given.txt": run.put_input("s3://b/given.txt", b"given")}
    result = world.execute(run, parameters={"given": "s3://b/given.txt"}, staged=staged)
    assert result.failure is None
    assert result.outputs is not None
    assert result.outputs["w.sorted"] == "a\nb"
    assert result.outputs["w.err"] == "warn"
    assert result.outputs["w.head"] == "given"
    assert result.outputs["w.absent"] is None
    assert {one["target"]: content(run, one) for one in result.exports} == {
        "out/parts/0/a.txt": "",
        "out/parts/1/b.txt": "",
        "out/linked/linked.txt": "given",
        "out/same/given.txt": "given",
    }


def test_a_directory_is_staged_read_below_and_exported(world: World) -> None:
    run = world.folder("""
        version development
        task tar { input { Directory d } File inner = "~{d}/sub/x.txt"
          command <<< cat ~{inner} ~{d}/top.txt > all.txt; mkdir made; cp all.txt made/ >>>
          output { File all = "all.txt"  Directory made = "made" } }
        workflow w { input { Directory d } call tar { input: d = d }
          output { File all = tar.all  Directory made = tar.made } }""")
    for name in ("sub/x.txt", "top.txt"):
        run.put_input(f"s3://bucket/{name}", name.encode())
    staged = {"s3://bucket/": "/mnt/workflow/inputs/s3/bucket"}
    result = world.execute(run, parameters={"d": "s3://bucket/"}, staged=staged)
    assert result.failure is None
    assert [(one["target"], one["directory"]) for one in result.exports] == [
        ("out/all/all.txt", False),
        ("out/made/made", True),
    ]
    assert content(run, dict(result.exports[0])) == "sub/x.txttop.txt"


def test_a_single_task_document_runs_as_a_workflow(world: World) -> None:
    run = world.folder("""
        version 1.0
        task alone { command <<< echo hi >>> output { String o = read_string(stdout()) } }""")
    result = world.execute(run)
    assert result.outputs == {"alone.o": "hi"}
    assert run.server.keys() == ["alone"]


@pytest.mark.source("guide")
def test_a_task_asks_for_what_its_runtime_section_says(world: World) -> None:
    run = world.folder("""
        version 1.1
        task big { command <<< true >>> output { Int x = 1 }
          runtime { container: "img:1" docker: "other" cpu: 1.5 memory: "2 GB" acceleratorType: "nvidia-l4" gpuType: "ignored" gpuCount: 2
                    omicsTimeout: "1h30m" disks: ["local-disk 10 SSD", "/mnt/x 5 GB"] bootDiskSizeGb: 10 } }
        task plain { command <<< true >>> }
        workflow w { call big call plain }""")
    result = world.execute(run)
    assert result.failure is None
    wanted = (
        "image",
        "cpus",
        "memory_bytes",
        "disk_bytes",
        "accelerators",
        "timeout_seconds",
        "network",
        "env",
        "name",
    )
    asked = {key: {name: task.submit[name] for name in wanted} for (key, _), task in run.server.tasks.items()}
    assert asked == {
        "call-big": {
            "image": "img:1",
            "cpus": 2.0,
            "memory_bytes": 2_000_000_000,
            "disk_bytes": 10 * 2**30 + 5 * 10**9,
            "accelerators": {"type": "nvidia-l4", "count": 2},
            "timeout_seconds": 5400,
            "network": False,
            "env": {},
            "name": "big",
        },
        "call-plain": {
            "image": None,
            "cpus": 0.0,
            "memory_bytes": 0,
            "disk_bytes": 0,
            "accelerators": None,
            "timeout_seconds": None,
            "network": False,
            "env": {},
            "name": "plain",
        },
    }


@pytest.mark.source("guide")
def test_running_out_of_memory_is_retried_with_twice_the_memory(world: World) -> None:
    run = world.folder("""
        version 1.0
        task hungry { command <<< echo left > partial.txt; echo ok >>> output { String o = read_string(stdout()) Array[File] f = glob("*") }
          runtime { memory: "1 GiB" maxRetries: 2 } }
        workflow w { call hungry output { String o = hungry.o } }""")
    run.server.decide = lambda submit: {"reason": "OOM", "exit_code": 137} if submit["attempt"] < 3 else None
    result = world.execute(run)
    assert result.failure is None
    assert result.outputs == {"w.o": "ok"}
    assert [(attempt, task.submit["memory_bytes"]) for (_, attempt), task in run.server.tasks.items()] == [
        (1, 1 << 30),
        (2, 2 << 30),
        (3, 4 << 30),
    ]
    assert {task.submit["cwd"] for task in run.server.tasks.values()} == {
        f"/mnt/workflow/{run.uuid}/workdir/call-hungry/work"
    }


@pytest.mark.source("guide")
def test_max_retries_does_not_repeat_an_ordinary_failure(world: World) -> None:
    run = world.folder("""
        version 1.0
        task bad { command <<< exit 3 >>> runtime { maxRetries: 3 preemptible: 2 } }
        workflow w { call bad }""")
    result = world.execute(run)
    assert result.failure is not None
    assert result.failure["exit_code"] == 3
    assert run.server.keys() == ["call-bad"]


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("setting", "code", "succeeds"),
    [
        ("returnCodes: [3, 4]", 4, True),
        ("returnCodes: 3", 4, False),
        ('returnCodes: "*"', 9, True),
        ("continueOnReturnCode: true", 9, True),
        ("continueOnReturnCode: false", 9, False),
        ("continueOnReturnCode: 9 returnCodes: 3", 9, False),
    ],
)
def test_accepted_return_codes_are_those_the_task_names(world: World, setting: str, code: int, succeeds: bool) -> None:
    run = world.folder(f"""
        version 1.0
        task t {{ command <<< exit {code} >>> runtime {{ {setting} }} }}
        workflow w {{ call t }}""")
    assert world.execute(run).succeeded is succeeds


def test_an_empty_workflow_succeeds_without_a_task(world: World) -> None:
    run = world.folder("version 1.0\nworkflow w { input { Int x = 4 } output { Int y = x + 1 } }")
    assert world.execute(run, parameters={"w.x": 5}).outputs == {"w.y": 6}
    assert run.server.keys() == []


def test_every_connection_says_hello_with_version_and_incarnation(world: World) -> None:
    run = world.folder("version 1.0\ntask t { command <<< true >>> }\nworkflow w { call t }")
    world.execute(run, incarnation=3)
    assert run.server.hellos == [{"op": "hello", "protocol": 1, "engine": "WDL", "version": "1.16.0", "incarnation": 3}]
    assert json.loads((run.path / "engine" / "result.json").read_text())["incarnation"] == 3


def test_task_attempts_of_wdl_1_2_know_their_number(world: World) -> None:
    run = world.folder("""
        version 1.2
        task t { command <<< echo ~{task.attempt} ~{task.cpu} >>> output { String o = read_string(stdout()) }
          requirements { max_retries: 1 memory: "1 GiB" } }
        workflow w { call t output { String o = t.o } }""")
    run.server.decide = lambda submit: {"reason": "OOM", "exit_code": 137} if submit["attempt"] == 1 else None
    assert world.execute(run).outputs == {"w.o": "1 1.000000"}
