"""StartRun: each rule of a request, what a repeated run takes over, and the same request again."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from server_in_a_box import ACCOUNT, HELLO, NOW_MS, OTHER, ROLE, Box

from runomics.domain.limits import Limits
from runomics.store.runs import find_run
from runomics.wire.errors import ApiError, ConflictException, ResourceNotFoundException, ValidationException

MINIMAL = {"roleArn": ROLE, "outputUri": "s3://bucket/out", "requestId": "r1"}


@pytest.fixture
def workflow_id(box: Box) -> str:
    identifier = box.registered_workflow(name="hello")
    box.woken.clear()
    return identifier


def refused(box: Box, workflow_id: str | None, error: type[ApiError], **request: Any) -> str:
    with pytest.raises(error) as caught:
        box.start_run(workflow_id, **request)
    assert box.call("ListRuns") == {"items": []}, "a refused request makes no run"
    return caught.value.message


# ---- a run is made -----------------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_a_run_begins_as_pending_and_is_left_to_the_scheduler(box: Box, workflow_id: str) -> None:
    started = box.call(
        "StartRun",
        workflowId=workflow_id,
        parameters={"reads": "s3://b/r"},
        tags={"a": "1"},
        networkingMode="RESTRICTED",
        **MINIMAL,
    )
    assert str(uuid.UUID(started.pop("uuid"))).count("-") == 4
    assert started == {
        "arn": f"arn:aws:omics:us-east-1:{ACCOUNT}:run/1000000",
        "id": "1000000",
        "status": "PENDING",
        "tags": {"a": "1"},
        "runOutputUri": "s3://bucket/out/1000000",
        "networkingMode": "RESTRICTED",
    }
    assert box.woken == [("pending", 1000000)]


@pytest.mark.source("guide")
def test_a_minimal_run_gets_the_defaults(box: Box, workflow_id: str) -> None:
    run_id = box.call("StartRun", workflowId=workflow_id, parameters={"reads": "s3://b/r"}, **MINIMAL)["id"]
    found = box.call("GetRun", id=run_id)
    row = box.workflow_row(workflow_id)
    assert len(found.pop("uuid")) == 36
    assert found == {
        "arn": f"arn:aws:omics:us-east-1:{ACCOUNT}:run/{run_id}",
        "id": run_id,
        "status": "PENDING",
        "workflowId": workflow_id,
        "workflowType": "PRIVATE",
        "workflowUuid": row.uuid,
        "roleArn": ROLE,
        "digest": f"sha256:{row.definition_sha256}",
        "storageType": "STATIC",
        "storageCapacity": 1200,
        "outputUri": "s3://bucket/out",
        "runOutputUri": f"s3://bucket/out/{run_id}",
        "outputUriPrefixMode": "SERVICE_DEFINED",
        "logLevel": "ALL",
        "retentionMode": "RETAIN",
        "startedBy": f"arn:aws:iam::{ACCOUNT}:user/ana",
        "creationTime": "2025-11-24T16:00:00.001000Z",
        "parameters": {"reads": "s3://b/r"},
        "tags": {},
    }


@pytest.mark.source("model")
def test_every_member_is_kept_and_comes_back(box: Box, workflow_id: str) -> None:
    given: dict[str, Any] = {
        "workflowType": "PRIVATE",
        "workflowOwnerId": ACCOUNT,
        "name": "morning run",
        "priority": 100_000,
        "parameters": {"reads": "s3://b/r", "name": None, "copies": 3},
        "storageType": "STATIC",
        "storageCapacity": 7,
        "outputUri": "s3://bucket/out//",
        "logLevel": "ERROR",
        "retentionMode": "REMOVE",
        "tags": {"a": "1"},
        "networkingMode": "RESTRICTED",
        "scratchStorageMode": "LOCAL",
        "sessionPolicy": '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}',
        "requesterPaysEnabled": True,
        "outputUriPrefixMode": "NONE_WITH_OVERWRITE",
    }
    run_id = box.start_run(workflow_id, **given)["id"]
    found = box.call("GetRun", id=run_id)
    assert {name: found.get(name) for name in given} == given
    assert found["runOutputUri"] == "s3://bucket/out"


@pytest.mark.source("guide")
def test_engine_settings_are_for_nextflow_alone(box: Box, workflow_id: str) -> None:
    run_id = box.start_run(workflow_id, engineSettings={"profile": "test"})["id"]
    assert "engineSettings" not in box.call("GetRun", id=run_id)
    box.set_workflow(workflow_id, engine="NEXTFLOW")
    run_id = box.start_run(workflow_id, engineSettings={"profile": "test"})["id"]
    assert box.call("GetRun", id=run_id)["engineSettings"] == {"profile": "test"}


def test_a_lenient_workflow_is_run_leniently(box: Box) -> None:
    workflow_id = box.registered_workflow(engine="WDL_LENIENT")
    assert box.call("GetWorkflow", id=workflow_id)["engine"] == "WDL_LENIENT"
    run_id = int(box.start_run(workflow_id)["id"])
    row = box.store.read(lambda tx: find_run(tx, ACCOUNT, run_id))
    assert row is not None
    assert row.engine == "WDL_LENIENT"
    assert box.definitions.interface(row.definition_sha256, row.engine, row.main) is not None


# ---- which workflow ----------------------------------------------------------------------------------------------


def test_a_workflow_or_a_run_is_needed(box: Box) -> None:
    assert "workflowId or runId is needed" in refused(box, None, ValidationException)


@pytest.mark.source("observed")
@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"workflowId": "7"}, "Workflow 7 not found. ListWorkflows lists yours"),
        ({"workflowId": "01000000"}, "Workflow 01000000 not found"),
        (
            {"workflowType": "READY2RUN"},
            "Workflow 1000000 not found. ListWorkflows lists yours; Ready2Run workflows need",
        ),
        ({"workflowOwnerId": OTHER}, f"It is not shared by account {OTHER}; leave workflowOwnerId out"),
        ({"workflowVersionName": "v2"}, "Version v2 of workflow 1000000 not found. Leave workflowVersionName out"),
        ({"account": OTHER}, "Workflow 1000000 not found"),
    ],
)
def test_a_workflow_that_cannot_be_seen_is_not_found(
    box: Box, workflow_id: str, request_: dict[str, Any], says: str
) -> None:
    assert says in refused(box, workflow_id, ResourceNotFoundException, **request_)


@pytest.mark.source("assumed")
def test_a_workflow_must_be_active(box: Box) -> None:
    creating = box.create_workflow()
    assert f"Workflow {creating} is CREATING and cannot be run: wait until" in refused(box, creating, ConflictException)
    failed = box.registered_workflow({"README.md": ""})
    assert f"Workflow {failed} is FAILED and cannot be run: look at its statusMessage" in refused(
        box, failed, ConflictException
    )


# ---- combinations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        ({"cacheBehavior": "CACHE_ALWAYS"}, ValidationException, "cacheBehavior needs cacheId"),
        ({"networkingMode": "VPC"}, ValidationException, "networkingMode VPC needs configurationName"),
        (
            {"workflowType": "READY2RUN", "storageCapacity": 1},
            ValidationException,
            "Ready2Run workflow 1000000 has its own storage",
        ),
        (
            {"workflowType": "READY2RUN", "storageType": "STATIC"},
            ValidationException,
            "leave storageCapacity and storageType out",
        ),
        (
            {"workflowType": "READY2RUN", "cacheId": "1"},
            ValidationException,
            "cannot use a run cache: leave cacheId out",
        ),
        (
            {"workflowType": "READY2RUN", "runGroupId": "1"},
            ValidationException,
            "cannot run in a run group: leave runGroupId out",
        ),
        ({"parametersUri": "s3://bucket/p.json"}, ValidationException, "parameters and parametersUri were both given"),
        ({"outputUri": "bucket/out"}, ValidationException, "outputUri: 'bucket/out' is not an S3 URI"),
        ({"outputUri": "s3://Bad_Bucket/out"}, ValidationException, "'Bad_Bucket' is not 3-63"),
        ({"tags": {"aws:x": "1"}}, ValidationException, "may not begin with 'aws:'"),
        ({"tags": {str(n): "" for n in range(51)}}, ValidationException, "51 tags were given"),
        ({"runGroupId": "12"}, ResourceNotFoundException, "Run group 12 not found. ListRunGroups lists"),
        ({"cacheId": "12"}, ResourceNotFoundException, "Run cache 12 not found. ListRunCaches lists"),
        ({"cacheId": "12", "cacheBehavior": "CACHE_ALWAYS"}, ResourceNotFoundException, "Run cache 12 not found"),
        (
            {"configurationName": "c"},
            ResourceNotFoundException,
            "Configuration c not found. ListConfigurations lists",
        ),
        ({"networkingMode": "VPC", "configurationName": "c"}, ResourceNotFoundException, "Configuration c not found"),
    ],
)
def test_combinations_that_cannot_be_served_say_what_to_do(
    box: Box, workflow_id: str, request_: dict[str, Any], error: type[ApiError], says: str
) -> None:
    assert says in refused(box, workflow_id, error, **request_)


# ---- parameters --------------------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_parameters_are_checked_against_the_template_both_ways(box: Box, workflow_id: str) -> None:
    message = refused(box, workflow_id, ValidationException, parameters={"colour": 1, "name": "x"})
    assert message == (
        f"The parameters do not fit the parameter template of workflow {workflow_id}. Missing required parameters: reads. "
        "Parameters that the template does not define: colour. GetWorkflow shows the template."
    )


@pytest.mark.source("guide")
def test_parameters_may_be_qualified_with_the_workflows_name(box: Box, workflow_id: str) -> None:
    given = {"Hello.reads": "s3://b/r", "name": "x"}
    run_id = box.start_run(workflow_id, parameters=given)["id"]
    assert box.call("GetRun", id=run_id)["parameters"] == given
    with pytest.raises(ValidationException, match=r"does not define: Other\.reads"):
        box.start_run(workflow_id, parameters={"reads": "s3://b/r", "Other.reads": "s3://b/r"})


def test_a_template_given_with_the_workflow_is_the_one_that_counts(box: Box) -> None:
    workflow_id = box.registered_workflow(
        parameterTemplate={"Hello.reads": {"optional": True}, "extra": {"description": "x"}}
    )
    assert box.start_run(workflow_id, parameters={"extra": 1, "reads": "s3://b/r"})["status"] == "PENDING"
    with pytest.raises(
        ValidationException, match=r"Missing required parameters: extra\. Parameters that .* not define: name"
    ):
        box.start_run(workflow_id, parameters={"name": "x"})


def test_a_workflow_without_required_parameters_needs_none(box: Box) -> None:
    workflow_id = box.registered_workflow({"main.wdl": "version 1.0\nworkflow w { input { Int n = 1 } }\n"})
    run_id = box.call("StartRun", workflowId=workflow_id, **MINIMAL)["id"]
    assert "parameters" not in box.call("GetRun", id=run_id)


@pytest.mark.parametrize("parameters", [[], ["reads"], "reads", 7, True])
def test_parameters_are_an_object(box: Box, workflow_id: str, parameters: Any) -> None:
    assert "must be a JSON object" in refused(box, workflow_id, ValidationException, parameters=parameters)


def test_parameters_pass_unchanged(box: Box, workflow_id: str) -> None:
    given = {"reads": "s3://b/ü\u2028", "name": {"a": [1, 2.5, None, {"b": True}]}, "copies": 9007199254740993}
    run_id = box.start_run(workflow_id, parameters=given)["id"]
    assert box.call("GetRun", id=run_id)["parameters"] == given


@pytest.mark.source("guide")
def test_parameters_have_a_size_limit(tmp_path: Path) -> None:
    small = Box(tmp_path, limits=Limits(parameters_bytes=100))
    try:
        workflow_id = small.registered_workflow()
        fits = {"reads": "x" * (100 - len('{"reads":""}'))}
        assert small.start_run(workflow_id, parameters=fits)["status"] == "PENDING"
        with pytest.raises(
            ValidationException, match=r"101 bytes of JSON; the limit is 100\. Pass them as a file with parametersUri"
        ):
            small.start_run(workflow_id, parameters={"reads": fits["reads"] + "x"})
    finally:
        small.close()


@pytest.mark.source("model")
def test_parameters_in_a_file_are_read_later(box: Box, workflow_id: str) -> None:
    run_id = box.call("StartRun", workflowId=workflow_id, parametersUri="s3://bucket/p.json", **MINIMAL)["id"]
    found = box.call("GetRun", id=run_id)
    assert found["parametersUri"] == "s3://bucket/p.json"
    assert "parameters" not in found


# ---- storage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workflow", "request_", "shown"),
    [
        ({}, {}, ("STATIC", 1200)),
        ({"storageType": "STATIC", "storageCapacity": 50}, {}, ("STATIC", 50)),
        ({"storageType": "DYNAMIC"}, {}, ("DYNAMIC", None)),
        ({"storageType": "DYNAMIC"}, {"storageType": "STATIC"}, ("STATIC", 1200)),
        ({}, {"storageType": "DYNAMIC", "storageCapacity": 9}, ("DYNAMIC", None)),
        ({"storageCapacity": 50}, {"storageCapacity": 10}, ("STATIC", 10)),
    ],
)
def test_storage_comes_from_request_then_workflow_then_setting(
    box: Box, workflow: dict[str, Any], request_: dict[str, Any], shown: tuple[str, int | None]
) -> None:
    run_id = box.start_run(box.registered_workflow(**workflow), **request_)["id"]
    found = box.call("GetRun", id=run_id)
    assert (found["storageType"], found.get("storageCapacity")) == shown


def test_the_server_may_prefer_dynamic_storage(box: Box, workflow_id: str) -> None:
    box.with_site(default_storage_type="DYNAMIC", default_static_capacity_gib=5)
    assert "storageCapacity" not in box.call("GetRun", id=box.start_run(workflow_id)["id"])
    run_id = box.start_run(workflow_id, storageType="STATIC")["id"]
    assert box.call("GetRun", id=run_id)["storageCapacity"] == 5


# ---- repeating a run ---------------------------------------------------------------------------------------------


FULL: dict[str, Any] = {
    "name": "first",
    "priority": 3,
    "parameters": {"reads": "s3://b/r", "name": "x"},
    "storageType": "STATIC",
    "storageCapacity": 7,
    "logLevel": "ERROR",
    "retentionMode": "REMOVE",
    "scratchStorageMode": "LOCAL",
    "requesterPaysEnabled": True,
    "outputUriPrefixMode": "NONE_WITH_OVERWRITE",
    "sessionPolicy": '{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}',
    "networkingMode": "RESTRICTED",
}
SHOWN = (*FULL, "workflowId", "workflowType", "digest")


@pytest.mark.source("guide")
def test_a_repeated_run_takes_over_everything_but_its_tags(box: Box, workflow_id: str) -> None:
    source = box.call("GetRun", id=box.start_run(workflow_id, tags={"a": "1"}, **FULL)["id"])
    repeat = box.call("GetRun", id=box.start_run(None, runId=source["id"], outputUri="s3://bucket/again")["id"])
    assert {name: repeat[name] for name in SHOWN} == {name: source[name] for name in SHOWN}
    assert (repeat["runId"], repeat["tags"], repeat["outputUri"]) == (source["id"], {}, "s3://bucket/again")
    assert repeat["id"] != source["id"]
    assert repeat["uuid"] != source["uuid"]


@pytest.mark.source("guide")
def test_each_value_taken_over_may_be_given_anew(box: Box, workflow_id: str) -> None:
    source_id = box.start_run(workflow_id, **FULL)["id"]
    anew: dict[str, Any] = {
        "name": "second",
        "priority": 0,
        "parameters": {"reads": "s3://b/other"},
        "storageCapacity": 8,
        "logLevel": "ALL",
        "retentionMode": "RETAIN",
        "scratchStorageMode": "SHARED",
        "requesterPaysEnabled": False,
        "outputUriPrefixMode": "SERVICE_DEFINED",
        "sessionPolicy": '{"Statement": {"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}}',
        "tags": {"b": "2"},
    }
    found = box.call("GetRun", id=box.start_run(None, runId=source_id, **anew)["id"])
    assert {name: found[name] for name in anew} == anew
    assert found["storageType"] == "STATIC"


def test_storage_of_another_type_does_not_take_over_the_size(box: Box, workflow_id: str) -> None:
    source_id = box.start_run(workflow_id, storageType="STATIC", storageCapacity=7)["id"]
    dynamic_id = box.start_run(None, runId=source_id, storageType="DYNAMIC")["id"]
    assert "storageCapacity" not in box.call("GetRun", id=dynamic_id)
    static_id = box.start_run(None, runId=dynamic_id, storageType="STATIC")["id"]
    assert box.call("GetRun", id=static_id)["storageCapacity"] == 1200


def test_parameters_and_their_file_replace_each_other(box: Box, workflow_id: str) -> None:
    source_id = box.start_run(workflow_id)["id"]
    by_file = box.call("GetRun", id=box.start_run(None, runId=source_id, parametersUri="s3://bucket/p.json")["id"])
    assert ("parametersUri" in by_file, "parameters" in by_file) == (True, False)
    repeat = box.call("GetRun", id=box.start_run(None, runId=by_file["id"])["id"])
    assert repeat["parametersUri"] == "s3://bucket/p.json"
    inline = box.call("GetRun", id=box.start_run(None, runId=by_file["id"], parameters={"reads": "s3://b/r"})["id"])
    assert ("parametersUri" in inline, "parameters" in inline) == (False, True)


def test_another_workflow_may_be_run_with_the_values_of_a_run(box: Box, workflow_id: str) -> None:
    other_id = box.registered_workflow({"main.wdl": HELLO.replace("workflow Hello", "workflow Bye")})
    source_id = box.start_run(workflow_id)["id"]
    found = box.call("GetRun", id=box.start_run(None, runId=source_id, workflowId=other_id)["id"])
    assert (found["workflowId"], found["runId"]) == (other_id, source_id)


def test_a_run_to_repeat_must_be_the_callers_and_its_workflow_still_there(box: Box, workflow_id: str) -> None:
    source_id = box.start_run(workflow_id)["id"]
    for request in ({"runId": "7"}, {"runId": source_id, "account": OTHER}):
        with pytest.raises(
            ResourceNotFoundException, match=f"Run {request['runId']} not found. ListRuns lists the runs of account"
        ):
            box.start_run(None, **request)
    box.call("DeleteWorkflow", id=workflow_id)
    with pytest.raises(ResourceNotFoundException, match=f"Workflow {workflow_id} not found"):
        box.start_run(None, runId=source_id)


# ---- the same request again --------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_the_same_token_and_request_make_one_run(box: Box, workflow_id: str) -> None:
    request = {
        "workflowId": workflow_id,
        "parameters": {"reads": "s3://b/r", "name": "x"},
        "tags": {"b": "1", "a": "2"},
        **MINIMAL,
    }
    first = box.call("StartRun", **request)
    box.set_run(first["id"], status="RUNNING", phase="executing", started_ms=NOW_MS)
    box.reopen()
    box.now_ms += 29 * 86_400_000
    again = box.call("StartRun", **{**request, "parameters": {"name": "x", "reads": "s3://b/r"}})
    assert again == first
    assert list(again["tags"]) == ["b", "a"]
    assert len(box.call("ListRuns")["items"]) == 1


@pytest.mark.source("assumed")
@pytest.mark.parametrize(
    "change",
    [{"name": "n"}, {"parameters": {"reads": "s3://b/other"}}, {"outputUri": "s3://bucket/out2"}, {"priority": 0}],
)
def test_the_same_token_with_another_request_is_a_conflict(box: Box, workflow_id: str, change: dict[str, Any]) -> None:
    request = {"workflowId": workflow_id, "parameters": {"reads": "s3://b/r"}, **MINIMAL}
    box.call("StartRun", **request)
    with pytest.raises(ConflictException, match="requestId 'r1' was used for another StartRun request"):
        box.call("StartRun", **{**request, **change})
    assert len(box.call("ListRuns")["items"]) == 1


def test_a_failed_request_leaves_its_token_free(box: Box, workflow_id: str) -> None:
    with pytest.raises(ValidationException):
        box.call("StartRun", workflowId=workflow_id, **MINIMAL)
    started = box.call("StartRun", workflowId=workflow_id, parameters={"reads": "s3://b/r"}, **MINIMAL)
    assert [item["id"] for item in box.call("ListRuns")["items"]] == [started["id"]]


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_a_failed_request_uses_no_id_where_ids_are_counted_in_a_row(box: Box, workflow_id: str) -> None:
    with pytest.raises(ValidationException):
        box.call("StartRun", workflowId=workflow_id, **MINIMAL)
    assert box.call("StartRun", workflowId=workflow_id, parameters={"reads": "s3://b/r"}, **MINIMAL)["id"] == "1000000"


def test_a_token_belongs_to_its_operation_and_account(box: Box, workflow_id: str) -> None:
    request = {"parameters": {"reads": "s3://b/r"}, **MINIMAL, "requestId": "create-1"}
    assert box.call("StartRun", workflowId=workflow_id, **request)["status"] == "PENDING"
    other = box.registered_workflow(account=OTHER)
    assert box.call("StartRun", account=OTHER, workflowId=other, **request)["id"] == "1000001"


@pytest.mark.source("assumed")
@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("{}", "sessionPolicy: The policy: Statement must be a statement or a list of at least one."),
        ("x", "sessionPolicy: The policy: it is not JSON"),
        ('{"Statement": {"Effect": "Allow", "Action": "s3:*"}}', "exactly one of Resource and NotResource is needed"),
    ],
)
def test_a_session_policy_that_is_none_is_refused(box: Box, workflow_id: str, policy: str, says: str) -> None:
    assert says in refused(box, workflow_id, ValidationException, sessionPolicy=policy)
