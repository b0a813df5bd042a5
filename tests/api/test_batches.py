"""Batches of runs as clients see them: from StartRunBatch to the end of the runs, cancelled, deleted, listed."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from batch_desk import READS, Desk, named, raises, shape_of
from server_in_a_box import ACCOUNT, OTHER, ROLE, Box

from runomics.domain.limits import Limits
from runomics.domain.run import RunPhase, RunState, RunStatus
from runomics.scheduler.batches import STARTED_AT_ONCE
from runomics.wire.errors import (
    ApiError,
    ConflictException,
    ResourceNotFoundException,
    ValidationException,
)

OPERATIONS = ("GetBatch", "ListRunsInBatch", "CancelRunBatch", "DeleteRunBatch", "DeleteBatch")


@pytest.fixture
def workflow_id(box: Box) -> str:
    return box.registered_workflow(name="hello")


# ---- StartRunBatch -----------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_a_batch_begins_as_creating_and_is_left_to_the_scheduler(box: Box, workflow_id: str) -> None:
    box.woken.clear()
    answer = box.call(
        "StartRunBatch",
        requestId="r",
        batchName="cohort",
        tags={"project": "p"},
        defaultRunSetting={"workflowId": workflow_id, "roleArn": ROLE, "parameters": READS},
        batchRunSettings={"inlineSettings": named("a")},
    )
    assert str(uuid.UUID(answer.pop("uuid"))).count("-") == 4
    assert answer == {
        "id": "1000000",
        "arn": f"arn:aws:omics:us-east-1:{ACCOUNT}:runBatch/1000000",
        "status": "CREATING",
        "tags": {"project": "p"},
    }
    assert box.woken == [("run-batch", 1000000)]
    assert box.call("ListRuns") == {"items": []}


@pytest.mark.source("guide")
def test_a_setting_becomes_a_run_with_what_is_its_own_and_what_is_common(desk: Desk, workflow_id: str) -> None:
    batch_id = desk.start(
        {
            "runSettingId": "first",
            "name": "First",
            "priority": 7,
            "outputUri": "s3://bucket/special/",
            "parameters": {"reads": "s3://bucket/first.fq", "copies": 2},
            "runTags": {"patient": "p1", "version": "3"},
        },
        {"runSettingId": "second"},
        workflowId=workflow_id,
        name="Common",
        priority=1,
        parameters={**READS, "name": "everybody"},
        runTags={"version": "2"},
        storageType="DYNAMIC",
        logLevel="ERROR",
        retentionMode="REMOVE",
        scratchStorageMode="LOCAL",
        tags={"of": "the batch"},
    )
    desk.work()
    first, second = desk.settings(batch_id)
    shown = desk.box.call("GetRun", id=first["runId"])
    assert {name: shown[name] for name in ("batchId", "name", "priority", "outputUri", "runOutputUri", "tags")} == {
        "batchId": batch_id,
        "name": "First",
        "priority": 7,
        "outputUri": "s3://bucket/special/",
        "runOutputUri": f"s3://bucket/special/{first['runId']}",
        "tags": {"patient": "p1", "version": "3"},
    }
    assert shown["parameters"] == {"reads": "s3://bucket/first.fq", "name": "everybody", "copies": 2}
    assert (shown["uuid"], shown["arn"]) == (first["runInternalUuid"], first["runArn"])
    other = desk.box.call("GetRun", id=second["runId"])
    assert (other["name"], other["priority"], other["tags"]) == ("Common", 1, {"version": "2"})
    assert other["parameters"] == {**READS, "name": "everybody"}


@pytest.mark.source("guide")
def test_a_run_of_a_batch_is_the_run_that_start_run_makes(desk: Desk, workflow_id: str) -> None:
    members = {
        "name": "n",
        "priority": 3,
        "storageType": "STATIC",
        "storageCapacity": 5,
        "logLevel": "FATAL",
        "retentionMode": "REMOVE",
        "networkingMode": "RESTRICTED",
        "scratchStorageMode": "LOCAL",
        "requesterPaysEnabled": True,
        "sessionPolicy": '{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}',
        "parameters": {**READS, "copies": 1},
    }
    alone = desk.box.call("GetRun", id=desk.box.start_run(workflow_id, tags={"a": "b"}, **members)["id"])
    batch_id = desk.start(*named("x"), workflowId=workflow_id, runTags={"a": "b"}, **members)
    desk.work()
    run = desk.box.call("GetRun", id=desk.settings(batch_id)[0]["runId"])
    assert run.pop("batchId") == batch_id
    for own in ("id", "arn", "uuid", "runOutputUri"):
        assert alone.pop(own) != run.pop(own)
    assert run == alone


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("error", "default", "words"),
    [
        (ResourceNotFoundException, {"workflowId": "7"}, "Workflow 7 not found"),
        (ValidationException, {"workflowType": "READY2RUN"}, "Ready2Run"),
        (ValidationException, {"cacheBehavior": "CACHE_ALWAYS"}, "cacheId"),
        (ValidationException, {"networkingMode": "VPC"}, "configurationName"),
        (ValidationException, {"outputUri": "/tmp/here"}, "outputUri"),
        (ValidationException, {"runTags": {"aws:mine": "x"}}, "aws:"),
        (ValidationException, {"parameters": [1]}, "JSON object"),
        (ResourceNotFoundException, {"runGroupId": "7"}, "7"),
        (ResourceNotFoundException, {"cacheId": "7"}, "7"),
        (ResourceNotFoundException, {"configurationName": "none"}, "none"),
    ],
)
def test_what_is_wrong_for_all_runs_is_refused_at_once(
    desk: Desk, workflow_id: str, error: type[ApiError], default: dict[str, Any], words: str
) -> None:
    with pytest.raises(error, match=words):
        desk.start(*named("a"), **{"workflowId": workflow_id, **default})
    assert desk.box.call("ListBatch") == {"items": []}


@pytest.mark.source("assumed")
def test_a_batch_may_have_as_many_tags_as_any_resource(tmp_path: Path) -> None:
    box = Box(tmp_path, limits=Limits(tags=1))
    try:
        with pytest.raises(ValidationException, match="at most 1"):
            Desk(box).start(*named("a"), workflowId=box.registered_workflow(), tags={"a": "1", "b": "2"})
    finally:
        box.close()


@pytest.mark.source("guide")
def test_the_same_request_again_gets_the_first_answer_and_makes_no_second_batch(desk: Desk, workflow_id: str) -> None:
    uri = desk.put(named("a", parameters=READS))
    first = desk.start_file(uri, workflowId=workflow_id, requestId="once")
    Path(desk.box.directory / "objects" / "bucket" / "settings.json").unlink()
    assert desk.start_file(uri, workflowId=workflow_id, requestId="once") == first
    assert len(desk.box.call("ListBatch")["items"]) == 1
    with pytest.raises(ConflictException):
        desk.start_file(uri, workflowId=workflow_id, requestId="once", name="other")


# ---- GetBatch ----------------------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_a_batch_is_shown_with_everything_it_has(desk: Desk, workflow_id: str) -> None:
    batch_id = desk.start(
        *named("a", "b", "c"), workflowId=workflow_id, parameters=READS, batchName="cohort", tags={"k": "v"}
    )
    created = desk.get(batch_id)
    assert "totalRuns" not in created
    desk.box.now_ms += 1000
    desk.work()
    desk.box.now_ms += 1000
    first, second, third = (item["runId"] for item in desk.settings(batch_id))
    desk.end(first)
    desk.end(second, RunStatus.FAILED)
    desk.move(third, RunState(RunStatus.RUNNING, RunPhase.IMPORTING))
    desk.work()
    submission = {
        "successfulStartSubmissionCount": 3,
        "failedStartSubmissionCount": 0,
        "pendingStartSubmissionCount": 0,
        "successfulCancelSubmissionCount": 0,
        "failedCancelSubmissionCount": 0,
        "successfulDeleteSubmissionCount": 0,
        "failedDeleteSubmissionCount": 0,
    }
    runs = {
        "pendingRunCount": 0,
        "startingRunCount": 0,
        "runningRunCount": 1,
        "stoppingRunCount": 0,
        "completedRunCount": 1,
        "deletedRunCount": 0,
        "failedRunCount": 1,
        "cancelledRunCount": 0,
    }
    expected = {
        "id": batch_id,
        "arn": f"arn:aws:omics:us-east-1:{ACCOUNT}:runBatch/{batch_id}",
        "uuid": created["uuid"],
        "name": "cohort",
        "status": "INPROGRESS",
        "tags": {"k": "v"},
        "totalRuns": 3,
        "defaultRunSetting": {
            "roleArn": ROLE,
            "outputUri": "s3://bucket/out",
            "workflowId": workflow_id,
            "parameters": READS,
        },
        "submissionSummary": submission,
        "runSummary": runs,
        "creationTime": "2025-11-24T16:00:00.001000Z",
        "submittedTime": "2025-11-24T16:00:01.001000Z",
    }
    assert desk.get(batch_id) == expected
    desk.end(third, RunStatus.CANCELLED)
    desk.work()
    assert desk.get(batch_id) == {
        **expected,
        "status": "PROCESSED",
        "runSummary": {**runs, "runningRunCount": 0, "cancelledRunCount": 1},
        "processedTime": "2025-11-24T16:00:02.001000Z",
    }
    assert desk.get(batch_id).keys() == shape_of("GetBatch") - {"failedTime", "failureReason"}


@pytest.mark.source("assumed")
def test_a_run_deleted_by_itself_is_counted_as_deleted(desk: Desk, workflow_id: str) -> None:
    batch_id = desk.start(*named("a"), workflowId=workflow_id, parameters=READS)
    desk.work()
    run_id = desk.settings(batch_id)[0]["runId"]
    desk.end(run_id)
    desk.box.call("DeleteRun", id=run_id)
    desk.work()
    assert desk.status(batch_id) == "PROCESSED"
    assert desk.counts(batch_id) == {"successfulStartSubmissionCount": 1, "deletedRunCount": 1}


@pytest.mark.source("guide")
def test_the_tags_of_a_batch_are_its_own(desk: Desk, workflow_id: str) -> None:
    batch_id = desk.start(*named("a"), workflowId=workflow_id, parameters=READS, tags={"a": "1"}, runTags={"b": "2"})
    desk.work()
    arn = desk.get(batch_id)["arn"]
    desk.box.call("TagResource", resourceArn=arn, tags={"c": "3"})
    desk.box.call("UntagResource", resourceArn=arn, tagKeys=["a"])
    assert desk.box.call("ListTagsForResource", resourceArn=arn) == {"tags": {"c": "3"}}
    assert desk.get(batch_id)["tags"] == {"c": "3"}
    run_id = desk.settings(batch_id)[0]["runId"]
    assert desk.box.call("GetRun", id=run_id)["tags"] == {"b": "2"}


# ---- lists -------------------------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_batches_are_listed_in_order_and_by_one_filter(desk: Desk, workflow_id: str) -> None:
    group_id = desk.box.call("CreateRunGroup", requestId="g")["id"]
    first = desk.start(*named("a"), workflowId=workflow_id, parameters=READS, batchName="one")
    second = desk.start(*named("a"), workflowId=workflow_id, parameters=READS, batchName="two", runGroupId=group_id)
    desk.work()
    third = desk.start(*named("a"), workflowId=workflow_id, parameters=READS, batchName="one")

    def ids(**filters: Any) -> list[str]:
        return [item["id"] for item in desk.box.call("ListBatch", **filters)["items"]]

    assert ids() == [first, second, third]
    assert ids(name="one") == [first, third]
    assert ids(status="CREATING") == [third]
    assert ids(status="INPROGRESS") == [first, second]
    assert ids(runGroupId="7") == []
    assert ids(runGroupId=group_id) == [second]
    assert desk.box.call("ListBatch")["items"][0] == {
        "id": first,
        "name": "one",
        "status": "INPROGRESS",
        "createdAt": "2025-11-24T16:00:00.001000Z",
        "totalRuns": 1,
        "workflowId": workflow_id,
    }
    assert desk.box.call("ListBatch", account=OTHER) == {"items": []}


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("operation", "filters"),
    [
        ("ListBatch", {"name": "a", "status": "PENDING"}),
        ("ListBatch", {"name": "a", "runGroupId": "1"}),
        ("ListRunsInBatch", {"submissionStatus": "FAILED", "runSettingId": "a"}),
        ("ListRunsInBatch", {"runSettingId": "a", "runId": "1"}),
    ],
)
def test_a_second_filter_is_refused(desk: Desk, workflow_id: str, operation: str, filters: dict[str, str]) -> None:
    batch = {"batchId": desk.start(*named("a"), workflowId=workflow_id)} if operation == "ListRunsInBatch" else {}
    assert "only one filter" in raises(ValidationException, desk.box, operation, **batch, **filters)


@pytest.mark.source("model")
def test_pages_of_batches_have_as_many_items_as_asked_for(desk: Desk, workflow_id: str) -> None:
    made = [desk.start(*named("a"), workflowId=workflow_id, batchName="x") for _ in range(5)]
    found, token = [], {}
    while True:
        page = desk.box.call("ListBatch", maxItems=2, name="x", **token)
        found.append([item["id"] for item in page["items"]])
        if "nextToken" not in page:
            break
        token = {"startingToken": page["nextToken"]}
    assert found == [made[:2], made[2:4], made[4:]]
    assert "not a token" in raises(ValidationException, desk.box, "ListBatch", name="y", **token)


@pytest.mark.source("guide")
def test_the_runs_of_a_batch_are_found_by_setting_by_run_and_by_outcome(desk: Desk, workflow_id: str) -> None:
    settings = [*named("a", "b", parameters=READS), *named("c"), *named("d", parameters=READS)]
    batch_id = desk.start(*settings, workflowId=workflow_id)
    other = desk.start(*named("a", parameters=READS), workflowId=workflow_id)
    desk.work()
    listed = desk.settings(batch_id)

    def names(**filters: Any) -> list[str]:
        return [item["runSettingId"] for item in desk.settings(batch_id, **filters)]

    assert names() == ["a", "b", "c", "d"]
    assert names(maxItems=1) == ["a", "b", "c", "d"]
    assert names(runSettingId="b") == ["b"]
    assert names(runSettingId="e") == []
    assert names(runId=listed[1]["runId"]) == ["b"]
    assert names(runId=desk.settings(other)[0]["runId"]) == []
    assert names(runId="not a number") == []
    assert names(submissionStatus="SUCCESS") == ["a", "b", "d"]
    assert names(submissionStatus="FAILED") == ["c"]
    assert names(submissionStatus="DELETE_FAILED") == []
    run_ids = [item["runId"] for item in listed if "runId" in item]
    assert [item["id"] for item in desk.box.call("ListRuns", batchId=batch_id)["items"]] == run_ids


@pytest.mark.source("assumed")
def test_a_setting_that_had_no_turn_yet_has_no_outcome(desk: Desk, workflow_id: str) -> None:
    names = [str(number) for number in range(STARTED_AT_ONCE + 1)]
    batch_id = desk.start_file(desk.put(named(*names)), workflowId=workflow_id, parameters=READS)
    desk.work_until(batch_id, "SUBMITTING")
    assert desk.settings(batch_id)[-1] == {"runSettingId": names[-1]}
    assert desk.counts(batch_id) == {
        "successfulStartSubmissionCount": STARTED_AT_ONCE,
        "pendingStartSubmissionCount": 1,
        "pendingRunCount": STARTED_AT_ONCE,
    }
