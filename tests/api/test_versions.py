"""The operations on workflow versions, and StartRun of a version. A version inherits nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from server_in_a_box import ACCOUNT, HELLO, NOW_MS, OTHER, Box, zip_of

from runomics.domain.limits import Limits
from runomics.store.events import undelivered
from runomics.wire.errors import (
    ConflictException,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
    ValidationException,
)

BYE = "version 1.0\nworkflow Bye {\n    input { Int count }\n}\n"


def digest(main: str) -> str:
    return f"sha256:{hashlib.sha256(zip_of({'main.wdl': main})).hexdigest()}"


@pytest.fixture
def workflow_id(box: Box) -> str:
    return box.registered_workflow(
        name="hello", description="greets", storageType="STATIC", storageCapacity=10, tags={"of": "workflow"}
    )


def version(box: Box, workflow_id: str, version_name: str, **request: Any) -> dict[str, Any]:
    return box.call("GetWorkflowVersion", workflowId=workflow_id, versionName=version_name, **request)


# ---- CreateWorkflowVersion ---------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_a_version_begins_as_creating_with_an_arn_below_its_workflows(box: Box, workflow_id: str) -> None:
    box.woken.clear()
    created = box.create_version(workflow_id, "v1.0_b-c", tags={"a": "1"})
    assert len(created.pop("uuid")) == 36
    assert created == {
        "arn": f"arn:aws:omics:us-east-1:{ACCOUNT}:workflow/{workflow_id}/version/v1.0_b-c",
        "workflowId": workflow_id,
        "versionName": "v1.0_b-c",
        "status": "CREATING",
        "tags": {"a": "1"},
    }
    assert [kind for kind, _ in box.woken] == ["workflow-version"]


@pytest.mark.source("guide")
def test_a_registered_version_has_only_what_it_was_given_and_what_was_found(box: Box, workflow_id: str) -> None:
    created = box.registered_version(workflow_id, "v1", {"main.wdl": BYE})
    assert version(box, workflow_id, "v1") == {
        "arn": created["arn"],
        "workflowId": workflow_id,
        "versionName": "v1",
        "uuid": created["uuid"],
        "status": "ACTIVE",
        "type": "PRIVATE",
        "engine": "WDL",
        "main": "main.wdl",
        "digest": digest(BYE),
        "parameterTemplate": {"count": {"description": ""}},
        "creationTime": "2025-11-24T16:00:00.001000Z",
        "statusMessage": "main.wdl\n    workflow Bye\n",
        "tags": {},
    }


@pytest.mark.source("model")
def test_everything_a_version_is_given_is_shown(box: Box, workflow_id: str) -> None:
    given = {
        "description": "second",
        "engine": "WDL_LENIENT",
        "main": "main.wdl",
        "parameterTemplate": {"reads": {"description": "mine", "optional": True}},
        "storageType": "DYNAMIC",
        "storageCapacity": 7,
        "accelerators": "GPU",
        "tags": {"a": "1"},
        "containerRegistryMap": {"imageMappings": [{"sourceImage": "a", "destinationImage": "b"}]},
        "workflowBucketOwnerId": OTHER,
    }
    box.registered_version(workflow_id, "v1", **given)
    found = version(box, workflow_id, "v1")
    assert {name: found[name] for name in given} == given


@pytest.mark.source("guide")
def test_a_definition_that_is_none_makes_the_version_fail_and_nothing_else(box: Box, workflow_id: str) -> None:
    box.registered_version(workflow_id, "v1", {"README.md": "no definition"})
    found = version(box, workflow_id, "v1")
    assert found["status"] == "FAILED"
    assert "statusMessage" in found
    assert box.call("GetWorkflow", id=workflow_id)["status"] == "ACTIVE"


@pytest.mark.source("guide")
def test_a_failed_workflow_may_have_a_version_that_works(box: Box) -> None:
    workflow_id = box.registered_workflow({"README.md": "no definition"})
    box.registered_version(workflow_id, "fixed")
    assert box.start_run(workflow_id, workflowVersionName="fixed")["status"] == "PENDING"
    with pytest.raises(ConflictException, match=f"Workflow {workflow_id} is FAILED and cannot be run"):
        box.start_run(workflow_id)


def test_an_archive_in_a_bucket_is_fetched_for_a_version_too(box: Box, workflow_id: str) -> None:
    (box.directory / "objects" / "bucket" / "v.zip").write_bytes(zip_of({"main.wdl": BYE}))
    (box.directory / "objects" / "bucket" / "README.md").write_text("# From a bucket")
    box.registered_version(workflow_id, "v1", definitionUri="s3://bucket/v.zip", readmeUri="s3://bucket/README.md")
    found = version(box, workflow_id, "v1", export=["DEFINITION", "README"])
    assert (found["status"], found["digest"]) == ("ACTIVE", digest(BYE))
    assert found["readme"] == f"http://server/readme/{ACCOUNT}/{workflow_id}/v1?{NOW_MS + 3_600_000}"


@pytest.mark.source("guide")
def test_names_are_unique_within_a_workflow_and_their_case_counts(box: Box, workflow_id: str) -> None:
    other_id = box.registered_workflow()
    box.create_version(workflow_id, "v1")
    box.create_version(workflow_id, "V1")
    box.create_version(other_id, "v1")
    with pytest.raises(ConflictException, match=f"Workflow {workflow_id} has a version v1 already. Choose another"):
        box.create_version(workflow_id, "v1")


@pytest.mark.source("guide")
def test_the_name_of_a_deleted_version_is_free_and_its_uuid_is_not_used_again(box: Box, workflow_id: str) -> None:
    first = box.registered_version(workflow_id, "v1")
    box.call("DeleteWorkflowVersion", workflowId=workflow_id, versionName="v1")
    second = box.registered_version(workflow_id, "v1", {"main.wdl": BYE})
    assert second["arn"] == first["arn"]
    assert second["uuid"] != first["uuid"]
    assert version(box, workflow_id, "v1")["digest"] == digest(BYE)


@pytest.mark.source("guide")
def test_a_workflow_has_so_many_versions_and_no_more(tmp_path: Path) -> None:
    box = Box(tmp_path / "small", limits=Limits(versions_per_workflow=2))
    try:
        workflow_id, other_id = box.registered_workflow(), box.registered_workflow()
        box.create_version(other_id, "v1")
        box.registered_version(workflow_id, "v1")
        box.create_version(workflow_id, "v2")
        with pytest.raises(ServiceQuotaExceededException, match="has 2 versions, as many as a workflow may have"):
            box.create_version(workflow_id, "v3")
        box.call("DeleteWorkflowVersion", workflowId=workflow_id, versionName="v1")
        box.create_version(workflow_id, "v3")
    finally:
        box.close()


@pytest.mark.source("model")
def test_the_same_token_and_request_make_one_version(box: Box, workflow_id: str) -> None:
    request = {
        "workflowId": workflow_id,
        "versionName": "v1",
        "definitionZip": zip_of({"main.wdl": HELLO}),
        "requestId": "r1",
    }
    first = box.call("CreateWorkflowVersion", **request)
    box.register.step_version(1_000_000)
    assert box.call("CreateWorkflowVersion", **request) == first
    for change in ({"versionName": "v2"}, {"description": "d"}, {"workflowId": box.registered_workflow()}):
        with pytest.raises(ConflictException, match="requestId 'r1' was used for another CreateWorkflowVersion"):
            box.call("CreateWorkflowVersion", **{**request, **change})
    assert len(box.call("ListWorkflowVersions", workflowId=workflow_id)["items"]) == 1


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"definitionUri": "s3://bucket/a.zip", "definitionZip": b"x"}, "definitionZip and definitionUri was given"),
        ({"definitionZip": b""}, "definitionZip is empty"),
        ({"definitionZip": b"x", "readmeMarkdown": "x" * 512_001}, "readmeMarkdown has 512001 bytes"),
        ({"definitionZip": b"x", "tags": {"aws:a": "1"}}, "Tag keys may not begin with 'aws:'"),
    ],
)
def test_a_version_is_checked_as_a_workflow_is(box: Box, workflow_id: str, request_: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationException, match=said):
        box.call("CreateWorkflowVersion", workflowId=workflow_id, versionName="v1", requestId="r", **request_)
    assert box.call("ListWorkflowVersions", workflowId=workflow_id) == {"items": []}


# ---- looking -----------------------------------------------------------------------------------------------------


@pytest.mark.source("observed")
def test_export_gives_the_urls_of_the_version(box: Box, workflow_id: str) -> None:
    box.registered_version(workflow_id, "v1", {"main.wdl": BYE}, readmeMarkdown="# Bye")
    found = version(box, workflow_id, "v1", export=["DEFINITION", "README"])
    expires_ms = NOW_MS + 3_600_000
    assert found["definition"] == f"http://server/definition/{digest(BYE).removeprefix('sha256:')}?{expires_ms}"
    assert found["readme"] == f"http://server/readme/{ACCOUNT}/{workflow_id}/v1?{expires_ms}"
    assert {"definition", "readme"} & set(version(box, workflow_id, "v1")) == set()


@pytest.mark.source("assumed")
def test_versions_are_listed_in_the_order_of_their_making_without_the_default(box: Box, workflow_id: str) -> None:
    other_id = box.registered_workflow()
    box.registered_version(workflow_id, "z", description="first")
    box.create_version(other_id, "m")
    box.create_version(workflow_id, "a", definitionUri="s3://bucket/a.zip")
    arn = f"arn:aws:omics:us-east-1:{ACCOUNT}:workflow/{workflow_id}/version"
    same = {"workflowId": workflow_id, "type": "PRIVATE", "creationTime": "2025-11-24T16:00:00.001000Z"}
    assert box.call("ListWorkflowVersions", workflowId=workflow_id) == {
        "items": [
            {
                "arn": f"{arn}/z",
                "versionName": "z",
                "status": "ACTIVE",
                "description": "first",
                "digest": digest(HELLO),
                **same,
            },
            {"arn": f"{arn}/a", "versionName": "a", "status": "CREATING", **same},
        ]
    }


@pytest.mark.source("model")
def test_a_long_list_comes_in_pages_whose_tokens_are_bound_to_it(box: Box, workflow_id: str) -> None:
    names = [f"v{number}" for number in range(5)]
    for name in names:
        box.create_version(workflow_id, name)
    seen: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = box.call("ListWorkflowVersions", workflowId=workflow_id, maxResults=2, **token)
        seen += [item["versionName"] for item in page["items"]]
        if "nextToken" not in page:
            break
        token = {"startingToken": page["nextToken"]}
    assert seen == names
    other_id = box.registered_workflow()
    with pytest.raises(ValidationException, match="is not a token of ListWorkflowVersions with this filter"):
        box.call("ListWorkflowVersions", workflowId=other_id, **token)


@pytest.mark.source("model")
def test_what_is_missing_foreign_or_of_another_type_is_not_found(box: Box, workflow_id: str) -> None:
    box.registered_version(workflow_id, "v1")
    named = {"workflowId": workflow_id, "versionName": "v1"}
    operations: dict[str, dict[str, Any]] = {
        "GetWorkflowVersion": named,
        "UpdateWorkflowVersion": {**named, "description": "x"},
        "DeleteWorkflowVersion": named,
        "CreateWorkflowVersion": {**named, "requestId": "r", "definitionUri": "s3://bucket/v.zip"},
        "ListWorkflowVersions": {"workflowId": workflow_id},
    }
    for operation, request in operations.items():
        texts = []
        for change in ({"account": OTHER}, {"account": OTHER, "workflowId": "7"}):
            with pytest.raises(ResourceNotFoundException) as caught:
                box.call(operation, **{**request, **change})
            texts.append(caught.value.message.replace("Workflow 7 ", f"Workflow {workflow_id} "))
        assert texts[0] == texts[1], operation
        assert texts[0].startswith(f"Workflow {workflow_id} not found."), operation
    for operation in ("GetWorkflowVersion", "ListWorkflowVersions"):
        with pytest.raises(ResourceNotFoundException, match=f"Workflow {workflow_id} not found. "):
            box.call(operation, **{**operations[operation], "type": "READY2RUN"})
    for operation in ("GetWorkflowVersion", "UpdateWorkflowVersion", "DeleteWorkflowVersion"):
        with pytest.raises(ResourceNotFoundException, match=f"Version v2 of workflow {workflow_id} not found. "):
            box.call(operation, workflowId=workflow_id, versionName="v2")
    assert version(box, workflow_id, "v1")["status"] == "ACTIVE"


# ---- UpdateWorkflowVersion, DeleteWorkflowVersion ----------------------------------------------------------------


@pytest.mark.source("model")
def test_an_update_changes_what_it_names_and_only_of_that_version(box: Box, workflow_id: str) -> None:
    for name in ("v1", "v2"):
        box.registered_version(workflow_id, name, description="d")
    before = {name: version(box, workflow_id, name) for name in ("v1", "v2")}
    workflow = box.call("GetWorkflow", id=workflow_id)
    change = {"description": "new", "storageType": "STATIC", "storageCapacity": 0}
    named = {"workflowId": workflow_id, "versionName": "v1"}
    assert box.call("UpdateWorkflowVersion", **named, readmeMarkdown="# New", **change) == {}
    assert version(box, workflow_id, "v1") == {**before["v1"], **change}
    assert "readme" in version(box, workflow_id, "v1", export=["README"])
    assert version(box, workflow_id, "v2") == before["v2"]
    assert box.call("GetWorkflow", id=workflow_id) == workflow
    box.call("UpdateWorkflowVersion", **named)
    assert version(box, workflow_id, "v1") == {**before["v1"], **change}
    with pytest.raises(ValidationException, match="512001 bytes"):
        box.call("UpdateWorkflowVersion", **named, readmeMarkdown="x" * 512_001)


@pytest.mark.source("assumed")
def test_a_version_being_created_is_neither_changed_nor_deleted(box: Box, workflow_id: str) -> None:
    box.create_version(workflow_id, "v1")
    named = {"workflowId": workflow_id, "versionName": "v1"}
    begin = f"Version v1 of workflow {workflow_id} is CREATING and cannot be"
    with pytest.raises(ConflictException, match=f"{begin} changed: wait until GetWorkflowVersion says"):
        box.call("UpdateWorkflowVersion", **named, description="n")
    with pytest.raises(ConflictException, match=f"{begin} deleted: wait until GetWorkflowVersion says"):
        box.call("DeleteWorkflowVersion", **named)


@pytest.mark.source("guide")
def test_a_workflow_is_deleted_after_its_versions(box: Box, workflow_id: str) -> None:
    for name in ("v1", "v2"):
        box.registered_version(workflow_id, name)
    with pytest.raises(ConflictException, match=rf"Workflow {workflow_id} still has versions \(2\) and cannot"):
        box.call("DeleteWorkflow", id=workflow_id)
    for name in ("v1", "v2"):
        assert box.call("DeleteWorkflowVersion", workflowId=workflow_id, versionName=name) == {}
    assert box.call("ListWorkflowVersions", workflowId=workflow_id) == {"items": []}
    assert box.call("DeleteWorkflow", id=workflow_id) == {}


# ---- StartRun of a version ---------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_a_run_of_a_version_runs_its_definition_with_its_template(box: Box, workflow_id: str) -> None:
    box.registered_version(workflow_id, "v1", {"main.wdl": BYE}, tags={"of": "version"})
    with pytest.raises(
        ValidationException, match=rf"template of version v1 of workflow {workflow_id}\..*GetWorkflowVersion"
    ):
        box.start_run(workflow_id, workflowVersionName="v1")
    run_id = box.start_run(workflow_id, workflowVersionName="v1", parameters={"count": 1})["id"]
    found = box.call("GetRun", id=run_id)
    workflow = box.call("GetWorkflow", id=workflow_id)
    shown = ("workflowId", "workflowVersionName", "workflowUuid", "digest", "tags")
    assert {name: found[name] for name in shown} == {
        "workflowId": workflow_id,
        "workflowVersionName": "v1",
        "workflowUuid": workflow["uuid"],
        "digest": digest(BYE),
        "tags": {},
    }
    item = box.call("ListRuns")["items"][0]
    assert (item["workflowName"], item["workflowVersionName"]) == ("hello", "v1")


@pytest.mark.source("guide")
def test_without_a_version_name_the_workflow_itself_is_run(box: Box, workflow_id: str) -> None:
    box.registered_version(workflow_id, "v1", {"main.wdl": BYE})
    found = box.call("GetRun", id=box.start_run(workflow_id)["id"])
    assert found["digest"] == digest(HELLO)
    assert "workflowVersionName" not in found


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("given", "request_", "shown"),
    [
        ({}, {}, ("STATIC", 1200)),
        ({"storageType": "STATIC", "storageCapacity": 50}, {}, ("STATIC", 50)),
        ({"storageType": "DYNAMIC"}, {}, ("DYNAMIC", None)),
        ({"storageType": "DYNAMIC"}, {"storageType": "STATIC", "storageCapacity": 3}, ("STATIC", 3)),
    ],
)
def test_storage_comes_from_request_then_version_then_setting_never_from_the_workflow(
    box: Box, workflow_id: str, given: dict[str, Any], request_: dict[str, Any], shown: tuple[str, int | None]
) -> None:
    box.registered_version(workflow_id, "v1", **given)
    found = box.call("GetRun", id=box.start_run(workflow_id, workflowVersionName="v1", **request_)["id"])
    assert (found["storageType"], found.get("storageCapacity")) == shown


@pytest.mark.source("assumed")
def test_only_an_active_version_is_run(box: Box, workflow_id: str) -> None:
    box.create_version(workflow_id, "v1")
    begin = f"Version v1 of workflow {workflow_id} is"
    with pytest.raises(ConflictException, match=f"{begin} CREATING and cannot be run: wait until GetWorkflowVersion"):
        box.start_run(workflow_id, workflowVersionName="v1")
    box.registered_version(workflow_id, "v2", {"README.md": "none"})
    with pytest.raises(ConflictException, match=r"Version v2 of workflow [0-9]+ is FAILED and cannot be run: look at"):
        box.start_run(workflow_id, workflowVersionName="v2")
    assert box.call("ListRuns") == {"items": []}


@pytest.mark.source("guide")
def test_runs_keep_what_they_need_of_a_deleted_version(box: Box, workflow_id: str) -> None:
    box.registered_version(workflow_id, "v1", {"main.wdl": BYE})
    run_id = box.start_run(workflow_id, workflowVersionName="v1", parameters={"count": 1})["id"]
    box.call("DeleteWorkflowVersion", workflowId=workflow_id, versionName="v1")
    run = box.call("GetRun", id=run_id, export=["DEFINITION"])
    assert (run["workflowVersionName"], run["digest"]) == ("v1", digest(BYE))
    assert "definition" in run
    with pytest.raises(ResourceNotFoundException, match=f"Version v1 of workflow {workflow_id} not found"):
        box.start_run(None, runId=run_id)


@pytest.mark.source("guide")
def test_a_repeated_run_is_of_the_same_version(box: Box, workflow_id: str) -> None:
    box.registered_version(workflow_id, "v1", {"main.wdl": BYE})
    source_id = box.start_run(workflow_id, workflowVersionName="v1", parameters={"count": 1})["id"]
    found = box.call("GetRun", id=box.start_run(None, runId=source_id)["id"])
    assert (found["workflowVersionName"], found["digest"], found["parameters"]) == ("v1", digest(BYE), {"count": 1})


def test_each_status_of_a_version_leaves_an_event(box: Box, workflow_id: str) -> None:
    created = box.registered_version(workflow_id, "v1")
    box.call("DeleteWorkflowVersion", workflowId=workflow_id, versionName="v1")
    events = [event for event in box.store.read(lambda tx: undelivered(tx, 10)) if event.kind == "workflow-version"]
    assert [(event.account, event.status, event.seq) for event in events] == [
        (ACCOUNT, "CREATING", 1),
        (ACCOUNT, "ACTIVE", 2),
        (ACCOUNT, "DELETED", 3),
    ]
    assert {event.detail for event in events} == {
        f'{{"uuid":"{created["uuid"]}","workflowId":"{workflow_id}","workflowVersionName":"v1"}}'
    }
