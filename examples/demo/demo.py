"""`make demo`: starts a service of its own and runs a workflow on the phage lambda genome, as any boto3 program would.

The data directory is new, kept, and printed with the lines to go on by hand. Exit code 0 only when the run COMPLETED.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tempfile
import time
import uuid
import zipfile
from io import BytesIO
from pathlib import Path

import boto3
from botocore.config import Config
from rich.console import Console

from runomics.cli import server, watch
from runomics.cli.connection import NoServer, connect

HERE = Path(__file__).resolve().parent
GENOME = HERE.parent / "data" / "lambda_virus.fa.gz"
BUCKET = "demo"


def main() -> int:
    """Start, run, show; the exit code."""
    console = Console(soft_wrap=True, highlight=False)
    data = Path(tempfile.mkdtemp(prefix="runomics-demo-"))
    begun = time.monotonic()
    try:
        server.start(data, listen="127.0.0.1:0")
    except NoServer as error:
        console.print(str(error), markup=False)
        return 1
    connection = connect(data)
    console.print(f"service at {connection.endpoint.url}, ready in {time.monotonic() - begun:.2f} s, data in {data}\n")

    # A bucket is a folder of the data directory; with --s3-endpoint it would be a bucket of that S3 service.
    bucket = data / "objects" / BUCKET
    (bucket / "genomes").mkdir(parents=True)
    shutil.copy(GENOME, bucket / "genomes")

    # From here on this is what a program for AWS does, but for endpoint_url and inject_host_prefix.
    omics = boto3.client(
        "omics",
        endpoint_url=connection.endpoint.url,
        region_name=connection.endpoint.region,
        aws_access_key_id=connection.keys.access_key_id,
        aws_secret_access_key=connection.keys.secret_access_key,
        config=Config(inject_host_prefix=False),
    )
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as definition:
        definition.write(HERE / "main.wdl", "main.wdl")
    workflow = omics.create_workflow(
        name="genome-portrait", engine="WDL", definitionZip=archive.getvalue(), requestId=str(uuid.uuid4())
    )
    omics.get_waiter("workflow_active").wait(id=workflow["id"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    started = time.monotonic()
    run = omics.start_run(
        workflowId=workflow["id"],
        roleArn=f"arn:aws:iam::{connection.keys.account}:role/demo",
        name="phage lambda",
        parameters={"genome": f"s3://{BUCKET}/genomes/{GENOME.name}"},
        outputUri=f"s3://{BUCKET}/results",
        storageType="DYNAMIC",
        requestId=str(uuid.uuid4()),
    )
    try:
        snapshot = watch.follow(connection, omics, run["id"], watch.screen_for(console))
    except KeyboardInterrupt:
        console.print(
            f"\nleft alone; stop the service with: .venv/bin/runomics stop --runs --data {shlex.quote(str(data))}"
        )
        return 130
    seconds = time.monotonic() - started

    status = snapshot.run["status"]
    if status != "COMPLETED":
        console.print(f"\nrun {run['id']} {status}: {snapshot.run.get('failureReason', '')}", markup=False)
        console.print(snapshot.run.get("statusMessage", ""), markup=False)
    else:
        show_outputs(console, data, snapshot, seconds)
    show_next_steps(console, data, run["id"])
    return 0 if status == "COMPLETED" else 1


def show_outputs(console: Console, data: Path, snapshot: watch.Snapshot, seconds: float) -> None:
    """The report, where the outputs lie, what the run took."""
    results = data / "objects" / snapshot.run["runOutputUri"].removeprefix("s3://")
    outputs = json.loads((results / "logs" / "outputs.json").read_text())
    text = next(value for name, value in outputs.items() if name.rpartition(".")[2] == "text")
    console.print()
    console.print((data / "objects" / text.removeprefix("s3://")).read_text(), markup=False)
    console.print(f"outputs   {results}", markup=False)
    for name, value in outputs.items():
        console.print(f"          {name.rpartition('.')[2]} = {_short(value)}", markup=False)
    peak = snapshot.progress.get("storage_peak_bytes")
    tasks = len(snapshot.tasks)
    console.print(f"took      {seconds:.2f} s from StartRun to COMPLETED, {tasks} tasks, each in a sandbox of its own")
    console.print(f"storage   peak {watch.bytes_text(peak)}" if peak is not None else "storage   not measured")


def show_next_steps(console: Console, data: Path, run_id: str) -> None:
    """The lines to go on by hand."""
    directory = shlex.quote(str(data))
    console.print("\nThe service still runs. Go on by hand:", markup=False)
    for line in (
        f"export RUNOMICS_DATA={directory}",
        f".venv/bin/runomics logs {run_id}",
        ".venv/bin/runomics run examples/demo -i examples/demo/inputs.json",
        'eval "$(.venv/bin/runomics env)"   # from here on boto3 and the AWS CLI find the service',
        f"aws omics list-run-tasks --id {run_id} --query 'items[].[taskId,name,status]' --output text",
        f".venv/bin/runomics stop && rm -rf {directory}",
    ):
        console.print(f"  {line}", markup=False)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 110 else text[:107] + "..."


if __name__ == "__main__":
    sys.exit(main())
