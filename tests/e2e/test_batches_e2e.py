"""A batch from StartRunBatch to the outputs of its runs, on a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server import wait_until

pytestmark = pytest.mark.needs("bwrap", "userns")

GREET = """version 1.0
task greet {
  input { String name }
  command <<< echo "hello ~{name}" >>>
  output { String said = read_string(stdout()) }
}
workflow main {
  input { String name }
  call greet { input: name = name }
  output { String said = greet.said }
}
"""

SAMPLES = ["ada", "bob", "cyd"]


def reached(client: Any, batch_id: str, status: str) -> bool:
    return wait_until(lambda: client.get_batch(batchId=batch_id)["status"] == status, 60, every_seconds=0.05)


@pytest.mark.source("guide")
def test_the_runs_of_a_batch_are_run_and_the_batch_ends_with_the_last(site: Any) -> None:
    client = site.client
    uri = site.put(
        "s3://cohort/settings.json",
        json.dumps([{"runSettingId": name, "parameters": {"name": name}} for name in SAMPLES]).encode(),
    )
    batch_id = client.start_run_batch(
        batchName="cohort",
        defaultRunSetting={
            "workflowId": site.register(GREET),
            "roleArn": "arn:aws:iam::123456789012:role/omics",
            "outputUri": "s3://cohort/results",
            "storageType": "DYNAMIC",
        },
        batchRunSettings={"s3UriSettings": uri},
    )["id"]
    assert reached(client, batch_id, "PROCESSED"), client.get_batch(batchId=batch_id)
    batch = client.get_batch(batchId=batch_id)
    assert (batch["totalRuns"], batch["runSummary"]["completedRunCount"]) == (3, 3)
    runs = {item["runSettingId"]: client.get_run(id=item["runId"]) for item in listed(client, batch_id)}
    assert {name: site.outputs(run)["main.said"] for name, run in runs.items()} == {
        name: f"hello {name}" for name in SAMPLES
    }
    client.delete_run_batch(batchId=batch_id)
    assert reached(client, batch_id, "RUNS_DELETED")
    assert client.get_batch(batchId=batch_id)["runSummary"]["deletedRunCount"] == 3
    client.delete_batch(batchId=batch_id)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_batch(batchId=batch_id)


@pytest.mark.source("guide")
def test_a_cancelled_batch_ends_its_runs(site: Any) -> None:
    client = site.client
    slow = GREET.replace('echo "hello ~{name}"', "sleep 600")
    batch_id = client.start_run_batch(
        defaultRunSetting={
            "workflowId": site.register(slow),
            "roleArn": "arn:aws:iam::123456789012:role/omics",
            "outputUri": "s3://runomics/results",
            "storageType": "DYNAMIC",
        },
        batchRunSettings={"inlineSettings": [{"runSettingId": name, "parameters": {"name": name}} for name in SAMPLES]},
    )["id"]
    assert reached(client, batch_id, "INPROGRESS")
    run_ids = [item["runId"] for item in listed(client, batch_id)]
    assert wait_until(lambda: client.get_run(id=run_ids[0])["status"] == "RUNNING", 30, every_seconds=0.05)
    client.cancel_run_batch(batchId=batch_id)
    assert reached(client, batch_id, "CANCELLED"), client.get_batch(batchId=batch_id)
    assert {client.get_run(id=run_id)["status"] for run_id in run_ids} == {"CANCELLED"}


def listed(client: Any, batch_id: str) -> list[dict[str, Any]]:
    pages = client.get_paginator("list_runs_in_batch").paginate(batchId=batch_id)
    return [item for page in pages for item in page["runs"]]
