"""What clients wish of batches: the end of their runs, their removal, the batch's own; each only when it may be, and of one's own."""

from __future__ import annotations

import pytest
from batch_desk import READS, Desk, named, processed, raises
from server_in_a_box import OTHER, Box

from runomics.domain.run import RunPhase, RunState, RunStatus
from runomics.scheduler.batches import LOADED_AT_ONCE
from runomics.wire.errors import ConflictException, ResourceNotFoundException

OPERATIONS = ("GetBatch", "ListRunsInBatch", "CancelRunBatch", "DeleteRunBatch", "DeleteBatch")


@pytest.fixture
def workflow_id(box: Box) -> str:
    return box.registered_workflow(name="hello")


# ---- CancelRunBatch ----------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_cancelling_ends_runs_and_starts_no_more(desk: Desk, workflow_id: str) -> None:
    names = [f"{number:03d}" for number in range(450)]
    batch_id = desk.start_file(desk.put(named(*names)), workflowId=workflow_id, parameters=READS)
    while desk.counts(batch_id).get("successfulStartSubmissionCount", 0) < 200:
        assert desk.step()
    ended = desk.settings(batch_id)[3]["runId"]
    gone = desk.settings(batch_id)[4]["runId"]
    desk.end(ended)
    desk.end(gone)
    desk.box.call("DeleteRun", id=gone)
    assert desk.grant_wishes() == 1
    desk.box.call("CancelRunBatch", batchId=batch_id)
    desk.work_until(batch_id, "STOPPING")
    assert desk.counts(batch_id).get("pendingStartSubmissionCount", 0) == 0
    desk.step()
    desk.step()
    assert desk.status(batch_id) == "STOPPING"
    while desk.status(batch_id) == "STOPPING":
        desk.step()
        desk.grant_wishes()
    batch = desk.get(batch_id)
    assert (batch["status"], batch["totalRuns"]) == ("CANCELLED", 450)
    assert desk.counts(batch_id) == {
        "successfulStartSubmissionCount": 200,
        "successfulCancelSubmissionCount": 448,
        "failedCancelSubmissionCount": 2,
        "completedRunCount": 1,
        "cancelledRunCount": 198,
        "deletedRunCount": 1,
    }
    by_name = {item["runSettingId"]: item for item in desk.settings(batch_id)}
    assert {item["submissionStatus"] for item in by_name.values()} == {"CANCEL_SUCCESS", "CANCEL_FAILED"}
    assert by_name["003"]["submissionFailureReason"] == "ConflictException"
    assert by_name["004"]["submissionFailureReason"] == "ResourceNotFoundException"
    assert by_name["449"] == {"runSettingId": "449", "submissionStatus": "CANCEL_SUCCESS"}


@pytest.mark.source("assumed")
def test_a_cancelled_batch_waits_for_its_runs_to_end(desk: Desk, workflow_id: str) -> None:
    batch_id = desk.start(*named("a", "b"), workflowId=workflow_id, parameters=READS)
    desk.work()
    first, second = (item["runId"] for item in desk.settings(batch_id))
    desk.move(first, RunState(RunStatus.RUNNING, RunPhase.EXECUTING, None, 1))
    desk.box.call("CancelRunBatch", batchId=batch_id)
    desk.work()
    assert desk.status(batch_id) == "STOPPING"
    desk.end(second, RunStatus.CANCELLED)
    desk.work()
    assert desk.status(batch_id) == "STOPPING"
    desk.end(first, RunStatus.CANCELLED)
    desk.work()
    assert desk.status(batch_id) == "CANCELLED"


@pytest.mark.source("guide")
def test_a_batch_cancelled_while_its_settings_are_read_makes_no_run(desk: Desk, workflow_id: str) -> None:
    names = [str(number) for number in range(700)]
    batch_id = desk.start_file(desk.put(named(*names)), workflowId=workflow_id, parameters=READS)
    desk.work_until(batch_id, "PENDING")
    desk.box.call("CancelRunBatch", batchId=batch_id)
    desk.work()
    batch = desk.get(batch_id)
    loaded = len(desk.settings(batch_id))
    assert (batch["status"], batch["totalRuns"]) == ("CANCELLED", loaded)
    assert loaded == LOADED_AT_ONCE
    assert desk.counts(batch_id) == {"successfulCancelSubmissionCount": loaded}
    assert desk.box.call("ListRuns") == {"items": []}


@pytest.mark.source("guide")
def test_one_cancel_at_a_time(desk: Desk, workflow_id: str) -> None:
    batch_id = desk.start(*named("a"), workflowId=workflow_id, parameters=READS)
    assert "is CREATING" in raises(ConflictException, desk.box, "CancelRunBatch", batchId=batch_id)
    desk.work()
    desk.box.call("CancelRunBatch", batchId=batch_id)
    for operation in ("CancelRunBatch", "DeleteRunBatch", "DeleteBatch"):
        raises(ConflictException, desk.box, operation, batchId=batch_id)
    assert "is STOPPING" in raises(ConflictException, desk.box, "CancelRunBatch", batchId=batch_id)
    desk.work()
    assert "is STOPPING" in raises(ConflictException, desk.box, "CancelRunBatch", batchId=batch_id)
    desk.grant_wishes()
    desk.work()
    assert "is CANCELLED" in raises(ConflictException, desk.box, "CancelRunBatch", batchId=batch_id)


# ---- DeleteRunBatch, DeleteBatch ---------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_deleting_the_runs_leaves_the_batch(desk: Desk, workflow_id: str) -> None:
    batch_id = processed(desk, workflow_id, "a", "b", "c")
    run_ids = [item["runId"] for item in desk.settings(batch_id)]
    desk.box.call("DeleteRunBatch", batchId=batch_id)
    assert "is RUNS_DELETING" in raises(ConflictException, desk.box, "DeleteRunBatch", batchId=batch_id)
    raises(ConflictException, desk.box, "DeleteBatch", batchId=batch_id)
    desk.work()
    assert desk.status(batch_id) == "RUNS_DELETED"
    assert desk.counts(batch_id) == {
        "successfulStartSubmissionCount": 3,
        "successfulDeleteSubmissionCount": 3,
        "deletedRunCount": 3,
    }
    assert desk.box.call("ListRuns") == {"items": []}
    raises(ResourceNotFoundException, desk.box, "GetRun", id=run_ids[0])
    listed = desk.settings(batch_id)
    assert [item["runId"] for item in listed] == run_ids
    assert {item["submissionStatus"] for item in listed} == {"DELETE_SUCCESS"}
    assert "is RUNS_DELETED" in raises(ConflictException, desk.box, "DeleteRunBatch", batchId=batch_id)


@pytest.mark.source("model")
def test_a_run_that_could_not_be_deleted_is_told(desk: Desk, workflow_id: str) -> None:
    batch_id = processed(desk, workflow_id, "a", "b")
    desk.box.call("DeleteRun", id=desk.settings(batch_id)[0]["runId"])
    desk.box.call("DeleteRunBatch", batchId=batch_id)
    desk.work()
    assert desk.status(batch_id) == "RUNS_DELETE_FAILED"
    first, second = desk.settings(batch_id)
    assert (first["submissionStatus"], first["submissionFailureReason"]) == (
        "DELETE_FAILED",
        "ResourceNotFoundException",
    )
    assert (second["submissionStatus"], "submissionFailureReason" in second) == ("DELETE_SUCCESS", False)
    desk.box.call("DeleteBatch", batchId=batch_id)


@pytest.mark.source("guide")
def test_the_runs_of_a_cancelled_batch_are_deleted_too(desk: Desk, workflow_id: str) -> None:
    names = [f"{number:04d}" for number in range(1500)]
    batch_id = desk.start_file(desk.put(named(*names)), workflowId=workflow_id, parameters=READS)
    while desk.counts(batch_id).get("successfulStartSubmissionCount", 0) == 0:
        assert desk.step()
    desk.box.call("CancelRunBatch", batchId=batch_id)
    while desk.status(batch_id) != "CANCELLED":
        desk.step()
        desk.grant_wishes()
    started = desk.get(batch_id)["submissionSummary"]["successfulStartSubmissionCount"]
    desk.box.call("DeleteRunBatch", batchId=batch_id)
    while desk.status(batch_id) != "RUNS_DELETED":
        desk.step()
        desk.grant_wishes()
    assert desk.get(batch_id)["submissionSummary"]["successfulDeleteSubmissionCount"] == started
    assert len(desk.settings(batch_id, submissionStatus="DELETE_SUCCESS")) == started
    assert len(desk.settings(batch_id, submissionStatus="CANCEL_SUCCESS")) == 1500 - started
    assert desk.box.store.read(lambda tx: tx.rows("select count(*) from run", {})) == [(0,)]


@pytest.mark.source("guide")
def test_a_deleted_batch_is_gone_at_once_and_its_runs_stay(desk: Desk, workflow_id: str) -> None:
    batch_id = processed(desk, workflow_id, "a", "b")
    run_id = desk.settings(batch_id)[0]["runId"]
    desk.box.call("DeleteBatch", batchId=batch_id)
    for operation in OPERATIONS:
        raises(ResourceNotFoundException, desk.box, operation, batchId=batch_id)
    assert desk.box.call("ListBatch") == {"items": []}
    desk.work()
    assert desk.box.store.read(lambda tx: tx.rows("select id from run_batch", {})) == []
    assert desk.box.store.read(lambda tx: tx.rows("select id from batch_run", {})) == []
    assert desk.box.call("GetRun", id=run_id)["batchId"] == batch_id
    assert len(desk.box.call("ListRuns", batchId=batch_id)["items"]) == 2


@pytest.mark.source("guide")
def test_a_failed_batch_can_be_deleted_and_nothing_else(desk: Desk, workflow_id: str) -> None:
    batch_id = desk.start(*named("a", "a"), workflowId=workflow_id)
    desk.work()
    for operation in ("CancelRunBatch", "DeleteRunBatch"):
        assert "is FAILED" in raises(ConflictException, desk.box, operation, batchId=batch_id)
    desk.box.call("DeleteBatch", batchId=batch_id)


@pytest.mark.source("guide")
@pytest.mark.parametrize("status", ["CREATING", "PENDING", "SUBMITTING", "INPROGRESS"])
def test_a_batch_at_work_cannot_be_deleted(desk: Desk, workflow_id: str, status: str) -> None:
    batch_id = desk.start_file(
        desk.put(named(*(str(number) for number in range(600)))), workflowId=workflow_id, parameters=READS
    )
    while desk.status(batch_id) != status:
        assert desk.step()
    for operation in ("DeleteRunBatch", "DeleteBatch"):
        assert f"is {status}" in raises(ConflictException, desk.box, operation, batchId=batch_id)


# ---- accounts ----------------------------------------------------------------------------------------------------


@pytest.mark.source("assumed")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_another_accounts_batch_cannot_be_told_from_none(desk: Desk, workflow_id: str, operation: str) -> None:
    batch_id = processed(desk, workflow_id, "a")
    foreign = raises(ResourceNotFoundException, desk.box, operation, account=OTHER, batchId=batch_id)
    missing = raises(ResourceNotFoundException, desk.box, operation, account=OTHER, batchId="999")
    assert foreign.replace(batch_id, "ID") == missing.replace("999", "ID")
    assert desk.status(batch_id) == "PROCESSED"
