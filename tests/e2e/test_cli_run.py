"""A user's way through the command line: run, look on, leave, come back; and AWS's own clients in a shell set up by `runomics env`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from workflows import ENDED

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
READS = Path("/usr/share/doc/bowtie2/examples/reads/reads_1.fq.gz")

pytestmark = [pytest.mark.needs("bwrap", "userns"), pytest.mark.slow]

HOLD = """version 1.1
workflow main { input { File gate } call hold { input: gate } output { String said = hold.said } }
task hold {
  input { File gate }
  command <<< for number in $(seq 1 ~{read_int(gate)}); do echo "line $number"; sleep 0.1; done; echo over >&2; echo held >>>
  output { String said = "held" }
}
"""


def without_runomics() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("RUNOMICS_", "AWS_"))}


def runomics(site: Any, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One command that is not on a terminal."""
    environment = without_runomics() | {"RUNOMICS_DATA": str(site.data)}
    command = [sys.executable, "-m", "runomics", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=180)


class Terminal:
    """A command on a pseudo-terminal, and what it has shown, colours and moves of the cursor left out."""

    def __init__(self, site: Any, cwd: Path, *arguments: str) -> None:
        self.shown = ""
        self.child, self._terminal = pty.fork()
        if self.child == 0:
            os.chdir(cwd)
            environment = without_runomics() | {"RUNOMICS_DATA": str(site.data), "TERM": "xterm"}
            os.execve(sys.executable, [sys.executable, "-m", "runomics", *arguments], environment)
        self._guard = threading.Timer(90, os.kill, (self.child, signal.SIGKILL))
        self._guard.start()

    def expect(self, text: str) -> None:
        while text not in self.shown:
            try:
                more = os.read(self._terminal, 65_536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"{text!r} was not shown; the terminal shows: {self.shown}") from None
            self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", more)

    def type(self, keys: bytes) -> None:
        self.shown = ""
        os.write(self._terminal, keys)

    def end(self) -> int:
        """Read the rest; the exit code."""
        with contextlib.suppress(OSError):
            while more := os.read(self._terminal, 65_536):
                self.shown += more.decode(errors="replace")
        code = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
        self._guard.cancel()
        os.close(self._terminal)
        return code


def hold(folder: Path, tenths: int) -> None:
    """A workflow that takes so many tenths of a second, with its inputs."""
    (folder / "main.wdl").write_text(HOLD)
    (folder / "gate.txt").write_text(f"{tenths}\n")
    (folder / "inputs.json").write_text('{"gate": "gate.txt"}')


def run_id_in(text: str) -> str:
    found = re.search(r"\brun (\d+)", text)
    assert found is not None, text
    return found[1]


def outputs_in(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "logs" / "outputs.json").read_text())
    return {name.rpartition(".")[2]: value for name, value in document.items()}


@pytest.mark.source("guide")
def test_the_demo_gives_the_facts_of_the_genome(site: Any, tmp_path: Path) -> None:
    demo = EXAMPLES / "demo"
    expected = json.loads((demo / "expected.json").read_text())
    ended = runomics(site, "run", str(demo), "-i", str(demo / "inputs.json"), "--outputs", str(tmp_path / "out"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    outputs = outputs_in(tmp_path / "out")
    facts = ("length_bp", "gc_percent", "orf_count")
    assert {name: outputs[name] for name in facts} == {name: expected[name] for name in facts}
    report = next((tmp_path / "out" / "out" / "text").iterdir()).read_text()
    assert expected["longest_orf"] in report
    table = next((tmp_path / "out" / "out" / "composition_table").iterdir()).read_text().splitlines()
    assert sum(1 for line in table if re.match(r"\d", line)) == expected["windows"]
    tasks = site.client.list_run_tasks(id=run_id_in(ended.stdout), maxResults=100)["items"]
    assert len(tasks) == expected["tasks"]


@pytest.mark.needs("bowtie2")
@pytest.mark.source("guide")
@pytest.mark.parametrize("example", ["wdl-variants", "cwl-variants"])
def test_the_variants_are_those_that_the_tools_alone_find(site: Any, tmp_path: Path, example: str) -> None:
    if not READS.exists():
        pytest.skip("this machine has no bowtie2-examples")
    expected = json.loads((EXAMPLES / "wdl-variants" / "expected.json").read_text())
    variants = EXAMPLES / example
    ended = runomics(
        site, "run", str(variants), "-i", str(variants / "inputs.json"), "--outputs", str(tmp_path / "out")
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    out = {path.name: path for path in (tmp_path / "out" / "out").rglob("*") if path.is_file()}
    vcf = out["lambda.vcf.gz"]
    lines = subprocess.run(
        ["bcftools", "query", "-f", "%POS\\t%REF\\t%ALT\\n", str(vcf)], capture_output=True, text=True, check=True
    ).stdout
    stats = out["lambda.stats.txt"].read_text()
    flagstat = out["lambda.flagstat.txt"].read_text()
    summary = out["lambda.bowtie2.txt"].read_text()
    found = {
        "variant_count": outputs_in(tmp_path / "out")["variant_count"],
        "snps": number_of(r"number of SNPs:\t(\d+)", stats),
        "indels": number_of(r"number of indels:\t(\d+)", stats),
        "overall_alignment_rate_percent": float(re.search(r"([\d.]+)% overall", summary)[1]),  # type: ignore[index]
        "mapped_reads": number_of(r"(\d+) \+ \d+ mapped", flagstat),
        "properly_paired_reads": number_of(r"(\d+) \+ \d+ properly paired", flagstat),
        "first_variant_position": int(lines.split("\t", 1)[0]),
        "positions_and_alleles_sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }
    assert found == {name: expected[name] for name in found}


def number_of(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, text
    return int(found[1])


@pytest.mark.source("assumed")
def test_a_run_on_a_terminal_shows_a_table_and_brings_the_outputs(site: Any, tmp_path: Path) -> None:
    hold(tmp_path, 5)
    terminal = Terminal(site, tmp_path, "run", "main.wdl", "-i", "inputs.json", "--outputs", "out")
    terminal.expect("hold")
    terminal.expect("COMPLETED")
    assert terminal.end() == 0
    assert outputs_in(tmp_path / "out") == {"said": "held"}


@pytest.mark.source("assumed")
def test_a_user_may_leave_a_run_and_see_its_logs_to_their_end(site: Any, tmp_path: Path) -> None:
    hold(tmp_path, 40)
    terminal = Terminal(site, tmp_path, "run", "main.wdl", "-i", "inputs.json")
    terminal.expect("hold")
    run_id = run_id_in(terminal.shown)
    wait_for_task(site, run_id)
    terminal.type(b"\x03")
    terminal.expect("[cancel/detach/continue]")
    terminal.type(b"continue\n")
    terminal.expect("hold")
    terminal.type(b"\x03")
    terminal.expect("[cancel/detach/continue]")
    terminal.type(b"detach\n")
    terminal.expect("goes on")
    assert terminal.end() == 130
    assert site.client.get_run(id=run_id)["status"] == "RUNNING"
    followed = runomics(site, "logs", run_id, "--task", "hold", "--follow")
    assert followed.returncode == 0, followed.stderr
    expected = [*(f"line {number}" for number in range(1, 41)), "held"]
    assert [line for line in followed.stdout.splitlines() if line != "over"] == expected
    assert followed.stdout.count("over") == 1
    whole = runomics(site, "logs", run_id, "--follow")
    assert whole.stdout.splitlines()[-1] == "Run is COMPLETED."
    assert "workflow start" in runomics(site, "logs", run_id, "--engine", "--follow").stdout


@pytest.mark.source("assumed")
def test_a_failed_and_a_cancelled_run_have_their_own_exit_codes(site: Any, tmp_path: Path) -> None:
    hold(tmp_path, 600)
    (tmp_path / "fails.wdl").write_text(HOLD.replace("echo held", "exit 3"))
    (tmp_path / "short.txt").write_text("1\n")
    (tmp_path / "short.json").write_text('{"gate": "short.txt"}')
    failed = runomics(site, "run", "fails.wdl", "-i", "short.json", cwd=tmp_path)
    assert failed.returncode == 1
    assert "  over" in failed.stdout.splitlines()
    terminal = Terminal(site, tmp_path, "run", "main.wdl", "-i", "inputs.json")
    terminal.expect("hold")
    run_id = run_id_in(terminal.shown)
    wait_for_task(site, run_id)
    terminal.type(b"\x03")
    terminal.expect("[cancel/detach/continue]")
    terminal.type(b"cancel\n")
    terminal.expect("CANCELLED")
    assert terminal.end() == 130
    assert site.end_of(run_id)["status"] == "CANCELLED"
    assert not (tmp_path / run_id).exists()


def wait_for_task(site: Any, run_id: str) -> None:
    pause = threading.Event()
    while not site.client.list_run_tasks(id=run_id, status="RUNNING")["items"]:
        assert site.client.get_run(id=run_id)["status"] not in ENDED
        pause.wait(0.02)


FIVE_STEPS = """
import io, json, zipfile, boto3
omics = boto3.client("omics")
archive = io.BytesIO()
with zipfile.ZipFile(archive, "w") as file:
    file.writestr("main.wdl", '''version 1.1
workflow main { call t output { File f = t.f } }
task t { command <<< sleep 3; echo content > f.txt >>> output { File f = "f.txt" } }
''')
workflow = omics.create_workflow(name="five-steps", definitionZip=archive.getvalue())
omics.get_waiter("workflow_active").wait(id=workflow["id"])
soon = {"Delay": 1, "MaxAttempts": 60}
run = omics.start_run(workflowId=workflow["id"], roleArn="arn:aws:iam::123456789012:role/r", outputUri="s3://runomics/five",
                      storageType="DYNAMIC", requestId="five-steps")
omics.get_waiter("run_running").wait(id=run["id"], WaiterConfig=soon)
pages = omics.get_paginator("list_run_tasks")
task = None
while task is None:
    task = next(iter(pages.paginate(id=run["id"]).build_full_result()["items"]), None)
omics.get_waiter("task_running").wait(id=run["id"], taskId=task["taskId"], WaiterConfig=soon)
omics.get_waiter("task_completed").wait(id=run["id"], taskId=task["taskId"], WaiterConfig=soon)
omics.get_waiter("run_completed").wait(id=run["id"])
version = omics.create_workflow_version(workflowId=workflow["id"], versionName="v1", definitionZip=archive.getvalue(), requestId="v")
omics.get_waiter("workflow_version_active").wait(workflowId=workflow["id"], versionName="v1")
listed = [item["id"] for page in omics.get_paginator("list_runs").paginate() for item in page["items"]]
print(json.dumps({"run": omics.get_run(id=run["id"])["runOutputUri"], "listed": run["id"] in listed}))
"""


@pytest.mark.source("model")
def test_plain_boto3_goes_all_five_steps_with_the_waiters_as_they_come(site: Any, tmp_path: Path) -> None:
    """All six waiters; those of active workflows and of completed runs with AWS's own delays."""
    (tmp_path / "steps.py").write_text(FIVE_STEPS)
    shell = f'eval "$({sys.executable} -m runomics env)" && exec {sys.executable} -W error steps.py'
    environment = without_runomics() | {"RUNOMICS_DATA": str(site.data)}
    done = subprocess.run(
        ["bash", "-c", shell], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["listed"] is True
    assert site.object(f"{answer['run']}/out/f/f.txt").read_text() == "content\n"


@pytest.mark.needs("awscli")
@pytest.mark.source("model")
def test_the_aws_cli_goes_all_five_steps(site: Any, tmp_path: Path) -> None:
    hold(tmp_path, 1)
    shutil.make_archive(str(tmp_path / "definition"), "zip", tmp_path, "main.wdl")
    gate = site.put("s3://runomics/gate.txt", b"1\n")

    def aws(*arguments: str) -> Any:
        done = runomics(site, "aws", "omics", *arguments, "--output", "json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    workflow = aws("create-workflow", "--name", "by-cli", "--definition-zip", "fileb://definition.zip")
    aws("wait", "workflow-active", "--id", workflow["id"])
    run = aws(
        "start-run", "--workflow-id", workflow["id"], "--role-arn", "arn:aws:iam::123456789012:role/r",
        "--output-uri", "s3://runomics/by-cli", "--storage-type", "DYNAMIC", "--parameters", json.dumps({"gate": gate}),
    )  # fmt: skip
    site.end_of(run["id"])
    aws("wait", "run-completed", "--id", run["id"])
    assert run["id"] in [item["id"] for item in aws("list-runs")["items"]]
    (task,) = aws("list-run-tasks", "--id", run["id"])["items"]
    assert (task["name"], task["status"]) == ("hold", "COMPLETED")
    uri = aws("get-run", "--id", run["id"])["runOutputUri"]
    assert json.loads(site.object(f"{uri}/logs/outputs.json").read_text()) == {"main.said": "held"}
