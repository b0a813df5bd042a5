"""CWL through boto3: registered, run, failed, cancelled, and carried over the deaths of server, launchers and engine."""

from __future__ import annotations

import io
import json
import os
import signal
import textwrap
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from server import wait_until
from workflows import start

pytestmark = pytest.mark.needs("bwrap", "userns", "javascript")

PIPELINE = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}, InlineJavascriptRequirement: {}, StepInputExpressionRequirement: {}}
inputs:
  samples: {type: "File[]", secondaryFiles: [.idx], label: Samples with their indexes}
  title: {type: string, default: untitled, doc: What to call it}
  more: File?
steps:
  count:
    run: tools/count.cwl
    scatter: sample
    in: {sample: samples}
    out: [n, copy]
  report:
    in: {ns: count/n, title: title, line: {valueFrom: "$(inputs.title.toUpperCase())"}}
    out: [page]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'echo "$1"; shift; printf "%s\\n" "$@"', x]
      inputs:
        line: {type: string, inputBinding: {position: 1}}
        ns: {type: "int[]", inputBinding: {position: 2}}
        title: string
      stdout: report.txt
      outputs: {page: stdout}
outputs:
  page: {type: File, outputSource: report/page}
  copies: {type: "File[]", outputSource: count/copy}
  ns: {type: "int[]", outputSource: count/n}
"""

COUNT = """
cwlVersion: v1.2
class: CommandLineTool
requirements: {InlineJavascriptRequirement: {}, ResourceRequirement: {coresMin: 1, ramMin: 300}}
baseCommand: [sh, -c, 'echo "counting $1" >&2; cat "$1.idx" >&2; wc -c < "$1" > n.txt; cp "$1" copy.txt; cp "$1.idx" copy.txt.idx', x]
inputs: {sample: {type: File, secondaryFiles: [.idx], inputBinding: {position: 1}}}
outputs:
  n: {type: int, outputBinding: {glob: n.txt, loadContents: true, outputEval: "$(parseInt(self[0].contents))"}}
  copy: {type: File, secondaryFiles: [.idx], outputBinding: {glob: copy.txt}}
"""

WAITING = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}, InlineJavascriptRequirement: {}}
inputs: {numbers: "int[]", seconds: "string"}
steps:
  quick: {run: step.cwl, scatter: number, in: {number: numbers, seconds: {default: "0"}}, out: [said]}
  slow: {run: step.cwl, scatter: number, in: {number: numbers, seconds: seconds, after: quick/said}, out: [said]}
outputs: {quick: {type: "string[]", outputSource: quick/said}, slow: {type: "string[]", outputSource: slow/said}}
"""

STEP = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, 'echo "once $1"; sleep $2; echo $1', x]
inputs: {number: {type: int, inputBinding: {position: 1}}, seconds: {type: string, inputBinding: {position: 2}}, after: Any?}
stdout: said.txt
outputs: {said: {type: string, outputBinding: {glob: said.txt, loadContents: true, outputEval: "$(self[0].contents)"}}}
"""


HEAD = "cwlVersion: v1.2\nclass: Workflow\ninputs: {}\noutputs: {}\nsteps:\n"


def archive(files: Mapping[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, text in files.items():
            opened.writestr(name, textwrap.dedent(text))
    return data.getvalue()


def created(site: Any, files: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """The workflow once it is ACTIVE or FAILED."""
    client, found = site.client, {}
    made = client.create_workflow(name="cwl", definitionZip=archive(files), **more)

    def settled() -> bool:
        found.update(client.get_workflow(id=made["id"]))
        return found["status"] != "CREATING"

    assert wait_until(settled, 40)
    return found


def run_of(site: Any, files: Mapping[str, str], parameters: Mapping[str, Any] | None = None, **more: Any) -> str:
    workflow = created(site, files, **more)
    assert workflow["status"] == "ACTIVE", workflow.get("statusMessage")
    return start(site.client, workflow["id"], parameters=dict(parameters or {}))


def content(site: Any, file: Mapping[str, Any]) -> str:
    return site.object(file["location"]).read_text()


def live_tasks(site: Any, run_id: str) -> list[str]:
    items = site.client.list_run_tasks(id=run_id)["items"]
    return [task["name"] for task in items if task["status"] == "RUNNING"]


def engine_of(site: Any, run_id: str, incarnation: int = 1) -> int:
    """The run process's pid."""
    uuid = site.client.get_run(id=run_id)["uuid"]
    return int((site.data / "runs" / uuid / f"pid.{incarnation}").read_text().split()[0])


@pytest.mark.source("guide")
def test_a_workflow_runs_from_boto3_to_file_objects_at_their_s3_locations(site: Any) -> None:
    files = {"main.cwl": PIPELINE, "tools/count.cwl": COUNT}
    workflow = created(site, files)
    assert (workflow["engine"], workflow["main"], workflow["status"]) == ("CWL", "main.cwl", "ACTIVE")
    assert workflow["parameterTemplate"] == {
        "samples": {"description": "Samples with their indexes"},
        "title": {"description": "What to call it", "optional": True},
        "more": {"description": "", "optional": True},
    }
    samples = []
    for name in ("a b", "c"):
        samples.append({"class": "File", "location": site.put(f"s3://cwl-in/{name}.txt", name.encode() * 3)})
        site.put(f"s3://cwl-in/{name}.txt.idx", b"index of " + name.encode())
    run = site.end_of(start(site.client, workflow["id"], parameters={"samples": samples, "title": "hello"}))
    assert run["status"] == "COMPLETED", run
    outputs = site.outputs(run)
    base = run["runOutputUri"].rstrip("/")
    assert outputs["ns"] == [9, 3]
    assert content(site, outputs["page"]) == "HELLO\n9\n3\n"
    assert outputs["page"]["location"] == f"{base}/out/report.txt"
    assert {name: outputs["page"][name] for name in ("class", "basename", "size")} == {
        "class": "File",
        "basename": "report.txt",
        "size": 10,
    }
    assert [one["location"] for one in outputs["copies"]] == [f"{base}/out/copy.txt", f"{base}/out/copy.txt_2"]
    assert [content(site, one) for one in outputs["copies"]] == ["a ba ba b", "ccc"]
    assert [content(site, one["secondaryFiles"][0]) for one in outputs["copies"]] == ["index of a b", "index of c"]
    tasks = site.client.list_run_tasks(id=run["id"])["items"]
    assert sorted(task["name"] for task in tasks) == ["count-0", "count-1", "report"]
    first = next(task["taskId"] for task in tasks if task["name"] == "count-1")
    assert any("counting" in line for line in site.log(run["id"], f"task-{first}"))
    assert "index of c" in site.log(run["id"], f"task-{first}")
    assert any("[job report] completed success" in line for line in site.log(run["id"], "engine"))
    assert (site.object(f"{base}/logs/engine.log")).exists()


@pytest.mark.source("guide")
def test_main_may_name_a_process_of_a_packed_document(site: Any) -> None:
    text = """
        cwlVersion: v1.2
        $graph:
          - {id: one, class: CommandLineTool, baseCommand: [echo, one], inputs: [], stdout: o, outputs: {o: stdout}}
          - {id: two, class: CommandLineTool, baseCommand: [echo, two], inputs: [], stdout: o, outputs: {o: stdout}}
        """
    run = site.end_of(run_of(site, {"sub/packed.cwl": text}, main="sub/packed.cwl#two"))
    assert run["status"] == "COMPLETED", run
    assert content(site, site.outputs(run)["o"]) == "two\n"


@pytest.mark.source("guide")
def test_a_failing_task_is_named_with_its_last_lines(site: Any) -> None:
    text = """
        cwlVersion: v1.2
        class: Workflow
        inputs: []
        steps:
          bad:
            in: []
            out: []
            run: {class: CommandLineTool, baseCommand: [sh, -c, "echo all is lost >&2; exit 9"], inputs: [], outputs: []}
        outputs: []
        """
    run = site.end_of(run_of(site, {"main.cwl": text}))
    assert (run["status"], run["failureReason"]) == ("FAILED", "RUN_TASK_FAILED")
    assert "bad" in run["statusMessage"]
    assert "9" in run["statusMessage"]
    assert "all is lost" in run["statusMessage"]
    task = site.client.list_run_tasks(id=run["id"])["items"][0]
    assert (task["name"], task["status"]) == ("bad", "FAILED")


@pytest.mark.source("guide")
def test_an_input_that_does_not_exist_fails_the_run_by_its_uri(site: Any) -> None:
    text = "{cwlVersion: v1.2, class: CommandLineTool, baseCommand: cat, inputs: {f: File}, outputs: []}"
    run = site.end_of(run_of(site, {"main.cwl": text}, {"f": {"class": "File", "location": "s3://cwl-in/none.txt"}}))
    assert (run["status"], run["failureReason"]) == ("FAILED", "INPUT_URI_NOT_FOUND")
    assert "s3://cwl-in/none.txt" in run["statusMessage"]


@pytest.mark.source("assumed")
def test_a_missing_secondary_file_fails_the_run_by_its_name(site: Any) -> None:
    site.put("s3://cwl-in/alone.bam", b"x")
    text = "{cwlVersion: v1.2, class: CommandLineTool, baseCommand: cat, inputs: {f: {type: File, secondaryFiles: [.bai]}}, outputs: []}"
    run = site.end_of(run_of(site, {"main.cwl": text}, {"f": {"class": "File", "location": "s3://cwl-in/alone.bam"}}))
    assert run["status"] == "FAILED"
    assert "alone.bam.bai" in run["statusMessage"]


@pytest.mark.source("guide")
def test_a_cancelled_run_ends_within_two_seconds_and_leaves_nothing(site: Any) -> None:
    run_id = run_of(site, {"main.cwl": WAITING, "step.cwl": STEP}, {"numbers": [1, 2], "seconds": "600"})
    assert wait_until(lambda: sorted(live_tasks(site, run_id)) == ["slow-0", "slow-1"], 30)
    engine = engine_of(site, run_id)
    began = time.monotonic()
    site.client.cancel_run(id=run_id)
    assert site.end_of(run_id)["status"] == "CANCELLED"
    assert time.monotonic() - began < 2
    assert not Path(f"/proc/{engine}").exists()
    assert live_tasks(site, run_id) == []


@pytest.mark.source("assumed")
def test_a_run_survives_the_kill_of_server_and_launchers_in_its_middle(serve: Any) -> None:
    site = serve()
    run_id = run_of(site, {"main.cwl": WAITING, "step.cwl": STEP}, {"numbers": [1, 2], "seconds": "1"})
    assert wait_until(lambda: sorted(live_tasks(site, run_id)) == ["slow-0", "slow-1"], 30)
    launchers = [
        int(child)
        for thread in Path(f"/proc/{site.server.process.pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]
    site.server.kill()
    for pid in launchers:
        os.kill(pid, signal.SIGKILL)
    site.server.start()
    run = site.end_of(run_id, 90)
    assert run["status"] == "COMPLETED", run
    assert site.outputs(run) == {"quick": ["once 1\n1\n", "once 2\n2\n"], "slow": ["once 1\n1\n", "once 2\n2\n"]}
    assert len(site.client.list_run_tasks(id=run_id)["items"]) == 4


@pytest.mark.source("assumed")
def test_after_the_loss_of_the_engine_finished_tasks_are_not_run_again(site: Any) -> None:
    run_id = run_of(site, {"main.cwl": WAITING, "step.cwl": STEP}, {"numbers": [1, 2], "seconds": "1"})
    assert wait_until(lambda: sorted(live_tasks(site, run_id)) == ["slow-0", "slow-1"], 30)
    os.kill(engine_of(site, run_id), signal.SIGKILL)
    run = site.end_of(run_id, 90)
    assert run["status"] == "COMPLETED", run
    assert site.outputs(run)["quick"] == ["once 1\n1\n", "once 2\n2\n"]
    names = sorted(task["name"] for task in site.client.list_run_tasks(id=run_id)["items"])
    assert [name for name in names if name.startswith("quick")] == ["quick-0", "quick-1"]


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"main.cwl": "cwlVersion: v1.2\nclass: Workflow\ninputs: [\n"}, ["main.cwl:", "flow"]),
        (
            {"main.cwl": "cwlVersion: v1.2\nclass: CommandLineTool\ninputs: {}\noutputs: {}\nbasecommand: x\n"},
            ["main.cwl:5:", "basecommand"],
        ),
        ({"main.cwl": "class: CommandLineTool\ninputs: {}\noutputs: {}\n"}, ["main.cwl", "cwlVersion"]),
        (
            {
                "main.cwl": HEAD
                + "  s: {run: main.cwl, in: [], out: []}\nrequirements: {SubworkflowFeatureRequirement: {}}\n"
            },
            ["main.cwl", "itself"],
        ),
        (
            {"main.cwl": HEAD + "  s: {run: gone.cwl, in: [], out: []}\n"},
            ["main.cwl:6:", "gone.cwl"],
        ),
        (
            {"main.cwl": HEAD + "  s: {run: 'http://127.0.0.1/x.cwl', in: [], out: []}\n"},
            ["http://127.0.0.1/x.cwl"],
        ),
        (
            {
                "main.cwl": HEAD
                + "  later:\n    in: []\n    out: []\n    run: {class: Operation, inputs: {}, outputs: {}}\n"
            },
            ["Operation"],
        ),
    ],
    ids=["yaml", "field", "version", "itself", "missing", "web", "operation"],
)
def test_a_definition_that_cannot_run_fails_at_creation_with_the_place_and_the_reason(
    site: Any, files: Mapping[str, str], words: list[str]
) -> None:
    workflow = created(site, files)
    assert workflow["status"] == "FAILED"
    assert [word for word in words if word not in workflow["statusMessage"]] == [], workflow["statusMessage"]
    assert "/mnt/workflow" not in workflow["statusMessage"]


@pytest.mark.source("assumed")
def test_a_definition_of_ten_megabytes_is_answered_for_while_clients_still_wait(site: Any) -> None:
    steps = "".join(f"  s{n}: {{run: tool.cwl, in: [], out: []}}\n" for n in range(240_000))
    text = f"cwlVersion: v1.2\nclass: Workflow\ninputs: {{}}\noutputs: {{}}\nsteps:\n{steps}"
    assert len(text) > 10_000_000
    workflow = created(
        site,
        {
            "main.cwl": text,
            "tool.cwl": json.dumps(
                {"cwlVersion": "v1.2", "class": "CommandLineTool", "inputs": {}, "outputs": {}, "baseCommand": "true"}
            ),
        },
    )
    assert workflow["status"] == "FAILED"
    assert f"main.cwl has {len(text)} bytes, the limit is 4194304" in workflow["statusMessage"]
