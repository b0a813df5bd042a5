"""`runomics run`: a WDL file and inputs.json become a workflow, a run, and a folder of outputs. Runs in the user's process."""

from __future__ import annotations

import json
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.prompt import Prompt

from runomics.cli import run_logs, watch
from runomics.cli.connection import Connection
from runomics.cli.cwl import cwl_parameters
from runomics.cli.definition import Definition
from runomics.cli.inputs import Uploads, parameters
from runomics.cli.nextflow import nextflow_parameters
from runomics.cli.objects import Buckets, split_uri

if TYPE_CHECKING:
    from types_boto3_omics import OmicsClient

EXIT_COMPLETED, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130
BUCKET = "runomics"
"""The bucket that a server makes for what the command line uploads and collects."""

INLINE_ARCHIVE_BYTES = 4_400_000
"""Source: guide, size of a definition sent inline; a larger one goes by URI."""

ACTIVE_SECONDS = 120.0
LOG_TAIL_LINES = 30


class WorkflowRefused(Exception):
    """The service did not take the definition. The message is the workflow's statusMessage."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the user asked for. `output_uri` and `role_arn` None mean the server's own bucket and the default role."""

    definition: Definition
    inputs: Mapping[str, Any]
    inputs_folder: Path
    outputs: Path | None = None
    name: str | None = None
    output_uri: str | None = None
    role_arn: str | None = None
    members: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Session:
    """The server, a client of it, its buckets, and where to print."""

    connection: Connection
    client: OmicsClient
    buckets: Buckets
    console: Console


def carry_out(session: Session, order: Order) -> int:
    """Register, start, follow and collect; the exit code.

    Raises:
        WorkflowRefused: the definition ended FAILED.
        BadInputs: an input names a file that is not there.
    """
    session.buckets.make(BUCKET)
    workflow_id = ensure_workflow(session, order.definition)
    run_id = start(session, order, workflow_id)
    return attend(session, run_id, order.outputs or Path(run_id))


def ensure_workflow(session: Session, definition: Definition) -> str:
    """The id of the ACTIVE workflow of this name, archive and main file; made when there is none.

    Raises:
        WorkflowRefused: it ended FAILED, or is not ACTIVE after two minutes.
    """
    client = session.client
    for page in client.get_paginator("list_workflows").paginate(name=definition.name, type="PRIVATE"):
        for item in page["items"]:
            if item["status"] != "ACTIVE" or not item.get("digest", "").endswith(definition.sha256):
                continue
            if client.get_workflow(id=item["id"]).get("main") == definition.main:
                session.console.print(
                    f"workflow {item['id']} {definition.name} (same definition as before)", highlight=False
                )
                return str(item["id"])
    if len(definition.archive) > INLINE_ARCHIVE_BYTES:
        source: dict[str, Any] = {"definitionUri": _store_archive(session.buckets, definition)}
    else:
        source = {"definitionZip": definition.archive}
    created = client.create_workflow(
        name=definition.name, engine=definition.engine, main=definition.main, requestId=str(uuid.uuid4()), **source
    )
    _await_active(client, created["id"])
    session.console.print(f"workflow {created['id']} {definition.name}", highlight=False)
    return created["id"]


def start(session: Session, order: Order, workflow_id: str) -> str:
    """Upload the local inputs and start the run; its id."""
    uploads = Uploads(session.buckets, BUCKET, order.inputs_folder)
    definition = order.definition
    request: dict[str, Any] = {
        "workflowId": workflow_id,
        "roleArn": order.role_arn or f"arn:aws:iam::{session.connection.keys.account}:role/runomics",
        "outputUri": order.output_uri or f"s3://{BUCKET}/outputs",
        "parameters": _parameters(definition, order.inputs, uploads),
        "name": order.name or definition.name,
        "requestId": str(uuid.uuid4()),
        **order.members,
    }
    return str(session.client.start_run(**request)["id"])


def attend(session: Session, run_id: str, outputs: Path) -> int:
    """Follow the run to its end, through Ctrl-C, then fetch its outputs or explain its failure; the exit code."""
    while True:
        try:
            snapshot = watch.follow(session.connection, session.client, run_id, watch.screen_for(session.console))
            break
        except KeyboardInterrupt:
            wish = _ask(session.console, run_id)
        if wish == "detach":
            session.console.print(
                f"run {run_id} goes on; see it with: runomics logs {run_id} --follow", markup=False, highlight=False
            )
            return EXIT_INTERRUPTED
        if wish == "cancel":
            session.client.cancel_run(id=run_id)
    return conclude(session, snapshot, outputs)


def conclude(session: Session, snapshot: watch.Snapshot, outputs: Path) -> int:
    """Say how an ended run ended, fetch what it delivered; the exit code."""
    run = snapshot.run
    if run["status"] == "COMPLETED":
        count = fetch(session.buckets, run["runOutputUri"], outputs)
        _print_outputs(session.console, run["runOutputUri"], outputs)
        peak = snapshot.progress.get("storage_peak_bytes")
        storage = f", storage peak {watch.bytes_text(peak)}" if peak is not None else ""
        session.console.print(f"{count} files in {outputs}{storage}", markup=False, highlight=False, soft_wrap=True)
        return EXIT_COMPLETED
    if run["status"] == "CANCELLED":
        return EXIT_INTERRUPTED
    _explain_failure(session, run)
    return EXIT_FAILED


def fetch(buckets: Buckets, run_output_uri: str, outputs: Path) -> int:
    """Copy everything below the run's output URI into the folder `outputs`; how many files."""
    bucket, prefix = split_uri(run_output_uri.rstrip("/") + "/")
    count = 0
    root = outputs.resolve()
    for key in buckets.keys(bucket, prefix):
        target = (root / key.removeprefix(prefix)).resolve()
        if not target.is_relative_to(root):
            raise ValueError(f"{key} would be written outside {outputs}")
        target.parent.mkdir(parents=True, exist_ok=True)
        buckets.get(bucket, key, target)
        count += 1
    return count


def _await_active(client: OmicsClient, workflow_id: str) -> None:
    pause, end = threading.Event(), time.monotonic() + ACTIVE_SECONDS
    delay_seconds = 0.05
    while True:
        workflow = client.get_workflow(id=workflow_id)
        if workflow["status"] == "ACTIVE":
            return
        if workflow["status"] != "CREATING":
            message = workflow.get("statusMessage") or f"workflow {workflow_id} is {workflow['status']}"
            raise WorkflowRefused(message)
        if time.monotonic() > end:
            raise WorkflowRefused(f"workflow {workflow_id} is still CREATING after {ACTIVE_SECONDS:.0f} s")
        pause.wait(delay_seconds)
        delay_seconds = min(1.0, delay_seconds * 1.5)


def _parameters(definition: Definition, given: Mapping[str, Any], uploads: Uploads) -> dict[str, Any]:
    if definition.engine == "CWL":
        return cwl_parameters(given, definition.input_types, uploads)
    if definition.engine == "NEXTFLOW":
        return nextflow_parameters(given, uploads)
    return parameters(given, definition.input_types, definition.name, uploads)


def _store_archive(buckets: Buckets, definition: Definition) -> str:
    key = f"definitions/{definition.sha256}.zip"
    with tempfile.NamedTemporaryFile(suffix=".zip") as file:
        file.write(definition.archive)
        file.flush()
        buckets.put(Path(file.name), BUCKET, key)
    return f"s3://{BUCKET}/{key}"


def _ask(console: Console, run_id: str) -> str:
    """cancel, detach or continue; without a terminal nobody can answer, so detach, and a second Ctrl-C means the same."""
    if not (console.is_terminal and console.is_interactive):
        return "detach"
    try:
        return Prompt.ask(
            f"\nrun {run_id}", choices=["cancel", "detach", "continue"], default="continue", console=console
        )
    except (KeyboardInterrupt, EOFError):
        return "detach"


def _print_outputs(console: Console, run_output_uri: str, outputs: Path) -> None:
    document = outputs / "logs" / "outputs.json"
    if not document.is_file():
        return
    local = _localized(json.loads(document.read_text()), run_output_uri.rstrip("/") + "/", outputs)
    console.print(json.dumps(local, indent=2), markup=False, highlight=False, soft_wrap=True)


def _localized(value: Any, prefix: str, outputs: Path) -> Any:
    if isinstance(value, str):
        return str(outputs / value.removeprefix(prefix)) if value.startswith(prefix) else value
    if isinstance(value, list):
        return [_localized(one, prefix, outputs) for one in value]
    if isinstance(value, dict):
        return {key: _localized(one, prefix, outputs) for key, one in value.items()}
    return value


def _explain_failure(session: Session, run: Mapping[str, Any]) -> None:
    console = session.console

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"run {run['id']} FAILED: {run.get('failureReason', '')}")
    if run.get("statusMessage"):
        say(run["statusMessage"])
    failed = session.client.list_run_tasks(id=run["id"], status="FAILED")["items"]
    if not failed:
        say(f"the engine's log: runomics logs {run['id']} --engine")
        return
    task_id = failed[0]["taskId"]
    task = session.client.get_run_task(id=run["id"], taskId=task_id)
    say(
        f"task {task_id} {task.get('name', '')}: {task.get('failureReason', '')} {task.get('statusMessage', '')}".rstrip()
    )
    end = run_logs.tail(session.connection, run["id"], f"task/{task_id}", LOG_TAIL_LINES)
    for line in end:
        say(f"  {line}")
    if len(end) == LOG_TAIL_LINES:
        say(f"all of it: runomics logs {run['id']} --task {task_id}")
