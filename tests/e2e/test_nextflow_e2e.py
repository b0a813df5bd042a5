"""Nextflow from CreateWorkflow to objects: through boto3, on a real server."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from server import wait_until

Site = Any
"""conftest.Site: a conftest cannot be imported where there are several."""

pytestmark = [pytest.mark.needs("nextflow", "root", "loop", "xfs", "cgroup"), pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"
READS = Path("/usr/share/doc/bowtie2/examples/reads")

HELLO = """
params.name = 'world'
process HELLO { tag "$name"; publishDir '/mnt/workflow/pubdir/greetings'
  input: val name; path more
  output: path 'hello.txt'
  script: "(echo hello $name; cat $more) > hello.txt" }
workflow { HELLO(params.name, file(params.more)) }
"""

WAITS = """
process LONG { publishDir '/mnt/workflow/pubdir'
  output: path 'long.txt'
  script: "echo waiting; while [ ! -e /mnt/workflow/go ]; do sleep 0.02; done; echo done > long.txt" }
workflow { LONG() }
"""


def register(site: Site, files: Mapping[str, str | bytes], **more: Any) -> dict[str, Any]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
    client = site.client
    made = client.create_workflow(name="test", definitionZip=archive.getvalue(), **more)
    found: dict[str, Any] = {}

    def settled() -> bool:
        found.update(client.get_workflow(id=made["id"]))
        return bool(found["status"] != "CREATING")

    assert wait_until(settled, 60, every_seconds=0.02)
    return found


def test_a_pipeline_runs_from_creation_to_published_objects(site: Site) -> None:
    workflow = register(site, {"main.nf": HELLO})
    assert (workflow["status"], workflow["engine"], workflow["main"]) == ("ACTIVE", "NEXTFLOW", "main.nf")
    assert workflow["parameterTemplate"] == {"name": {"optional": True}, "more": {}}
    more = site.put("s3://runomics/in/more.txt", b"and more\n")
    run = site.end_of(site.start(workflow["id"], parameters={"name": "you", "more": more}))
    assert run["status"] == "COMPLETED", run
    assert run["engineVersion"] == "25.04.4"
    assert more in run["resourceDigests"]
    folder = site.object(run["runOutputUri"])
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"pubdir/greetings/hello.txt", "logs/engine.log"}
    assert (folder / "pubdir/greetings/hello.txt").read_text() == "hello you\nand more\n"
    tasks = site.client.list_run_tasks(id=run["id"])["items"]
    assert [(task["name"], task["status"]) for task in tasks] == [("HELLO (you)", "COMPLETED")]


def test_objects_are_listed_and_staged_while_the_pipeline_runs(site: Site) -> None:
    for name in ("a_1.fq", "a_2.fq", "b_1.fq", "b_2.fq", "unwanted.bam"):
        site.put(f"s3://runomics/reads/{name}", name.encode() + b"\n")
    text = """
process JOIN { publishDir '/mnt/workflow/pubdir', mode: 'copy'
  input: tuple val(id), path(pair)
  output: path '*.txt'
  script: "cat $pair > ${id}.txt" }
workflow { JOIN(Channel.fromFilePairs("${params.base}*_{1,2}.fq")) }
"""
    workflow = register(site, {"main.nf": text})
    run = site.end_of(site.start(workflow["id"], parameters={"base": "s3://runomics/reads/"}))
    assert run["status"] == "COMPLETED", run
    folder = site.object(run["runOutputUri"]) / "pubdir"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "a.txt": "a_1.fq\na_2.fq\n",
        "b.txt": "b_1.fq\nb_2.fq\n",
    }


@pytest.mark.source("guide")
def test_a_failing_task_names_itself_with_its_last_words_and_a_retry_is_another_task(site: Site) -> None:
    text = """
process BREAK { errorStrategy 'retry'; maxRetries 1
  script: "echo something is wrong >&2; exit 3" }
workflow { BREAK() }
"""
    run = site.end_of(site.start(register(site, {"main.nf": text})["id"]))
    assert (run["status"], run["failureReason"]) == ("FAILED", "RUN_TASK_FAILED")
    assert "BREAK" in run["statusMessage"]
    assert "something is wrong" in run["statusMessage"]
    tasks = site.client.list_run_tasks(id=run["id"])["items"]
    assert [(task["name"], task["status"]) for task in tasks] == [("BREAK", "FAILED")] * 2
    assert "Task BREAK ended with exit code 3; it is retried." in site.log(run["id"], "run")


def test_an_error_of_the_pipeline_is_the_message_of_the_run(site: Site) -> None:
    workflow = register(site, {"main.nf": "workflow { error 'Give more, please' }"})
    run = site.end_of(site.start(workflow["id"]))
    assert (run["status"], run["failureReason"]) == ("FAILED", "WORKFLOW_RUN_FAILED")
    assert "Give more, please" in run["statusMessage"]


@pytest.mark.source("guide")
def test_an_insisted_version_that_is_not_here_has_its_own_reason(site: Site) -> None:
    workflow = register(site, {"main.nf": "workflow { }", "nextflow.config": "manifest.nextflowVersion = '!23.10.0'\n"})
    run = site.end_of(site.start(workflow["id"]))
    assert (run["status"], run["failureReason"]) == ("FAILED", "WORKFLOW_VER_VALIDATION_FAILED")


def test_a_broken_pipeline_is_a_failed_workflow_with_file_and_line(site: Site) -> None:
    workflow = register(site, {"main.nf": "include { X } from './x'\nworkflow { X() }\n"})
    assert (workflow["status"], workflow["statusMessage"]) == (
        "FAILED",
        "(main.nf Ln 1) No such file or directory: include from './x'",
    )


def waiting_run(site: Site) -> str:
    run_id = site.start(register(site, {"main.nf": WAITS})["id"])
    client = site.client

    def runs() -> bool:
        return any(task["status"] == "RUNNING" for task in client.list_run_tasks(id=run_id)["items"])

    assert wait_until(runs, 60, every_seconds=0.02), client.get_run(id=run_id)
    return run_id


def test_a_cancelled_run_is_gone_within_two_seconds(site: Site) -> None:
    run_id = waiting_run(site)
    site.client.cancel_run(id=run_id)
    assert site.end_of(run_id, 2)["status"] == "CANCELLED"


def test_server_and_launcher_killed_in_the_middle_the_run_goes_on(serve: Callable[..., Site]) -> None:
    site = serve()
    run_id = waiting_run(site)
    process = site.server.process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    volume = next(site.data.glob("runs/*/volume"))
    (volume / "go").touch()
    site.server.start()
    run = site.end_of(run_id)
    assert run["status"] == "COMPLETED", run
    assert (site.object(run["runOutputUri"]) / "pubdir/long.txt").read_text() == "done\n"
    assert len(site.client.list_run_tasks(id=run_id)["items"]) == 1


def test_a_lost_engine_is_started_again_and_resumes(serve: Callable[..., Site]) -> None:
    site = serve()
    run_id = waiting_run(site)
    claimed = next(site.data.glob("runs/*/pid.1"))
    os.kill(int(claimed.read_text().split()[0]), signal.SIGKILL)
    (claimed.parent / "volume" / "go").touch()
    run = site.end_of(run_id)
    assert run["status"] == "COMPLETED", run
    assert (site.object(run["runOutputUri"]) / "pubdir/long.txt").read_text() == "done\n"


@pytest.mark.needs("bowtie2")
def test_the_example_finds_the_variants_that_the_tools_find_alone(site: Site) -> None:
    example = EXAMPLES / "nextflow-variants"
    files = {str(path.relative_to(example)): path.read_bytes() for path in example.rglob("*") if path.is_file()}
    workflow = register(site, files)
    assert workflow["status"] == "ACTIVE", workflow.get("statusMessage")
    assert workflow["parameterTemplate"]["reference"] == {"description": "The reference, FASTA, may be compressed"}
    reference = site.put("s3://runomics/in/lambda_virus.fa.gz", (EXAMPLES / "data/lambda_virus.fa.gz").read_bytes())
    reads = [
        site.put(f"s3://runomics/in/{name}", (READS / name).read_bytes()) for name in ("reads_1.fq.gz", "reads_2.fq.gz")
    ]
    sheet = site.put("s3://runomics/in/samples.csv", f"sample,reads_1,reads_2\nlambda,{','.join(reads)}\n".encode())
    run = site.end_of(site.start(workflow["id"], parameters={"input": sheet, "reference": reference}), 120)
    assert run["status"] == "COMPLETED", run
    published = site.object(run["runOutputUri"]) / "pubdir"
    expected = json.loads((EXAMPLES / "wdl-variants" / "expected.json").read_text())
    with gzip.open(published / "variants/lambda.vcf.gz", "rt") as file:
        rows = [line.split("\t") for line in file if not line.startswith("#")]
    told = "".join("\t".join((row[1], row[3], row[4])) + "\n" for row in rows)
    assert len(rows) == expected["variant_count"]
    assert hashlib.sha256(told.encode()).hexdigest() == expected["positions_and_alleles_sha256"]
    assert (
        f"{expected['overall_alignment_rate_percent']}% overall" in (published / "align/lambda.bowtie2.txt").read_text()
    )
    assert "lambda: 88 variants" in (site.object(run["runOutputUri"]) / "logs/engine.log").read_text()


@pytest.mark.needs("bowtie2")
def test_the_command_line_runs_the_example_with_files_of_this_machine(site: Site, tmp_path: Path) -> None:
    example = EXAMPLES / "nextflow-variants"
    command = [sys.executable, "-m", "runomics", "run", str(example), "-i", str(example / "inputs.json")]
    command += ["--outputs", str(tmp_path / "out"), "--data", str(site.data)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    published = {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out" / "pubdir").rglob("*") if path.is_file()
    }
    assert published == {
        "pubdir/align/lambda.bam",
        "pubdir/align/lambda.bam.bai",
        "pubdir/align/lambda.bowtie2.txt",
        "pubdir/align/lambda.flagstat.txt",
        "pubdir/variants/lambda.stats.txt",
        "pubdir/variants/lambda.vcf.gz",
        "pubdir/variants/lambda.vcf.gz.tbi",
    }
