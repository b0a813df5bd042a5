"""The workflows that are timed, and how one is registered and run through the API."""

from __future__ import annotations

import io
import time
import zipfile
from typing import Any

from server import wait_until

ONE_TASK = """version 1.0
task hello {
  input { String name }
  command <<< echo "hello ~{name}" > greeting.txt >>>
  output { File greeting = "greeting.txt" }
  runtime { cpu: 1 memory: "1 GiB" }
}
workflow main {
  input { String name = "world" }
  call hello { input: name = name }
  output { File greeting = hello.greeting }
}
"""

SCATTER = """version 1.0
task nothing {
  input { Int number }
  command <<< true >>>
  output { Int done = number }
}
workflow main {
  input { Int width = 100 }
  scatter (number in range(width)) { call nothing { input: number = number } }
  output { Int count = length(nothing.done) }
}
"""

ENDED = ("COMPLETED", "FAILED", "CANCELLED")


def register(client: Any, name: str, text: str, main: str = "main.wdl") -> str:
    """Create a workflow from one file and wait until it is ACTIVE; its id."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(main, text)
    made = client.create_workflow(name=name, definitionZip=archive.getvalue())
    workflow_id: str = made["id"]
    found: dict[str, Any] = {}

    def settled() -> bool:
        found.update(client.get_workflow(id=workflow_id))
        return bool(found["status"] != "CREATING")

    if not wait_until(settled, 60, every_seconds=0.01) or found["status"] != "ACTIVE":
        raise RuntimeError(f"workflow {name} is {found.get('status')}: {found.get('statusMessage')}")
    return workflow_id


def start(client: Any, workflow_id: str, **more: Any) -> str:
    """StartRun with what every run needs; its id."""
    request = {
        "workflowId": workflow_id,
        "roleArn": "arn:aws:iam::123456789012:role/omics",
        "outputUri": "s3://runomics/bench",
        "storageType": "DYNAMIC",
        **more,
    }
    run_id: str = client.start_run(**request)["id"]
    return run_id


def run(client: Any, workflow_id: str, *, seconds: float = 120, **more: Any) -> tuple[float, dict[str, Any]]:
    """Start a run and poll it tightly to its end: seconds from the answer of StartRun to COMPLETED, and the run.

    Raises:
        RuntimeError: it did not end COMPLETED.
    """
    run_id = start(client, workflow_id, **more)
    began = time.perf_counter()
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.clear()
        found.update(client.get_run(id=run_id))
        return found["status"] in ENDED

    if not wait_until(ended, seconds, every_seconds=0.001) or found["status"] != "COMPLETED":
        raise RuntimeError(f"run {run_id} is {found.get('status')}: {found.get('statusMessage')}")
    return time.perf_counter() - began, found
