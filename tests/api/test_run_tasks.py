"""ListRunTasks and GetRunTask."""

from __future__ import annotations

from typing import Any

import pytest
from server_in_a_box import ACCOUNT, NOW_MS, OTHER, Box

from runomics.store.database import next_id
from runomics.store.tasks import NewTask, insert_tasks
from runomics.wire.errors import ResourceNotFoundException, ValidationException


@pytest.fixture
def run_id(box: Box) -> str:
    identifier: str = box.start_run(box.registered_workflow())["id"]
    return identifier


def add_task(box: Box, run_id: str, **columns: Any) -> str:
    def unit(tx: Any) -> int:
        number = next_id(tx, "task")
        usual: dict[str, Any] = {"key": f"call-{number}", "attempt": 1, "name": "greet", "cpus": 1, "memory_gib": 2}
        new = NewTask(
            id=number,
            account=ACCOUNT,
            run_id=int(run_id),
            uuid=f"00000000-0000-4000-8000-{number:012}",
            incarnation=1,
            created_ms=NOW_MS,
            **{**usual, **{name: value for name, value in columns.items() if name in NewTask.__slots__}},
        )
        insert_tasks(tx, [new])
        later = {name: value for name, value in columns.items() if name not in NewTask.__slots__}
        if later:
            changes = ", ".join(f"{column} = :{column}" for column in later)
            tx.change(f"update task set {changes} where id = :id", {**later, "id": number})  # noqa: S608 - our names
        return number

    return str(box.store.write(unit))


@pytest.mark.source("model")
def test_a_new_task_shows_what_it_was_made_with(box: Box, run_id: str) -> None:
    task_id = add_task(box, run_id, instance_type="omics.c.large")
    item = {
        "taskId": task_id,
        "uuid": "00000000-0000-4000-8000-000001000000",
        "status": "PENDING",
        "name": "greet",
        "cpus": 1,
        "memory": 2,
        "gpus": 0,
        "instanceType": "omics.c.large",
        "creationTime": "2025-11-24T16:00:00.001000Z",
    }
    assert box.call("ListRunTasks", id=run_id) == {"items": [item]}
    assert box.call("GetRunTask", id=run_id, taskId=task_id) == item


@pytest.mark.source("model")
def test_an_ended_task_shows_how_and_where_to_look(box: Box, run_id: str) -> None:
    task_id = add_task(
        box,
        run_id,
        gpus=1,
        image="123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1",
        image_digest="sha256:ab",
        source_image="quay.io/x:1",
        cache_hit=1,
        cache_s3_uri="s3://bucket/cache",
        status="FAILED",
        started_ms=NOW_MS + 5,
        stopped_ms=NOW_MS + 9,
        has_log=1,
        failure_reason="OUT_OF_MEMORY_ERROR",
        status_message="task ran out of memory",
    )
    found = box.call("GetRunTask", id=run_id, taskId=task_id)
    listed = box.call("ListRunTasks", id=run_id)["items"][0]
    only_one = {
        "failureReason": "OUT_OF_MEMORY_ERROR",
        "statusMessage": "task ran out of memory",
        "logStream": f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/omics/WorkflowLog:log-stream:run/{run_id}/task/{task_id}",
        "imageDetails": {
            "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1",
            "imageDigest": "sha256:ab",
            "sourceImage": "quay.io/x:1",
        },
    }
    assert found == {**listed, **only_one}
    assert (listed["cacheHit"], listed["cacheS3Uri"], listed["gpus"]) == (True, "s3://bucket/cache", 1)
    assert (listed["startTime"], listed["stopTime"]) == ("2025-11-24T16:00:00.005000Z", "2025-11-24T16:00:00.009000Z")


@pytest.mark.source("model")
def test_tasks_are_listed_in_the_order_of_their_making_by_status_and_page(box: Box, run_id: str) -> None:
    tasks = [add_task(box, run_id, status=status) for status in ("COMPLETED", "FAILED", "COMPLETED", "RUNNING")]
    first = box.call("ListRunTasks", id=run_id, maxResults=3)
    rest = box.call("ListRunTasks", id=run_id, startingToken=first["nextToken"])
    assert [item["taskId"] for item in first["items"] + rest["items"]] == tasks
    assert "nextToken" not in rest
    assert [item["taskId"] for item in box.call("ListRunTasks", id=run_id, status="COMPLETED")["items"]] == tasks[0:3:2]


def test_a_token_belongs_to_its_run(box: Box, run_id: str) -> None:
    other_id = box.start_run("1000000")["id"]
    for _ in range(2):
        add_task(box, run_id)
        add_task(box, other_id)
    token = box.call("ListRunTasks", id=run_id, maxResults=1)["nextToken"]
    with pytest.raises(ValidationException, match="is not a token of ListRunTasks"):
        box.call("ListRunTasks", id=other_id, startingToken=token)


def test_a_task_is_found_only_in_its_own_run_and_account(box: Box, run_id: str) -> None:
    task_id = add_task(box, run_id)
    other_id = box.start_run("1000000")["id"]
    for run, task in ((other_id, task_id), (run_id, "7"), (run_id, f"0{task_id}")):
        with pytest.raises(ResourceNotFoundException) as caught:
            box.call("GetRunTask", id=run, taskId=task)
        assert caught.value.message == f"Task {task} of run {run} not found. ListRunTasks lists the run's tasks."
    with pytest.raises(ResourceNotFoundException, match=f"Run {run_id} not found"):
        box.call("GetRunTask", account=OTHER, id=run_id, taskId=task_id)
    with pytest.raises(ResourceNotFoundException, match="Run 7 not found"):
        box.call("ListRunTasks", id="7")
