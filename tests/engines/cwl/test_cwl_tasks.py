"""What a CWL tool's requirements become in the submission of its task; retries; files made at run time; failures in words."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import pytest
from engine_world import RunFolder, World

from runomics.ports import EngineResult

pytestmark = pytest.mark.needs("bwrap", "userns", "javascript")

NAMESPACES = '$namespaces: {cwltool: "http://commonwl.org/cwltool#", arv: "http://arvados.org/cwl#"}'


def tool(body: str, command: str = "[echo, done]") -> str:
    head = f"cwlVersion: v1.2\nclass: CommandLineTool\n{NAMESPACES}\nbaseCommand: {command}\n"
    rest = textwrap.dedent(body)
    return head + rest + "".join(f"{name}: []\n" for name in ("inputs", "outputs") if f"{name}:" not in rest)


def execute(
    world: World, text: str | Mapping[str, str], parameters: Mapping[str, Any] | None = None, **objects: bytes
) -> tuple[RunFolder, EngineResult]:
    run = world.folder({"main.cwl": text} if isinstance(text, str) else text)
    run.server.objects.update({f"s3://in/{name}": data for name, data in objects.items()})
    return run, world.execute(run, engine="CWL", main="main.cwl", parameters=dict(parameters or {}))


def asked(run: RunFolder, *names: str) -> list[dict[str, Any]]:
    return [{name: task.submit[name] for name in names} for task in run.server.tasks.values()]


@pytest.mark.source("guide")
def test_requirements_become_what_the_service_is_asked_for(world: World) -> None:
    text = tool("""
        requirements:
          InlineJavascriptRequirement: {}
          DockerRequirement: {dockerPull: "$(inputs.image):$(inputs.tag + 1)"}
          ResourceRequirement: {coresMin: 1.5, ramMin: 3000, tmpdirMin: 100, outdirMin: 50, omicsRetryOn5xx: false}
          ToolTimeLimit: {timelimit: "$(inputs.tag * 60)"}
          NetworkAccess: {networkAccess: true}
        hints:
          cwltool:CUDARequirement: {cudaVersionMin: "11.0", cudaDeviceCountMin: 2, cudaComputeCapability: nvidia-tesla-t4}
        inputs: {image: string, tag: int}
        """)
    run, result = execute(world, text, {"image": "registry/tool", "tag": 2})
    assert result.succeeded, result.failure
    names = (
        "image",
        "cpus",
        "memory_bytes",
        "disk_bytes",
        "timeout_seconds",
        "network",
        "accelerators",
        "service_retries",
    )
    assert asked(run, *names) == [
        {
            "image": "registry/tool:3",
            "cpus": 1.5,
            "memory_bytes": 3000 << 20,
            "disk_bytes": 150 << 20,
            "timeout_seconds": 120,
            "network": True,
            "accelerators": {"type": "nvidia-tesla-t4", "count": 2},
            "service_retries": 0,
        }
    ]


def test_a_tool_that_asks_for_nothing_asks_for_nothing(world: World) -> None:
    run, _ = execute(world, tool(""))
    names = (
        "key",
        "name",
        "image",
        "disk_bytes",
        "timeout_seconds",
        "network",
        "accelerators",
        "service_retries",
        "attempt",
    )
    assert asked(run, *names) == [
        {
            "key": "main",
            "name": "main",
            "image": None,
            "disk_bytes": 0,
            "timeout_seconds": None,
            "network": False,
            "accelerators": None,
            "service_retries": None,
            "attempt": 1,
        }
    ]


@pytest.mark.source("guide")
def test_running_out_of_memory_is_retried_with_more_memory_as_the_hint_says(world: World) -> None:
    text = tool(
        """
        requirements: {ResourceRequirement: {ramMin: 1024}, InitialWorkDirRequirement: {listing: [{entryname: given, entry: text}]}}
        hints: {"arv:OutOfMemoryRetry": {memoryRetryMultiplier: 1.2}}
        outputs: {all: {type: "File[]", outputBinding: {glob: "*"}}}
        """,
        "[sh, -c, 'cat given > made.txt']",
    )
    run = world.folder({"main.cwl": text})

    def decide(submit: dict[str, Any]) -> dict[str, Any] | None:
        if submit["attempt"] == 3:
            return None
        (run.on_host(submit["cwd"]) / "left").write_text("half done")
        return {"reason": "OOM", "exit_code": 137}

    run.server.decide = decide
    result = world.execute(run, engine="CWL", main="main.cwl")
    assert result.succeeded, result.failure
    assert [one["memory_bytes"] for one in asked(run, "memory_bytes")] == [1024 << 20, 1536 << 20, 2304 << 20]
    assert sorted(export["target"] for export in result.exports) == ["out/given", "out/made.txt"]


@pytest.mark.source("guide")
def test_memory_retries_end_after_three(world: World) -> None:
    run = world.folder({"main.cwl": tool("""hints: {"arv:OutOfMemoryRetry": {}}\n""")})
    run.server.decide = lambda submit: {"reason": "OOM", "exit_code": 137}
    result = world.execute(run, engine="CWL", main="main.cwl")
    assert result.failure is not None
    assert (result.failure["kind"], result.failure["task_reason"], result.failure["task_attempt"]) == ("task", "OOM", 4)
    assert [one["memory_bytes"] >> 20 for one in asked(run, "memory_bytes")] == [256, 512, 1024, 2048]


@pytest.mark.source("guide")
def test_a_memory_multiplier_that_is_none_fails_with_its_name(world: World) -> None:
    _, result = execute(world, tool("""hints: {"arv:OutOfMemoryRetry": {memoryRetryMultiplier: 1}}\n"""))
    assert result.failure is not None
    assert "memoryRetryMultiplier" in result.failure["message"]


def test_without_the_hint_running_out_of_memory_is_a_failure_at_once(world: World) -> None:
    run = world.folder({"main.cwl": tool("")})
    run.server.decide = lambda submit: {"reason": "OOM", "exit_code": 0}
    result = world.execute(run, engine="CWL", main="main.cwl")
    assert result.failure is not None
    assert (result.failure["task_reason"], result.failure["exit_code"]) == ("OOM", 137)
    assert run.server.keys() == ["main"]


@pytest.mark.source("assumed")
def test_temporary_failures_are_tried_again_as_new_attempts_twice(world: World) -> None:
    text = tool("temporaryFailCodes: [75]\n", "[sh, -c, 'exit 75']")
    run, result = execute(world, text)
    assert result.failure is not None
    assert (result.failure["exit_code"], result.failure["task_attempt"]) == (75, 3)
    assert run.server.keys() == ["main", "main#2", "main#3"]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ({"reason": "TIMEOUT", "exit_code": 143}, "time limit"),
        ({"reason": "IMAGE", "exit_code": None, "message": "no such image x"}, "no such image x"),
        ({"reason": "REFUSED", "exit_code": None, "message": "too many GPUs"}, "too many GPUs"),
        ({"reason": "RUNTIME", "exit_code": None}, "could not be run"),
    ],
    ids=["timeout", "image", "refused", "runtime"],
)
def test_a_task_that_the_service_ended_is_told_by_its_reason(world: World, end: dict[str, Any], words: str) -> None:
    run = world.folder({"main.cwl": tool("")})
    run.server.decide = lambda submit: end
    result = world.execute(run, engine="CWL", main="main.cwl")
    assert result.failure is not None
    assert (result.failure["kind"], result.failure["task_key"], result.failure["task_reason"]) == (
        "task",
        "main",
        end["reason"],
    )
    assert words in result.failure["message"]


def test_the_output_directory_of_the_container_and_absolute_names_are_there(world: World) -> None:
    text = tool(
        """
        requirements:
          DockerRequirement: {dockerPull: x, dockerOutputDirectory: /results/here}
          InitialWorkDirRequirement:
            listing: [{entryname: /opt/config/settings.txt, entry: set}, {entryname: beside.txt, entry: near}]
        arguments: [$(runtime.outdir)]
        outputs: {all: {type: "File[]", outputBinding: {glob: "*.txt"}}}
        """,
        '[sh, -c, \'cd /; cat /opt/config/settings.txt > /results/here/a.txt; pwd; cat $0/beside.txt > $0/b.txt; [ "$HOME" = "$0" ]\']',
    )
    run, result = execute(world, text)
    assert result.succeeded, (result.failure, run.engine_log)
    found = {export["target"]: run.on_host(export["source"]).read_text() for export in result.exports}
    assert found == {"out/a.txt": "set", "out/b.txt": "near", "out/beside.txt": "near"}


@pytest.mark.source("assumed")
def test_files_whose_uri_is_made_at_run_time_are_staged_when_they_are_needed(world: World) -> None:
    text = """
        cwlVersion: v1.2
        class: Workflow
        requirements: {InlineJavascriptRequirement: {}, StepInputExpressionRequirement: {}}
        inputs: {name: string, fixed: {type: File, default: {class: File, location: "s3://in/fixed"}}}
        steps:
          find:
            in: {name: name}
            out: [f]
            run:
              class: ExpressionTool
              inputs: {name: string}
              outputs: {f: File}
              expression: "${return {f: {class: 'File', location: 's3://in/' + inputs.name}};}"
          use:
            in: {f: find/f, d: {valueFrom: "${return {class: 'Directory', location: 's3://in/dir/'};}"}, fixed: fixed}
            out: [o]
            run:
              class: CommandLineTool
              requirements:
                InitialWorkDirRequirement:
                  listing: ["${return {class: 'File', location: 's3://in/late', basename: 'late.txt'};}"]
              baseCommand: [sh, -c, 'cat "$1" "$2"/x late.txt "$3"', x]
              inputs:
                f: {type: File, inputBinding: {position: 1}}
                d: {type: Directory, inputBinding: {position: 2}}
                fixed: {type: File, inputBinding: {position: 3}}
              stdout: o.txt
              outputs: {o: stdout}
        outputs: {o: {type: File, outputSource: use/o}, same: {type: File, outputSource: find/f}}
        """
    run = world.folder({"main.cwl": textwrap.dedent(text)})
    run.server.objects |= {
        "s3://in/named": b"named ",
        "s3://in/dir/x": b"x ",
        "s3://in/late": b"late ",
        "s3://in/fixed": b"fixed",
    }
    result = world.execute(run, engine="CWL", main="main.cwl", parameters={"name": "named"})
    assert result.succeeded, (result.failure, run.engine_log)
    found = {export["target"]: run.on_host(export["source"]).read_text() for export in result.exports}
    assert found == {"out/o.txt": "named x late fixed", "out/named": "named "}


@pytest.mark.source("guide")
def test_a_file_may_be_given_by_its_uri_alone(world: World) -> None:
    text = tool(
        """
        inputs: {f: {type: File, inputBinding: {position: 1}}, more: {type: "File[]?", inputBinding: {position: 2}}, s: string}
        outputs: {o: stdout}
        stdout: o.txt
        """,
        "cat",
    )
    run, result = execute(world, text, {"f": "s3://in/a", "more": ["s3://in/b"], "s": "s3://in/none"}, a=b"A", b=b"B")
    assert result.succeeded, result.failure
    assert run.on_host(result.exports[0]["source"]).read_text() == "AB"
    assert sorted(run.server.staged) == ["s3://in/a", "s3://in/b"]


def test_files_in_records_and_unions_may_be_given_by_their_uri_too(world: World) -> None:
    text = """
        cwlVersion: v1.2
        class: CommandLineTool
        requirements: {SchemaDefRequirement: {types: [{name: pair, type: record, fields: {f: File, n: string}}]}}
        baseCommand: cat
        arguments: [$(inputs.p.f.path), $(inputs.u.path)]
        inputs: {p: "#pair", u: ["null", File], s: [string, File]}
        stdout: o.txt
        outputs: {o: stdout, s: {type: string, outputBinding: {outputEval: $(inputs.s)}}}
        """
    given = {"p": {"f": "s3://in/a", "n": "s3://in/a"}, "u": "s3://in/b", "s": "s3://in/b"}
    run, result = execute(world, textwrap.dedent(text), given, a=b"A", b=b"B")
    assert result.succeeded, result.failure
    assert run.on_host(result.exports[0]["source"]).read_text() == "AB"
    assert result.outputs is not None
    assert result.outputs["s"] == "s3://in/b"


@pytest.mark.parametrize("location", ["/etc/passwd", "file:///etc/passwd", "http://example.org/x", "relative.txt"])
def test_a_file_that_is_in_no_bucket_is_refused(world: World, location: str) -> None:
    text = tool("inputs: {f: File}\n")
    _, result = execute(world, text, {"f": {"class": "File", "location": location}})
    assert result.failure is not None
    assert (result.failure["kind"], location in result.failure["message"]) == ("input", True)


def test_an_input_that_cannot_be_had_is_told_by_uri_and_code(world: World) -> None:
    _, result = execute(world, tool("inputs: {f: File}\n"), {"f": "s3://in/none"})
    assert result.failure is not None
    assert (result.failure["kind"], result.failure["uri"], result.failure["code"]) == (
        "stage",
        "s3://in/none",
        "INPUT_URI_NOT_FOUND",
    )


@pytest.mark.parametrize(
    ("text", "parameters", "kind", "words"),
    [
        (tool("inputs: {n: int}\n"), {"n": "x"}, "input", ["n", "int"]),
        (tool("inputs: {n: int}\n"), {}, "input", ["n"]),
        (tool('outputs: {o: {type: File, outputBinding: {glob: "none.txt"}}}\n'), {}, "engine", ["main", "none.txt"]),
        (
            tool("requirements: {InlineJavascriptRequirement: {}}\narguments: ['$(nothing + 1)']\n"),
            {},
            "engine",
            ["ReferenceError: nothing is not defined"],
        ),
    ],
    ids=["type", "missing", "output", "javascript"],
)
def test_what_is_wrong_is_told_with_its_place(
    world: World, text: str, parameters: dict[str, Any], kind: str, words: list[str]
) -> None:
    _, result = execute(world, text, parameters)
    assert result.failure is not None
    assert result.failure["kind"] == kind
    assert [word for word in words if word not in result.failure["message"]] == [], result.failure


def test_after_a_failure_nothing_new_begins_and_the_rest_is_not_waited_for(world: World) -> None:
    text = """
        cwlVersion: v1.2
        class: Workflow
        requirements: {ScatterFeatureRequirement: {}}
        inputs: {seconds: "string[]"}
        steps:
          s:
            scatter: t
            in: {t: seconds}
            out: []
            run:
              class: CommandLineTool
              baseCommand: [sh, -c, 'sleep $1; exit 3', x]
              inputs: {t: {type: string, inputBinding: {position: 1}}}
              outputs: []
        outputs: []
        """
    _, result = execute(world, textwrap.dedent(text), {"seconds": ["0", "500", "500"]})
    assert result.failure is not None
    assert (result.failure["task_key"], result.failure["exit_code"]) == ("s-0", 3)


def test_names_of_tasks_tell_step_element_and_round(world: World) -> None:
    text = """
        cwlVersion: v1.2
        class: Workflow
        requirements: {ScatterFeatureRequirement: {}, SubworkflowFeatureRequirement: {}}
        inputs: {xs: "string[]", ys: "string[]"}
        steps:
          outer:
            scatter: x
            in: {x: xs, ys: ys}
            out: []
            run:
              class: Workflow
              inputs: {x: string, ys: "string[]"}
              steps:
                inner:
                  scatter: [a, b]
                  scatterMethod: nested_crossproduct
                  in: {a: ys, b: ys, x: x}
                  out: []
                  run: {class: CommandLineTool, baseCommand: "true", inputs: {a: string, b: string, x: string}, outputs: []}
              outputs: []
        outputs: []
        """
    run, result = execute(world, textwrap.dedent(text), {"xs": ["p", "q"], "ys": ["r", "s"]})
    assert result.succeeded, result.failure
    assert run.server.keys() == [f"outer-{x}/inner-{a}-{b}" for x in (0, 1) for a in (0, 1) for b in (0, 1)]
    assert {one["name"] for one in asked(run, "name")} == {"inner-0-0", "inner-0-1", "inner-1-0", "inner-1-1"}


def test_hundreds_of_elements_wait_on_as_many_threads_as_are_allowed(world: World) -> None:
    text = """
        cwlVersion: v1.2
        class: Workflow
        requirements: {ScatterFeatureRequirement: {}}
        inputs: {xs: "int[]"}
        steps:
          s: {scatter: x, in: {x: xs}, out: [], run: {class: CommandLineTool, baseCommand: "true", inputs: {x: int}, outputs: []}}
        outputs: []
        """
    run = world.folder({"main.cwl": textwrap.dedent(text)})
    run.server.decide = lambda submit: {"reason": "OK", "exit_code": 0}
    result = world.execute(run, engine="CWL", main="main.cwl", parameters={"xs": list(range(200))}, task_concurrency=20)
    assert result.succeeded, result.failure
    assert len(run.server.tasks) == 200
