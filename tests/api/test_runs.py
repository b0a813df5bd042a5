"""GetRun from state to state, ListRuns, CancelRun, DeleteRun."""

from __future__ import annotations

from typing import Any

import pytest
from server_in_a_box import ACCOUNT, NOW_MS, OTHER, Box

from runomics.domain.run import CancelRequested as Cancel
from runomics.domain.run import DeleteRequested as Delete
from runomics.domain.run import RunPhase, RunState, RunStatus, accepts
from runomics.store.runs import load_run
from runomics.wire.errors import ConflictException, ResourceNotFoundException, ValidationException

GIB = 1 << 30
STREAM = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/omics/WorkflowLog:log-stream:run/"


@pytest.fixture
def workflow_id(box: Box) -> str:
    identifier = box.registered_workflow(name="hello")
    box.woken.clear()
    return identifier


# ---- GetRun ------------------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_members_appear_as_the_run_goes_on(box: Box, workflow_id: str) -> None:
    run_id = box.start_run(workflow_id, storageType="DYNAMIC")["id"]
    pending = box.call("GetRun", id=run_id)
    logs = {"logLocation": {"engineLogStream": f"{STREAM}{run_id}/engine", "runLogStream": f"{STREAM}{run_id}"}}
    box.set_run(run_id, status="STARTING")
    assert box.call("GetRun", id=run_id) == {**pending, **logs, "status": "STARTING"}
    box.set_run(
        run_id, status="RUNNING", phase="executing", started_ms=NOW_MS + 5, resource_digests='{"s3://b/r":"etag:x"}'
    )
    running = {
        **pending,
        **logs,
        "status": "RUNNING",
        "startTime": "2025-11-24T16:00:00.005000Z",
        "resourceDigests": {"s3://b/r": "etag:x"},
    }
    assert box.call("GetRun", id=run_id) == running
    box.set_run(
        run_id,
        status="STOPPING",
        phase=None,
        outcome="FAILED",
        failure_reason="RUN_TASK_FAILED",
        status_message="task 7 failed",
    )
    failing = {**running, "status": "STOPPING", "failureReason": "RUN_TASK_FAILED", "statusMessage": "task 7 failed"}
    assert box.call("GetRun", id=run_id) == failing
    box.set_run(run_id, status="FAILED", stopped_ms=NOW_MS + 1999, storage_peak_bytes=2 * GIB + 1)
    assert box.call("GetRun", id=run_id) == {
        **failing,
        "status": "FAILED",
        "stopTime": "2025-11-24T16:00:01.999000Z",
        "storageCapacity": 3,
    }


def test_what_a_pending_run_waits_for_is_worked_out_when_asked(box: Box, workflow_id: str) -> None:
    run_id = box.start_run(workflow_id)["id"]
    box.waiting = lambda run: f"run {run.id} waits for room"
    assert box.call("GetRun", id=run_id)["statusMessage"] == f"run {run_id} waits for room"
    box.set_run(run_id, status="STARTING")
    assert "statusMessage" not in box.call("GetRun", id=run_id)


@pytest.mark.source("guide")
def test_a_run_without_logs_names_no_streams(box: Box, workflow_id: str) -> None:
    silent = box.start_run(workflow_id, logLevel="OFF")["id"]
    box.set_run(silent, status="RUNNING", started_ms=NOW_MS)
    assert "logLocation" not in box.call("GetRun", id=silent)
    never_ran = box.start_run(workflow_id)["id"]
    box.set_run(never_ran, status="CANCELLED", outcome="CANCELLED", stopped_ms=NOW_MS)
    found = box.call("GetRun", id=never_ran)
    assert {"logLocation", "startTime"} & set(found) == set()
    assert "stopTime" in found


@pytest.mark.source("model")
def test_what_belongs_to_groups_caches_batches_and_engines_is_shown(box: Box, workflow_id: str) -> None:
    run_id = box.start_run(workflow_id)["id"]
    box.set_run(
        run_id,
        run_group_id=11,
        run_cache_id=12,
        cache_behavior="CACHE_ALWAYS",
        batch_id=13,
        engine_version="25.04.4",
        accelerators="GPU",
        workflow_version_name="v2",
    )
    found = box.call("GetRun", id=run_id)
    shown = (
        "runGroupId",
        "cacheId",
        "cacheBehavior",
        "batchId",
        "engineVersion",
        "accelerators",
        "workflowVersionName",
    )
    assert [found[name] for name in shown] == ["11", "12", "CACHE_ALWAYS", "13", "25.04.4", "GPU", "v2"]


@pytest.mark.source("guide")
def test_the_definition_is_a_url_and_only_on_demand(box: Box, workflow_id: str) -> None:
    run_id = box.start_run(workflow_id)["id"]
    found = box.call("GetRun", id=run_id, export=["DEFINITION"])
    assert (
        found["definition"]
        == f"http://server/definition/{found['digest'].removeprefix('sha256:')}?{NOW_MS + 3_600_000}"
    )
    assert "definition" not in box.call("GetRun", id=run_id)


@pytest.mark.parametrize(
    "request_", [{"id": "7"}, {"id": "01000000"}, {"id": "1000000", "account": OTHER}, {"id": "9" * 18}]
)
@pytest.mark.parametrize("operation", ["GetRun", "CancelRun", "DeleteRun", "ListRunTasks"])
def test_missing_and_foreign_runs_read_the_same(
    box: Box, workflow_id: str, operation: str, request_: dict[str, str]
) -> None:
    box.start_run(workflow_id)
    with pytest.raises(ResourceNotFoundException) as caught:
        box.call(operation, **request_)
    account = request_.get("account", ACCOUNT)
    assert caught.value.message == f"Run {request_['id']} not found. ListRuns lists the runs of account {account}."


# ---- ListRuns ----------------------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_an_item_has_the_members_of_the_model(box: Box, workflow_id: str) -> None:
    full = box.start_run(workflow_id, name="n", priority=0, storageType="DYNAMIC")["id"]
    box.set_run(
        full,
        status="COMPLETED",
        batch_id=13,
        workflow_version_name="v2",
        started_ms=NOW_MS + 1,
        stopped_ms=NOW_MS + 2,
        storage_peak_bytes=GIB,
    )
    bare = box.start_run(workflow_id)["id"]
    box.set_run(bare, workflow_name=None)
    assert box.call("ListRuns")["items"] == [
        {
            "arn": f"arn:aws:omics:us-east-1:{ACCOUNT}:run/{full}",
            "id": full,
            "status": "COMPLETED",
            "workflowId": workflow_id,
            "workflowName": "hello",
            "workflowVersionName": "v2",
            "batchId": "13",
            "name": "n",
            "priority": 0,
            "storageType": "DYNAMIC",
            "storageCapacity": 1,
            "creationTime": "2025-11-24T16:00:00.001000Z",
            "startTime": "2025-11-24T16:00:00.001000Z",
            "stopTime": "2025-11-24T16:00:00.002000Z",
        },
        {
            "arn": f"arn:aws:omics:us-east-1:{ACCOUNT}:run/{bare}",
            "id": bare,
            "status": "PENDING",
            "workflowId": workflow_id,
            "storageType": "STATIC",
            "storageCapacity": 1200,
            "creationTime": "2025-11-24T16:00:00.001000Z",
        },
    ]


@pytest.mark.source("model")
def test_filters_narrow_together(box: Box, workflow_id: str) -> None:
    runs = [box.start_run(workflow_id, name=name)["id"] for name in ("a", "a", "b")]
    box.set_run(runs[0], status="FAILED", run_group_id=5, batch_id=6)
    box.set_run(runs[2], status="FAILED", run_group_id=5)

    def listed(**filters: Any) -> list[str]:
        return [item["id"] for item in box.call("ListRuns", **filters)["items"]]

    assert listed() == runs
    assert listed(name="a") == runs[:2]
    assert listed(name="A") == []
    assert listed(status="FAILED") == [runs[0], runs[2]]
    assert listed(status="FAILED", name="a") == [runs[0]]
    assert listed(runGroupId="5") == [runs[0], runs[2]]
    assert listed(runGroupId="5", batchId="6", name="a", status="FAILED") == [runs[0]]
    assert listed(batchId="6") == [runs[0]]
    assert listed(batchId="06") == []
    assert listed(status="DELETED") == []
    assert listed(account=OTHER) == []


# ---- CancelRun, DeleteRun ----------------------------------------------------------------------------------------


STATES = [
    RunState(RunStatus.PENDING),
    RunState(RunStatus.STARTING),
    RunState(RunStatus.RUNNING, RunPhase.IMPORTING),
    RunState(RunStatus.RUNNING, RunPhase.EXECUTING, None, 1),
    RunState(RunStatus.RUNNING, RunPhase.EXPORTING, None, 1),
    RunState(RunStatus.STOPPING, None, RunStatus.COMPLETED, 1),
    RunState(RunStatus.COMPLETED, None, RunStatus.COMPLETED, 1),
    RunState(RunStatus.FAILED, None, RunStatus.FAILED, 1),
    RunState(RunStatus.CANCELLED, None, RunStatus.CANCELLED, 1),
]


def in_state(box: Box, workflow_id: str, state: RunState) -> str:
    run_id: str = box.start_run(workflow_id)["id"]
    box.set_run(run_id, status=state.status, phase=state.phase, outcome=state.outcome, incarnation=state.incarnation)
    box.woken.clear()
    return run_id


def wishes(box: Box, run_id: str) -> tuple[int | None, int | None, str]:
    row = box.store.read(lambda tx: load_run(tx, int(run_id)))
    assert row is not None
    return row.cancel_wished_ms, row.delete_wished_ms, row.status


@pytest.mark.source("guide")
@pytest.mark.parametrize("state", STATES, ids=lambda state: f"{state.status}-{state.phase}")
def test_a_cancel_is_a_wish_where_the_table_allows_it(box: Box, workflow_id: str, state: RunState) -> None:
    run_id = in_state(box, workflow_id, state)
    if accepts(state, Cancel):
        assert box.call("CancelRun", id=run_id) == {}
        assert wishes(box, run_id) == (NOW_MS, None, state.status)
        assert box.woken == [("run", int(run_id))]
        return
    with pytest.raises(ConflictException) as caught:
        box.call("CancelRun", id=run_id)
    assert caught.value.message.startswith(f"Run {run_id} is {state.status} and cannot be cancelled: ")
    assert wishes(box, run_id) == (None, None, state.status)
    assert box.woken == []


@pytest.mark.source("model")
@pytest.mark.parametrize("state", STATES, ids=lambda state: f"{state.status}-{state.phase}")
def test_a_delete_is_a_wish_where_the_table_allows_it(box: Box, workflow_id: str, state: RunState) -> None:
    run_id = in_state(box, workflow_id, state)
    if not accepts(state, Delete):
        with pytest.raises(ConflictException) as caught:
            box.call("DeleteRun", id=run_id)
        assert caught.value.message.startswith(
            f"Run {run_id} is {state.status} and cannot be deleted: wait for its end, or cancel"
        )
        assert wishes(box, run_id) == (None, None, state.status)
        return
    assert box.call("DeleteRun", id=run_id) == {}
    assert wishes(box, run_id) == (None, NOW_MS, state.status)
    assert box.woken == [("run", int(run_id))]
    assert box.call("ListRuns") == {"items": []}
    for operation in ("GetRun", "DeleteRun", "CancelRun"):
        with pytest.raises(ResourceNotFoundException):
            box.call(operation, id=run_id)


def test_a_second_cancel_keeps_the_first_moment(box: Box, workflow_id: str) -> None:
    run_id = box.start_run(workflow_id)["id"]
    box.call("CancelRun", id=run_id)
    box.now_ms += 1000
    box.call("CancelRun", id=run_id)
    assert wishes(box, run_id) == (NOW_MS, None, "PENDING")


def test_another_accounts_run_is_left_alone(box: Box, workflow_id: str) -> None:
    run_id = box.start_run(workflow_id)["id"]
    with pytest.raises(ResourceNotFoundException):
        box.call("CancelRun", account=OTHER, id=run_id)
    assert wishes(box, run_id) == (None, None, "PENDING")


# ---- pages -------------------------------------------------------------------------------------------------------


def pages(box: Box, operation: str, **request: Any) -> list[list[str]]:
    """The ids of each page, following tokens to the end."""
    found = []
    token: dict[str, str] = {}
    while True:
        page = box.call(operation, **request, **token)
        found.append([item["id"] for item in page["items"]])
        if "nextToken" not in page:
            return found
        assert len(page["nextToken"]) <= 128
        token = {"startingToken": page["nextToken"]}


@pytest.mark.source("model")
def test_pages_cover_everything_once_in_order(box: Box, workflow_id: str) -> None:
    runs = [box.start_run(workflow_id, name="ab"[number % 2])["id"] for number in range(7)]
    assert pages(box, "ListRuns", maxResults=3) == [runs[:3], runs[3:6], runs[6:]]
    assert pages(box, "ListRuns", maxResults=7) == [runs]
    assert pages(box, "ListRuns", maxResults=2, name="a") == [runs[0:4:2], runs[4::2]]


def test_a_page_has_a_hundred_items_unless_asked_otherwise(box: Box, workflow_id: str) -> None:
    for _ in range(101):
        box.start_run(workflow_id)
    assert [len(page) for page in pages(box, "ListRuns")] == [100, 1]


def test_runs_made_or_deleted_between_pages_disturb_nothing(box: Box, workflow_id: str) -> None:
    runs = [box.start_run(workflow_id)["id"] for _ in range(4)]
    token = box.call("ListRuns", maxResults=2)["nextToken"]
    box.set_run(runs[1], status="FAILED", outcome="FAILED")
    box.call("DeleteRun", id=runs[1])
    late = box.start_run(workflow_id)["id"]
    assert [item["id"] for item in box.call("ListRuns", startingToken=token)["items"]] == [*runs[2:], late]


def test_a_token_outlives_the_server_process(box: Box, workflow_id: str) -> None:
    runs = [box.start_run(workflow_id)["id"] for _ in range(3)]
    token = box.call("ListRuns", maxResults=2)["nextToken"]
    box.reopen()
    assert [item["id"] for item in box.call("ListRuns", startingToken=token)["items"]] == runs[2:]


def test_a_token_of_another_list_filter_account_or_server_is_refused(box: Box, workflow_id: str) -> None:
    for account, workflow in ((ACCOUNT, workflow_id), (OTHER, box.registered_workflow(account=OTHER))):
        for _ in range(3):
            box.start_run(workflow, account=account, name="a")
    box.registered_workflow()
    token = box.call("ListRuns", maxResults=1, name="a")["nextToken"]
    assert len(box.call("ListRuns", name="a", maxResults=2, startingToken=token)["items"]) == 2, (
        "maxResults is no filter"
    )
    tampered = ("B" if token[8] == "A" else "A").join((token[:8], token[9:]))
    refused: list[tuple[str, dict[str, Any]]] = [
        ("ListRuns", {"startingToken": token}),
        ("ListRuns", {"startingToken": token, "name": "b"}),
        ("ListRuns", {"startingToken": token, "name": "a", "status": "PENDING"}),
        ("ListRuns", {"startingToken": token, "name": "a", "account": OTHER}),
        ("ListWorkflows", {"startingToken": token, "name": "a"}),
        ("ListRuns", {"startingToken": tampered, "name": "a"}),
        ("ListRuns", {"startingToken": token[:-4], "name": "a"}),
        ("ListRuns", {"startingToken": "ü", "name": "a"}),
        ("ListRuns", {"startingToken": "1000000", "name": "a"}),
    ]
    for operation, request in refused:
        with pytest.raises(
            ValidationException, match=f"is not a token of {operation} with this filter. Pass nextToken"
        ):
            box.call(operation, **request)
    box.with_site(page_key=b"another key of another server 32")
    with pytest.raises(ValidationException):
        box.call("ListRuns", startingToken=token, name="a")
