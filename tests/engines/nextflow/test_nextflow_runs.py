"""What only the service does with a pipeline: every task through the gateway, cancel, resume, reports, versions, and what is held back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from engine_world import RunFolder, World, wait_until

from runomics.engines import claim
from runomics.ports import EngineResult

pytestmark = [pytest.mark.needs("nextflow", "bwrap", "userns"), pytest.mark.slow]


def execute(world: World, sources: str | Mapping[str, str], **plan: Any) -> tuple[EngineResult, RunFolder]:
    run = world.folder({"main.nf": sources} if isinstance(sources, str) else sources)
    return world.execute(run, 90, **{"engine": "NEXTFLOW", "main": "main.nf", "parameters": {}, **plan}), run


def said(run: RunFolder) -> list[str]:
    return [line.removeprefix("OUT: ") for line in run.engine_log.splitlines() if line.startswith("OUT: ")]


EVERYTHING = """
process NAMED {
  tag "$x"; executor 'slurm'; queue 'long'; container 'repo/tool:1'; cpus 3; memory 5.GB; disk 7.GB; time 90.s
  accelerator 2, type: 'nvidia-tesla-t4'
  input: val x
  script: "true"
}
process PLAIN { script: "true" }
workflow INNER { NAMED(Channel.of('a')) }
workflow { INNER(); PLAIN() }
"""


def test_whatever_executor_and_container_engine_a_pipeline_names_tasks_come_through_the_gateway(world: World) -> None:
    configuration = """
process.executor = 'awsbatch'
docker.enabled = true
docker.registry = 'registry.example'
singularity.enabled = true
wave.enabled = true
workDir = 's3://bucket/work'
process { withName: 'PLAIN' { executor = 'k8s' } }
"""
    result, run = execute(world, {"main.nf": EVERYTHING, "nextflow.config": configuration})
    assert result.succeeded, run.engine_log
    submits = {task.submit["name"]: task.submit for task in run.server.tasks.values()}
    named = submits["INNER:NAMED (a)"]
    directory = named["cwd"]
    assert directory == f"/mnt/workflow/{run.uuid}/workdir/{named['key']}"
    assert named == {
        "op": "submit",
        "key": named["key"],
        "attempt": 1,
        "name": "INNER:NAMED (a)",
        "argv": ["/bin/bash", f"{directory}/.command.run"],
        "cwd": directory,
        "stdin": None,
        "stdout": f"{directory}/.command.log",
        "stderr": f"{directory}/.command.log",
        "env": {},
        "image": "registry.example/repo/tool:1",
        "cpus": 3,
        "memory_bytes": 5 << 30,
        "disk_bytes": 7 << 30,
        "accelerators": {"type": "nvidia-tesla-t4", "count": 2},
        "timeout_seconds": 90,
        "network": False,
    }
    plain = submits["PLAIN"]
    asked = {
        name: plain[name] for name in ("image", "cpus", "memory_bytes", "disk_bytes", "accelerators", "timeout_seconds")
    }
    assert asked == {
        "image": None, "cpus": 0, "memory_bytes": 0, "disk_bytes": 0, "accelerators": None, "timeout_seconds": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "words", "code"),
    [
        ({"reason": "OOM", "exit_code": 137}, "ran out of memory", 137),
        ({"reason": "TIMEOUT", "exit_code": None}, "exceeded running time limit", 143),
        ({"reason": "IMAGE", "exit_code": None, "message": "no such image"}, "no such image", None),
    ],
    ids=["memory", "time", "image"],
)
def test_an_end_that_the_service_made_is_told_to_the_pipeline(
    world: World, answer: dict[str, Any], words: str, code: int | None
) -> None:
    run = world.folder({"main.nf": "process P { script: 'true' }\nworkflow { P() }\n"})
    run.server.decide = lambda submit: answer
    result = world.execute(run, 60, engine="NEXTFLOW", main="main.nf")
    failure = dict(result.failure or {})
    assert words in failure.pop("message")
    key = next(iter(run.server.tasks))[0]
    assert failure == {"kind": "task", "task_key": key, "task_attempt": 1} | (
        {} if code is None else {"exit_code": code}
    )


def test_out_of_memory_is_retried_by_the_usual_strategy(world: World) -> None:
    text = """
process P { errorStrategy { task.exitStatus in 130..145 ? 'retry' : 'terminate' }; memory { 1.GB * task.attempt }
  output: stdout
  script: "echo ${task.memory}" }
workflow { P(); P.out.view { "OUT: ${it.trim()}" } }
"""
    run = world.folder({"main.nf": text})
    run.server.decide = lambda submit: {"reason": "OOM", "exit_code": 137} if submit["attempt"] == 1 else None
    result = world.execute(run, 60, engine="NEXTFLOW", main="main.nf")
    assert result.succeeded, run.engine_log
    assert said(run) == ["2 GB"]
    assert [task.submit["memory_bytes"] >> 30 for task in run.server.tasks.values()] == [1, 2]
    assert list(run.server.notes.values()) == ["Task P ended with exit code 137; it is retried."]


def test_the_run_is_known_to_configuration_and_scripts(world: World) -> None:
    configuration = """
params.where = System.getenv('AWS_REGION')
if ("$AWS_WORKFLOW_RUN") { params.guarded = 'yes' }
"""
    environment = {
        "AWS_REGION": "eu-west-1",
        "AWS_WORKFLOW_RUN": "arn:aws:omics:eu-west-1:1:run/7",
        "AWS_WORKFLOW_RUN_ID": "7",
    }
    text = """workflow { println "OUT: ${params.where} ${params.guarded} ${System.getenv('AWS_WORKFLOW_RUN_ID')} ${workflow.profile}" }"""
    result, run = execute(world, {"main.nf": text, "nextflow.config": configuration}, environment=environment)
    assert result.succeeded, run.engine_log
    assert said(run) == ["eu-west-1 yes 7 standard"]


def test_reports_and_results_are_exported_and_what_is_published_elsewhere_is_told(world: World) -> None:
    configuration = "\n".join(
        f"{kind} {{ enabled = true; file = '/mnt/workflow/output/{kind}.{end}' }}"
        for kind, end in {"report": "html", "timeline": "html", "trace": "txt", "dag": "dot"}.items()
    )
    text = """
process P { publishDir '/mnt/workflow/pubdir/x', mode: 'copy'; publishDir 'results', mode: 'copy'
  output: path 'p.txt'
  script: "echo p > p.txt" }
workflow { P() }
"""
    result, run = execute(world, {"main.nf": text, "nextflow.config": configuration})
    assert result.succeeded, run.engine_log
    assert result.exports == [
        {"source": "/mnt/workflow/pubdir", "target": "pubdir", "directory": True},
        {"source": "/mnt/workflow/output", "target": "output", "directory": True},
    ]
    assert result.outputs is None
    reports = {path.name for path in (run.volume / "output").iterdir() if path.stat().st_size}
    assert reports == {"report.html", "timeline.html", "trace.txt", "dag.dot"}
    assert "COMPLETED" in (run.volume / "output" / "trace.txt").read_text()
    note = f"/mnt/workflow/{run.uuid}/launch/results/p.txt"
    assert list(run.server.notes.values()) == [
        f"Published outside of /mnt/workflow/pubdir, so it is not exported: {note} (said once)."
    ]


def test_a_remote_configuration_is_left_out_and_said(world: World) -> None:
    configuration = "params.a = 1\nincludeConfig 'https://example.org/x.config'\nparams.b = 2\n"
    text = 'workflow { println "OUT: ${params.a} ${params.b}" }'
    result, run = execute(world, {"main.nf": text, "nextflow.config": configuration})
    assert result.succeeded, run.engine_log
    assert said(run) == ["1 2"]
    assert list(run.server.notes.values()) == [
        "Configuration https://example.org/x.config is not included: runs have no network."
    ]


@pytest.mark.source("guide")
def test_a_version_that_is_insisted_on_and_not_here_fails_the_run_with_its_code(world: World) -> None:
    configuration = "manifest.nextflowVersion = '!>=25.10.0'\n"
    result, run = execute(world, {"main.nf": "workflow { }", "nextflow.config": configuration})
    assert not result.succeeded
    failure = dict(result.failure or {})
    assert failure["code"] == "WORKFLOW_VER_VALIDATION_FAILED", run.engine_log
    assert "25.10.0" in failure["message"]


def test_another_engine_version_is_a_line_of_the_run_log(world: World) -> None:
    result, run = execute(world, "workflow { }", engine_settings={"engineVersion": "23.10.0"})
    assert result.succeeded
    assert list(run.server.notes.values()) == [
        "engineVersion 23.10.0 was asked for; this server runs Nextflow 25.04.4."
    ]


@pytest.mark.source("guide")
def test_an_unknown_profile_fails_the_run_with_its_name(world: World) -> None:
    result, run = execute(
        world, {"main.nf": "workflow { }", "nextflow.config": "params.x = 1\n"}, engine_settings={"profile": "nope"}
    )
    assert not result.succeeded
    assert "Unknown configuration profile: 'nope'" in (result.failure or {})["message"], run.engine_log


def test_an_object_that_is_not_there_fails_the_run_with_its_code(world: World) -> None:
    text = "process P { input: path f\n script: 'cat x' }\nworkflow { P(file('s3://data/none.txt')) }\n"
    result, run = execute(world, text)
    assert not result.succeeded
    failure = dict(result.failure or {})
    assert "s3://data/none.txt" in failure["message"], run.engine_log


def test_a_bucket_cannot_be_written(world: World) -> None:
    text = "workflow { file('s3://data/x.txt').text = 'x' }\n"
    result, _ = execute(world, text)
    assert not result.succeeded
    assert "s3://data/x.txt cannot be written" in (result.failure or {})["message"]


SLOW = """
process QUICK { publishDir '/mnt/workflow/pubdir', mode: 'copy'
  input: val x
  output: path "q-${x}.txt"
  script: "echo $x > q-${x}.txt; date +%N >> q-${x}.txt" }
process LONG { publishDir '/mnt/workflow/pubdir', mode: 'copy'
  input: path q
  output: path 'long.txt'
  script: "while [ ! -e /mnt/workflow/go ]; do sleep 0.02; done; cat $q > long.txt" }
workflow { QUICK(1); LONG(QUICK.out) }
"""


def test_a_cancelled_engine_ends_at_once_and_cancels_its_tasks(world: World) -> None:
    run = world.folder({"main.nf": SLOW})
    run.plan(engine="NEXTFLOW", main="main.nf")
    ended = world.start(run)
    wait_until(lambda: len(run.server.tasks) == 2, 60)
    world.host.stop(run.path, kill=False)
    assert ended.wait(2.0)
    result = world.host.result(run.path, 1)
    assert result is not None
    assert result.cancelled


def test_a_lost_engine_resumes_with_the_finished_tasks(world: World) -> None:
    run = world.folder({"main.nf": SLOW})
    run.plan(engine="NEXTFLOW", main="main.nf")
    ended = world.start(run)
    wait_until(lambda: len(run.server.tasks) == 2, 60)
    kept = next((run.workdir.parent / "launch" / ".nextflow" / "cache").glob("*/db")) / "000003.log"
    # The last letter of a text is marked in its file.
    wait_until(lambda: b"QUIC" in kept.read_bytes(), 60)
    owner = claim.owner(run.path, 1)
    assert owner is not None
    claim.send_signal(owner, signal.SIGKILL)
    assert ended.wait(5.0)
    assert world.host.result(run.path, 1) is None
    before = next(run.workdir.rglob("q-1.txt")).read_text()
    (run.volume / "go").touch()
    result = world.execute(run, 60, engine="NEXTFLOW", main="main.nf", incarnation=2)
    assert result.succeeded, run.engine_log
    assert (run.volume / "pubdir" / "long.txt").read_text() == before
    names = [task.submit["name"] for task in run.server.tasks.values()]
    assert names.count("QUICK") == 1
    assert (
        "1 tasks were finished before the engine was started again; their results are used."
        in run.server.notes.values()
    )


def test_the_server_may_go_away_in_the_middle(world: World) -> None:
    run = world.folder({"main.nf": SLOW})
    run.plan(engine="NEXTFLOW", main="main.nf")
    ended = world.start(run)
    wait_until(lambda: len(run.server.tasks) == 2, 60)
    run.server.close()
    (run.volume / "go").touch()
    long = next(task for task in run.server.tasks.values() if task.submit["name"] == "LONG")
    assert long.ended.wait(10)
    assert not ended.is_set()
    run.server.open()
    assert ended.wait(20), run.engine_log
    result = world.host.result(run.path, 1)
    assert result is not None
    assert result.succeeded, run.engine_log
    assert long.submits == 2


HELD = """
def tried(String what, Closure action) {
  try { println "OUT: $what: ${action()}" } catch( Throwable error ) { println "OUT: $what: ${error.class.simpleName}" }
}
workflow {
  tried('shadow') { new File('/etc/shadow').exists() }
  tried('var') { new File('/var/lib').exists() }
  tried('result') { new File('/run/engine').list() }
  tried('write') { new File('/usr/x').createNewFile() }
  tried('definition') { new File("$projectDir/x").createNewFile() }
  tried('parent') { new File('/proc/1/environ').text.contains('SECRET') }
  tried('secret') { System.getenv().any { it.key.contains('SECRET') } }
  tried('network') { new Socket('127.0.0.1', 1).close() }
  tried('processes') { new File('/proc').list().findAll { it.isInteger() }.size() < 10 }
  tried('root') { 'id -u'.execute().text.trim() != '0' }
  tried('mount') { def p = ['mount', '-t', 'tmpfs', 'x', '/tmp'].execute(); p.waitFor() != 0 }
}
"""


def test_groovy_sees_and_reaches_nothing_of_the_machine(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNOMICS_SECRET", "x")
    result, run = execute(world, HELD)
    assert result.succeeded, run.engine_log
    rootless = run.rootless
    assert said(run) == [
        "shadow: false", "var: false", f"result: {'[]' if rootless else 'null'}", "write: IOException", "definition: IOException",
        f"parent: {'false' if rootless else 'FileNotFoundException'}", "secret: false", "network: ConnectException", "processes: true",
        "root: true", "mount: true",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "greed",
    [
        "def all = []; while( true ) all << new byte[1 << 24]",
        "def all = []; while( true ) all << java.nio.ByteBuffer.allocateDirect(1 << 26)",
    ],
    ids=["heap", "beside the heap"],
)
def test_groovy_that_eats_memory_ends_its_own_run(world: World, greed: str) -> None:
    result, _ = execute(world, f"workflow {{ {greed} }}")
    assert not result.succeeded
    assert "memory" in (result.failure or {})["message"].lower()


@pytest.mark.needs("root")
def test_groovy_that_forks_for_ever_is_held(world: World) -> None:
    text = """
workflow {
  def many = []
  try { while( many.size() < 5000 ) many << ['sleep', '60'].execute() } catch( Throwable error ) { println "OUT: $error.class.simpleName" }
  println "OUT: ${many.size() < 1100}"
}
"""
    run = world.folder({"main.nf": text})
    run.plan(engine="NEXTFLOW", main="main.nf")
    ended: threading.Event = world.start(run)
    assert ended.wait(60)
    assert said(run)[-1:] == ["true"] or "unable to create native thread" in run.engine_log, run.engine_log
