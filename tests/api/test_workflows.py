"""GetWorkflow, ListWorkflows, UpdateWorkflow, DeleteWorkflow."""

from __future__ import annotations

import hashlib
import re

import pytest
from server_in_a_box import ACCOUNT, HELLO, NOW_MS, OTHER, Box, zip_of

from runomics.wire.errors import ConflictException, ResourceNotFoundException, ValidationException


def digest(files: dict[str, str]) -> str:
    return f"sha256:{hashlib.sha256(zip_of(files)).hexdigest()}"


# ---- GetWorkflow -------------------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_a_registered_workflow_shows_what_it_was_given_and_what_was_found(box: Box) -> None:
    registry_map = {"imageMappings": [{"sourceImage": "a", "destinationImage": "b"}]}
    workflow_id = box.registered_workflow(
        name="hello",
        description="greets",
        storageType="STATIC",
        storageCapacity=10,
        accelerators="GPU",
        tags={"a": "1"},
        containerRegistryMap=registry_map,
        readmeMarkdown="# Hello",
    )
    found = box.call("GetWorkflow", id=workflow_id)
    assert len(found.pop("uuid")) == 36
    assert found == {
        "arn": f"arn:aws:omics:us-east-1:{ACCOUNT}:workflow/{workflow_id}",
        "id": workflow_id,
        "status": "ACTIVE",
        "type": "PRIVATE",
        "name": "hello",
        "description": "greets",
        "engine": "WDL",
        "main": "main.wdl",
        "digest": digest({"main.wdl": HELLO}),
        "parameterTemplate": {
            "reads": {"description": "Reads in FASTQ"},
            "name": {"description": "Who is greeted", "optional": True},
            "copies": {"description": "", "optional": True},
        },
        "storageType": "STATIC",
        "storageCapacity": 10,
        "accelerators": "GPU",
        "creationTime": "2025-11-24T16:00:00.001000Z",
        "statusMessage": "main.wdl\n    workflow Hello\n        call greet\n    task greet\n",
        "tags": {"a": "1"},
        "containerRegistryMap": registry_map,
    }


@pytest.mark.source("observed")
def test_a_workflow_being_created_shows_only_what_it_was_given(box: Box) -> None:
    found = box.call("GetWorkflow", id=box.create_workflow())
    assert set(found) == {"arn", "id", "uuid", "status", "type", "creationTime", "tags", "digest"}
    assert found["status"] == "CREATING"


@pytest.mark.source("observed")
def test_export_gives_urls_that_end(box: Box) -> None:
    workflow_id = box.registered_workflow(readmeMarkdown="# Hello")
    found = box.call("GetWorkflow", id=workflow_id, export=["DEFINITION", "README"])
    expires_ms = NOW_MS + 3_600_000
    assert found["definition"] == f"http://server/definition/{found['digest'].removeprefix('sha256:')}?{expires_ms}"
    assert found["readme"] == f"http://server/readme/{ACCOUNT}/{workflow_id}?{expires_ms}"


@pytest.mark.source("observed")
def test_without_export_or_without_a_readme_there_is_no_url(box: Box) -> None:
    workflow_id = box.registered_workflow()
    assert {"definition", "readme"} & set(box.call("GetWorkflow", id=workflow_id)) == set()
    assert {"definition", "readme"} & set(box.call("GetWorkflow", id=workflow_id, export=[])) == set()
    assert "readme" not in box.call("GetWorkflow", id=workflow_id, export=["README"])


@pytest.mark.source("observed")
@pytest.mark.parametrize(
    "request_",
    [
        {"id": "7"},
        {"id": "01000000"},
        {"id": "1000000", "type": "READY2RUN"},
        {"id": "9" * 18},
        {"id": "1000000", "account": OTHER},
    ],
)
def test_what_is_missing_foreign_or_of_another_type_is_not_found(box: Box, request_: dict[str, str]) -> None:
    box.registered_workflow()
    with pytest.raises(ResourceNotFoundException) as caught:
        box.call("GetWorkflow", **request_)
    assert caught.value.message.startswith(f"Workflow {request_['id']} not found.")
    assert re.search(r"ListWorkflows (with type READY2RUN )?lists", caught.value.message)


def test_an_owner_is_the_caller_or_shares_nothing(box: Box) -> None:
    workflow_id = box.registered_workflow()
    assert box.call("GetWorkflow", id=workflow_id, workflowOwnerId=ACCOUNT)["id"] == workflow_id
    with pytest.raises(ResourceNotFoundException, match=f"not shared by account {OTHER}; leave workflowOwnerId out"):
        box.call("GetWorkflow", id=workflow_id, workflowOwnerId=OTHER)


# ---- ListWorkflows -----------------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_a_list_has_the_callers_workflows_in_the_order_of_their_making(box: Box) -> None:
    first = box.registered_workflow(name="a")
    second = box.create_workflow(definitionUri="s3://bucket/missing.zip")
    box.create_workflow(account=OTHER)
    assert box.call("ListWorkflows") == {
        "items": [
            {
                "arn": f"arn:aws:omics:us-east-1:{ACCOUNT}:workflow/{first}",
                "id": first,
                "name": "a",
                "status": "ACTIVE",
                "type": "PRIVATE",
                "digest": digest({"main.wdl": HELLO}),
                "creationTime": "2025-11-24T16:00:00.001000Z",
            },
            {
                "arn": f"arn:aws:omics:us-east-1:{ACCOUNT}:workflow/{second}",
                "id": second,
                "status": "CREATING",
                "type": "PRIVATE",
                "creationTime": "2025-11-24T16:00:00.001000Z",
            },
        ]
    }


@pytest.mark.source("observed")
def test_names_match_exactly_and_need_not_be_unique(box: Box) -> None:
    wanted = [box.create_workflow(name="hello"), box.create_workflow(name="hello")]
    for name in ("Hello", "hello2", "ello"):
        box.create_workflow(name=name)
    assert [item["id"] for item in box.call("ListWorkflows", name="hello", type="PRIVATE")["items"]] == wanted
    assert box.call("ListWorkflows", name="hell") == {"items": []}


@pytest.mark.source("model")
def test_there_are_no_ready2run_workflows(box: Box) -> None:
    box.create_workflow()
    assert box.call("ListWorkflows", type="READY2RUN") == {"items": []}


# ---- UpdateWorkflow ----------------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_an_update_changes_what_it_names_and_is_done_when_answered(box: Box) -> None:
    workflow_id = box.registered_workflow(name="a", description="b", readmeMarkdown="c")
    before = box.call("GetWorkflow", id=workflow_id)
    assert box.call("UpdateWorkflow", id=workflow_id, name="n", storageType="DYNAMIC", storageCapacity=7) == {}
    assert box.call("GetWorkflow", id=workflow_id) == {
        **before,
        "name": "n",
        "storageType": "DYNAMIC",
        "storageCapacity": 7,
    }


def test_an_update_of_nothing_changes_nothing(box: Box) -> None:
    workflow_id = box.registered_workflow(name="a")
    before = box.call("GetWorkflow", id=workflow_id)
    box.call("UpdateWorkflow", id=workflow_id)
    assert box.call("GetWorkflow", id=workflow_id) == before


@pytest.mark.source("assumed")
def test_a_workflow_being_created_is_not_updated(box: Box) -> None:
    workflow_id = box.create_workflow()
    with pytest.raises(
        ConflictException, match=f"Workflow {workflow_id} is CREATING and cannot be changed: wait until"
    ):
        box.call("UpdateWorkflow", id=workflow_id, name="n")


def test_an_update_checks_the_readme_and_the_workflow(box: Box) -> None:
    workflow_id = box.registered_workflow()
    with pytest.raises(ValidationException, match="512001 bytes"):
        box.call("UpdateWorkflow", id=workflow_id, readmeMarkdown="x" * 512_001)
    with pytest.raises(ResourceNotFoundException, match="Workflow 7 not found"):
        box.call("UpdateWorkflow", id="7", name="n")
    with pytest.raises(ResourceNotFoundException):
        box.call("UpdateWorkflow", account=OTHER, id=workflow_id, name="n")


# ---- DeleteWorkflow ----------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
@pytest.mark.parametrize("files", [{"main.wdl": HELLO}, {"README.md": "no definition"}], ids=["ACTIVE", "FAILED"])
def test_a_deleted_workflow_is_gone(box: Box, files: dict[str, str]) -> None:
    workflow_id = box.registered_workflow(files)
    assert box.call("DeleteWorkflow", id=workflow_id) == {}
    assert box.call("ListWorkflows") == {"items": []}
    for operation in ("GetWorkflow", "DeleteWorkflow"):
        with pytest.raises(ResourceNotFoundException, match=f"Workflow {workflow_id} not found"):
            box.call(operation, id=workflow_id)


@pytest.mark.source("assumed")
def test_a_workflow_being_created_is_not_deleted(box: Box) -> None:
    workflow_id = box.create_workflow()
    with pytest.raises(
        ConflictException, match=f"Workflow {workflow_id} is CREATING and cannot be deleted: wait until"
    ):
        box.call("DeleteWorkflow", id=workflow_id)


@pytest.mark.source("guide")
def test_runs_keep_what_they_need_of_a_deleted_workflow(box: Box) -> None:
    workflow_id = box.registered_workflow(name="a")
    run_id = box.start_run(workflow_id)["id"]
    box.call("DeleteWorkflow", id=workflow_id)
    run = box.call("GetRun", id=run_id, export=["DEFINITION"])
    assert (run["workflowId"], run["digest"]) == (workflow_id, digest({"main.wdl": HELLO}))
    assert "definition" in run
    assert box.call("ListRuns")["items"][0]["workflowName"] == "a"


def test_another_accounts_workflow_cannot_be_deleted(box: Box) -> None:
    workflow_id = box.registered_workflow()
    with pytest.raises(ResourceNotFoundException):
        box.call("DeleteWorkflow", account=OTHER, id=workflow_id)
    assert box.call("GetWorkflow", id=workflow_id)["status"] == "ACTIVE"
