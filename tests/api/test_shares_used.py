"""A shared workflow in the hands of its subscriber: what it sees, runs and may not, before, during and after the share."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from server_in_a_box import ACCOUNT, HELLO, OTHER, Box, zip_of

from runomics.wire.errors import (
    AccessDeniedException,
    ApiError,
    ConflictException,
    ResourceNotFoundException,
    ValidationException,
)

STRANGER = "111122223333"
ROLE = f"arn:aws:iam::{OTHER}:role/theirs"
BYE = "version 1.0\nworkflow Bye {\n    input { Int count }\n}\n"


def digest(main: str) -> str:
    return f"sha256:{hashlib.sha256(zip_of({'main.wdl': main})).hexdigest()}"


@pytest.fixture
def workflow_id(box: Box) -> str:
    """An ACTIVE workflow of ACCOUNT with a version v1, with everything that is the owner's alone."""
    own = {
        "tags": {"secret": "1"},
        "readmeMarkdown": "# Mine",
        "containerRegistryMap": {"imageMappings": [{"sourceImage": "a", "destinationImage": "b"}]},
    }
    identifier = box.registered_workflow(name="hello", description="greets", storageType="DYNAMIC", **own)
    box.registered_version(identifier, "v1", {"main.wdl": BYE}, workflowBucketOwnerId=ACCOUNT, **own)
    return identifier


def run(box: Box, workflow_id: str, account: str = OTHER, **request: Any) -> dict[str, Any]:
    """A run that `account` starts of the shared workflow."""
    usual = {"workflowOwnerId": ACCOUNT, "roleArn": ROLE, "outputUri": "s3://theirs/out"}
    return box.start_run(workflow_id, account=account, **{**usual, **request})


# ---- what it may -------------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_the_subscriber_sees_what_it_needs_for_running(box: Box, workflow_id: str) -> None:
    box.shared(workflow_id)
    found = box.call("GetWorkflow", account=OTHER, id=workflow_id, workflowOwnerId=ACCOUNT)
    own = box.call("GetWorkflow", id=workflow_id)
    assert found == {
        "arn": f"arn:aws:omics:us-east-1:{ACCOUNT}:workflow/{workflow_id}",
        "id": workflow_id,
        "uuid": own["uuid"],
        "status": "ACTIVE",
        "type": "PRIVATE",
        "name": "hello",
        "description": "greets",
        "engine": "WDL",
        "main": "main.wdl",
        "digest": digest(HELLO),
        "storageType": "DYNAMIC",
        "parameterTemplate": own["parameterTemplate"],
        "creationTime": own["creationTime"],
    }


@pytest.mark.source("guide")
def test_the_subscriber_sees_a_version_as_it_sees_the_workflow(box: Box, workflow_id: str) -> None:
    box.shared(workflow_id)
    named = {"workflowId": workflow_id, "versionName": "v1"}
    found = box.call("GetWorkflowVersion", account=OTHER, workflowOwnerId=ACCOUNT, **named)
    own = box.call("GetWorkflowVersion", **named)
    hidden = {"tags", "statusMessage", "containerRegistryMap", "workflowBucketOwnerId"}
    assert found == {name: value for name, value in own.items() if name not in hidden}
    assert hidden <= set(own)


@pytest.mark.source("guide")
def test_the_message_of_a_failed_version_is_the_owners_it_may_quote_the_definition(box: Box, workflow_id: str) -> None:
    box.shared(workflow_id)
    box.registered_version(workflow_id, "bad", {"main.wdl": "version 1.0\nworkflow secret { call nothing }\n"})
    named = {"workflowId": workflow_id, "versionName": "bad"}
    found = box.call("GetWorkflowVersion", account=OTHER, workflowOwnerId=ACCOUNT, **named)
    assert found["status"] == "FAILED"
    assert "statusMessage" not in found
    assert "nothing" in box.call("GetWorkflowVersion", **named)["statusMessage"]


@pytest.mark.source("guide")
def test_versions_made_after_the_share_are_seen_and_run_too(box: Box, workflow_id: str) -> None:
    box.shared(workflow_id)
    box.registered_version(workflow_id, "later", {"main.wdl": BYE})
    listed = box.call("ListWorkflowVersions", account=OTHER, workflowId=workflow_id, workflowOwnerId=ACCOUNT)
    assert listed == box.call("ListWorkflowVersions", workflowId=workflow_id)
    assert [item["versionName"] for item in listed["items"]] == ["v1", "later"]
    started = run(box, workflow_id, workflowVersionName="later", parameters={"count": 1})
    found = box.call("GetRun", account=OTHER, id=started["id"])
    assert (found["workflowVersionName"], found["digest"]) == ("later", digest(BYE))


@pytest.mark.source("guide")
def test_a_run_of_a_shared_workflow_is_the_subscribers(box: Box, workflow_id: str) -> None:
    box.shared(workflow_id)
    started = run(box, workflow_id, tags={"mine": "1"})
    assert started["arn"] == f"arn:aws:omics:us-east-1:{OTHER}:run/{started['id']}"
    found = box.call("GetRun", account=OTHER, id=started["id"])
    shown = (
        "workflowId",
        "workflowOwnerId",
        "workflowUuid",
        "digest",
        "roleArn",
        "runOutputUri",
        "storageType",
        "tags",
        "startedBy",
    )
    assert {name: found[name] for name in shown} == {
        "workflowId": workflow_id,
        "workflowOwnerId": ACCOUNT,
        "workflowUuid": box.call("GetWorkflow", id=workflow_id)["uuid"],
        "digest": digest(HELLO),
        "roleArn": ROLE,
        "runOutputUri": f"s3://theirs/out/{started['id']}",
        "storageType": "DYNAMIC",
        "tags": {"mine": "1"},
        "startedBy": f"arn:aws:iam::{OTHER}:user/ana",
    }
    assert [item["id"] for item in box.call("ListRuns", account=OTHER)["items"]] == [started["id"]]
    assert box.call("ListRuns") == {"items": []}, "the owner does not see who runs what"
    with pytest.raises(ResourceNotFoundException):
        box.call("GetRun", id=started["id"])


@pytest.mark.source("observed")
def test_shared_workflows_are_not_listed_among_ones_own(box: Box, workflow_id: str) -> None:
    box.shared(workflow_id)
    assert box.call("ListWorkflows", account=OTHER) == {"items": []}


# ---- what it may not ---------------------------------------------------------------------------------------------


@pytest.mark.source("model")
@pytest.mark.parametrize("export", [["DEFINITION"], ["README"], ["README", "DEFINITION"]])
def test_the_subscriber_exports_neither_workflow_nor_version(box: Box, workflow_id: str, export: list[str]) -> None:
    box.shared(workflow_id)
    for operation, named in (
        ("GetWorkflow", {"id": workflow_id}),
        ("GetWorkflowVersion", {"workflowId": workflow_id, "versionName": "v1"}),
    ):
        with pytest.raises(AccessDeniedException, match=f"not for export: account {ACCOUNT} owns it"):
            box.call(operation, account=OTHER, workflowOwnerId=ACCOUNT, export=export, **named)
        assert box.call(operation, account=OTHER, workflowOwnerId=ACCOUNT, export=[], **named)["status"] == "ACTIVE"


@pytest.mark.source("guide")
def test_the_definition_of_a_run_of_a_shared_workflow_is_not_exported(box: Box, workflow_id: str) -> None:
    box.shared(workflow_id)
    run_id = run(box, workflow_id)["id"]
    with pytest.raises(AccessDeniedException, match=f"The definition of run {run_id} is not for export"):
        box.call("GetRun", account=OTHER, id=run_id, export=["DEFINITION"])
    own_id = box.start_run(workflow_id, workflowOwnerId=ACCOUNT)["id"]
    assert "definition" in box.call("GetRun", id=own_id, export=["DEFINITION"])


@pytest.mark.source("model")
def test_a_run_of_a_shared_workflow_is_not_repeated(box: Box, workflow_id: str) -> None:
    box.shared(workflow_id)
    own_id = box.registered_workflow(account=OTHER)
    run_id = run(box, workflow_id)["id"]
    for more in ({}, {"workflowId": workflow_id, "workflowOwnerId": ACCOUNT}, {"workflowId": own_id}):
        with pytest.raises(ValidationException, match=f"Run {run_id} is of a workflow shared by account {ACCOUNT}"):
            box.start_run(None, account=OTHER, runId=run_id, **more)
    assert len(box.call("ListRuns", account=OTHER)["items"]) == 1


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("UpdateWorkflow", {"name": "mine"}),
        ("DeleteWorkflow", {}),
        ("UpdateWorkflowVersion", {"versionName": "v1", "description": "mine"}),
        ("DeleteWorkflowVersion", {"versionName": "v1"}),
        ("CreateWorkflowVersion", {"versionName": "v2", "requestId": "r", "definitionUri": "s3://bucket/a.zip"}),
        (
            "CreateShare",
            {"resourceArn": f"arn:aws:omics:us-east-1:{ACCOUNT}:workflow/ID", "principalSubscriber": STRANGER},
        ),
    ],
)
def test_the_subscriber_changes_deletes_and_shares_nothing(
    box: Box, workflow_id: str, operation: str, request_: dict[str, Any]
) -> None:
    box.shared(workflow_id)
    if operation == "CreateShare":
        named = {**request_, "resourceArn": request_["resourceArn"].replace("ID", workflow_id)}
    else:
        named = {**request_, ("workflowId" if "Version" in operation else "id"): workflow_id}
    before = [box.call("GetWorkflow", id=workflow_id), box.call("ListWorkflowVersions", workflowId=workflow_id)]
    with pytest.raises(ResourceNotFoundException, match=f"Workflow {workflow_id} not found"):
        box.call(operation, account=OTHER, **named)
    assert [
        box.call("GetWorkflow", id=workflow_id),
        box.call("ListWorkflowVersions", workflowId=workflow_id),
    ] == before


@pytest.mark.source("model")
def test_without_its_owner_a_shared_workflow_is_not_found(box: Box, workflow_id: str) -> None:
    box.shared(workflow_id)
    for operation, named in LOOKS.items():
        request = {name: value.replace("ID", workflow_id) for name, value in named.items()}
        with pytest.raises(ResourceNotFoundException, match=f"Workflow {workflow_id} not found"):
            box.call(operation, account=OTHER, **request)
    with pytest.raises(ResourceNotFoundException, match=f"Workflow {workflow_id} not found"):
        box.start_run(workflow_id, account=OTHER)


# ---- before, after, and others -----------------------------------------------------------------------------------


LOOKS = {
    "GetWorkflow": {"id": "ID"},
    "GetWorkflowVersion": {"workflowId": "ID", "versionName": "v1"},
    "ListWorkflowVersions": {"workflowId": "ID"},
}


def refusals(box: Box, account: str, workflow_id: str) -> list[tuple[type[ApiError], str]]:
    """What each way to use the workflow of ACCOUNT is answered with, the id made the same for all."""
    found = []
    calls = [(operation, {**named, "workflowOwnerId": ACCOUNT}) for operation, named in LOOKS.items()]
    calls.append(("GetWorkflow", {"id": "ID", "workflowOwnerId": ACCOUNT, "export": ["DEFINITION"]}))  # type: ignore[dict-item]
    for operation, named in calls:
        request = {name: workflow_id if value == "ID" else value for name, value in named.items()}
        with pytest.raises(ApiError) as caught:
            box.call(operation, account=account, **request)
        found.append((type(caught.value), caught.value.message.replace(workflow_id, "ID")))
    with pytest.raises(ApiError) as caught:
        run(box, workflow_id, account)
    return [*found, (type(caught.value), caught.value.message.replace(workflow_id, "ID"))]


@pytest.mark.source("assumed")
def test_a_workflow_that_is_not_or_no_longer_shared_reads_as_a_missing_one(box: Box, workflow_id: str) -> None:
    missing = refusals(box, OTHER, "7777777")
    assert {kind for kind, _ in missing} == {ResourceNotFoundException}
    assert all(text.startswith(f"Workflow ID not found. It is not shared by account {ACCOUNT}") for _, text in missing)
    assert refusals(box, OTHER, workflow_id) == missing, "never shared"
    share_id = box.offered(workflow_id)
    assert refusals(box, OTHER, workflow_id) == missing, "offered"
    box.call("AcceptShare", account=OTHER, shareId=share_id)
    assert refusals(box, OTHER, workflow_id) == missing, "not yet active"
    box.move_shares()
    assert run(box, workflow_id)["status"] == "PENDING"
    assert refusals(box, STRANGER, workflow_id) == missing, "shared with somebody else"
    box.call("DeleteShare", shareId=share_id)
    assert refusals(box, OTHER, workflow_id) == missing, "being revoked"
    box.move_shares()
    assert refusals(box, OTHER, workflow_id) == missing, "revoked"


@pytest.mark.source("assumed")
def test_the_owner_named_wrongly_is_no_way_in(box: Box, workflow_id: str) -> None:
    box.shared(workflow_id)
    with pytest.raises(ResourceNotFoundException):
        run(box, workflow_id, workflowOwnerId=STRANGER)
    with pytest.raises(ResourceNotFoundException):
        run(box, workflow_id, workflowOwnerId=OTHER)
    with pytest.raises(ResourceNotFoundException):
        run(box, workflow_id, workflowType="READY2RUN")


@pytest.mark.source("assumed")
def test_revoking_leaves_runs_in_flight_alone(box: Box, workflow_id: str) -> None:
    share_id = box.shared(workflow_id)
    run_id = run(box, workflow_id)["id"]
    before = box.call("GetRun", account=OTHER, id=run_id)
    box.call("DeleteShare", shareId=share_id)
    box.move_shares()
    box.call("DeleteWorkflowVersion", workflowId=workflow_id, versionName="v1")
    box.call("DeleteWorkflow", id=workflow_id)
    assert box.call("GetRun", account=OTHER, id=run_id) == before
    with pytest.raises(AccessDeniedException):
        box.call("GetRun", account=OTHER, id=run_id, export=["DEFINITION"])
    box.call("CancelRun", account=OTHER, id=run_id)


@pytest.mark.source("assumed")
def test_a_repeated_request_is_answered_after_the_share_has_ended(box: Box, workflow_id: str) -> None:
    share_id = box.shared(workflow_id)
    first = run(box, workflow_id, requestId="r1")
    box.call("DeleteShare", shareId=share_id)
    assert run(box, workflow_id, requestId="r1") == first


@pytest.mark.source("guide")
def test_a_workflow_is_deleted_only_once_no_share_of_it_lives(box: Box, workflow_id: str) -> None:
    box.call("DeleteWorkflowVersion", workflowId=workflow_id, versionName="v1")
    offered, active = box.offered(workflow_id, STRANGER), box.shared(workflow_id)
    with pytest.raises(ConflictException, match=rf"Workflow {workflow_id} still has live shares \(2\) and cannot"):
        box.call("DeleteWorkflow", id=workflow_id)
    box.call("DeleteShare", account=OTHER, shareId=active)
    with pytest.raises(ConflictException, match=rf"Workflow {workflow_id} still has live shares \(1\) and cannot"):
        box.call("DeleteWorkflow", id=workflow_id)
    box.call("DeleteShare", shareId=offered)
    box.call("DeleteWorkflow", id=workflow_id)
    box.move_shares()
    found = box.call("GetShare", account=OTHER, shareId=active)["share"]
    assert (found["status"], found["resourceId"]) == ("DELETED", workflow_id)


@pytest.mark.source("assumed")
def test_a_workflow_that_failed_is_shared_for_the_sake_of_its_versions(box: Box) -> None:
    workflow_id = box.registered_workflow({"README.md": "none"})
    box.shared(workflow_id)
    with pytest.raises(ConflictException, match=f"Workflow {workflow_id} is FAILED and cannot be run"):
        run(box, workflow_id)
    box.registered_version(workflow_id, "fixed")
    assert run(box, workflow_id, workflowVersionName="fixed")["status"] == "PENDING"
