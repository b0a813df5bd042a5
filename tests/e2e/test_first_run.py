"""A stranger's first run: create, wait, start, wait, read, with unmodified boto3."""

from __future__ import annotations

import io
import urllib.request
import zipfile
from typing import Any

import pytest

from server import wait_until
from workflows import ONE_TASK

GREETING = """version 1.1
task greet {
  input { String name }
  command <<< echo "hello ~{name}" | tee greeting.txt; echo "on stderr" >&2 >>>
  output { File greeting = "greeting.txt" }
}
task gather {
  input { Array[File] files }
  command <<< cat ~{sep=" " files} > all.txt; wc -l < all.txt >>>
  output { File all = "all.txt" Int lines = read_int(stdout()) }
}
workflow greeting {
  input { Array[String] names File? extra }
  scatter (name in names) { call greet { input: name = name } }
  call gather { input: files = flatten([greet.greeting, select_all([extra])]) }
  output { File all = gather.all Int lines = gather.lines Array[File] each = greet.greeting }
}
"""

pytestmark = pytest.mark.needs("bwrap", "userns")


@pytest.fixture(scope="module")
def done(site: Any) -> dict[str, Any]:
    extra = site.put("s3://runomics/in/extra.txt", b"extra line\n")
    return site.run(
        GREETING,
        name="first",
        parameters={"names": ["a", "b"], "extra": extra},
        tags={"project": "p1"},
        storageType="DYNAMIC",
        outputUri="s3://runomics/results/",
    )


@pytest.mark.source("guide")
def test_outputs_lie_under_the_run_with_a_summary(site: Any, done: dict[str, Any]) -> None:
    assert done["status"] == "COMPLETED", done
    base = f"s3://runomics/results/{done['id']}"
    assert site.outputs(done) == {
        "greeting.all": f"{base}/out/all/all.txt",
        "greeting.lines": 3,
        "greeting.each": [f"{base}/out/each/0/greeting.txt", f"{base}/out/each/1/greeting.txt"],
    }
    assert site.object(f"{base}/out/all/all.txt").read_text() == "hello a\nhello b\nextra line\n"
    assert site.object(f"{base}/logs/engine.log").stat().st_size > 0


@pytest.mark.source("model")
def test_get_run_has_every_field_of_an_ended_run(site: Any, done: dict[str, Any]) -> None:
    run_id = done["id"]
    log = f"arn:aws:logs:us-east-1:123456789012:log-group:/aws/omics/WorkflowLog:log-stream:run/{run_id}"
    expected = {
        "arn": f"arn:aws:omics:us-east-1:123456789012:run/{run_id}",
        "status": "COMPLETED",
        "workflowType": "PRIVATE",
        "roleArn": "arn:aws:iam::123456789012:role/omics",
        "name": "first",
        "parameters": {"names": ["a", "b"], "extra": "s3://runomics/in/extra.txt"},
        "outputUri": "s3://runomics/results/",
        "runOutputUri": f"s3://runomics/results/{run_id}",
        "logLevel": "ALL",
        "tags": {"project": "p1"},
        "retentionMode": "RETAIN",
        "storageType": "DYNAMIC",
        "storageCapacity": 1,
        "startedBy": "arn:aws:iam::123456789012:root",
        "logLocation": {"engineLogStream": f"{log}/engine", "runLogStream": log},
    }
    assert {name: done.get(name) for name in expected} == expected
    assert done["digest"].startswith("sha256:")
    assert list(done["resourceDigests"]) == ["s3://runomics/in/extra.txt"]
    assert done["resourceDigests"]["s3://runomics/in/extra.txt"].startswith("etag:")
    assert done["creationTime"] <= done["startTime"] <= done["stopTime"]
    assert len(done["uuid"]) == 36


@pytest.mark.source("model")
def test_tasks_are_listed_with_what_they_got(site: Any, done: dict[str, Any]) -> None:
    client = site.client
    pages = client.get_paginator("list_run_tasks").paginate(id=done["id"], PaginationConfig={"PageSize": 1})
    tasks = pages.build_full_result()["items"]
    assert sorted(task["name"] for task in tasks) == ["gather", "greet-0-a", "greet-1-b"]
    assert {(task["status"], task["cpus"], task["memory"], task["gpus"], task["instanceType"]) for task in tasks} == {
        ("COMPLETED", 1, 1, 0, "omics.c.large")
    }
    task = client.get_run_task(id=done["id"], taskId=tasks[0]["taskId"])
    assert task["logStream"].endswith(f"log-stream:run/{done['id']}/task/{task['taskId']}")
    assert task["creationTime"] <= task["startTime"] <= task["stopTime"]


@pytest.mark.source("guide")
def test_a_task_log_has_both_of_its_streams(site: Any, done: dict[str, Any]) -> None:
    client = site.client
    task = next(each for each in client.list_run_tasks(id=done["id"])["items"] if each["name"] == "greet-0-a")
    assert sorted(site.log(done["id"], f"task-{task['taskId']}")) == ["hello a", "on stderr"]


@pytest.mark.source("assumed")
def test_the_run_log_tells_the_story(site: Any, done: dict[str, Any]) -> None:
    lines = site.log(done["id"], "run")
    for line in ("Run is RUNNING.", "Run is STOPPING.", "Run is COMPLETED."):
        assert line in lines


@pytest.mark.source("model")
def test_the_definition_can_be_fetched_with_a_plain_get(site: Any, done: dict[str, Any]) -> None:
    url = site.client.get_workflow(id=done["workflowId"], export=["DEFINITION"])["definition"]
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own server
        archive = zipfile.ZipFile(io.BytesIO(answer.read()))
    assert archive.read("main.wdl").decode() == GREETING


@pytest.mark.source("model")
def test_all_six_waiters_work_with_a_short_delay(serve: Any) -> None:
    site = serve(min_running_seconds=3)
    client = site.client
    quick = {"Delay": 1, "MaxAttempts": 30}
    slow = ONE_TASK.replace('echo "hello', 'sleep 2; echo "hello')
    workflow_id = site.register(slow)
    client.get_waiter("workflow_active").wait(id=workflow_id, WaiterConfig=quick)
    run_id = site.start(workflow_id)
    client.get_waiter("run_running").wait(id=run_id, WaiterConfig=quick)
    assert wait_until(lambda: client.list_run_tasks(id=run_id)["items"], 10)
    task_id = client.list_run_tasks(id=run_id)["items"][0]["taskId"]
    client.get_waiter("task_running").wait(id=run_id, taskId=task_id, WaiterConfig=quick)
    client.get_waiter("task_completed").wait(id=run_id, taskId=task_id, WaiterConfig=quick)
    client.get_waiter("run_completed").wait(id=run_id, WaiterConfig=quick)
    assert client.get_run(id=run_id)["status"] == "COMPLETED"


@pytest.mark.slow
@pytest.mark.source("model")
def test_run_completed_works_with_stock_settings(site: Any) -> None:
    run_id = site.start(site.register(ONE_TASK))
    site.client.get_waiter("run_completed").wait(id=run_id)
    assert site.client.get_run(id=run_id)["status"] == "COMPLETED"


@pytest.mark.source("model")
def test_a_repeated_request_id_starts_one_run(site: Any) -> None:
    workflow_id = site.register(ONE_TASK)
    first = site.start(workflow_id, requestId="the-same")
    again = site.start(workflow_id, requestId="the-same")
    assert first == again
    with pytest.raises(site.client.exceptions.ConflictException):
        site.start(workflow_id, requestId="the-same", name="other")
    site.end_of(first)


@pytest.mark.source("model")
def test_a_deleted_run_is_gone_and_its_outputs_stay(site: Any) -> None:
    run = site.run(ONE_TASK)
    client = site.client
    client.delete_run(id=run["id"])
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_run(id=run["id"])
    assert run["id"] not in [item["id"] for item in client.list_runs()["items"]]
    assert (
        site.object(site.object(run["runOutputUri"]).as_posix()).exists() or site.object(run["runOutputUri"]).exists()
    )
