"""The rights each operation needs, and how a key's policy is asked for them: any request, of any JSON types."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.domain.policy import compiled, parse
from runomics.operations.access import TABLE, Authorizer, Named, ResourceFacts, rights
from runomics.operations.caller import Caller
from runomics.wire.errors import AccessDeniedException
from runomics.wire.model import ServiceModel

ACCOUNT = "123456789012"
ARN = f"arn:aws:omics:us-east-1:{ACCOUNT}:"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/runner"
USER = f"arn:aws:iam::{ACCOUNT}:user/lab/ana"
READ = ("Get", "List")
MODEL = ServiceModel.load()


def caller(principal_arn: str = USER) -> Caller:
    site: Any = SimpleNamespace(region="us-east-1")
    return Caller(ACCOUNT, principal_arn, "AKIA", "request-1", 0, site)


def authorizer(
    policy: Any,
    *,
    tags: Mapping[str, Mapping[str, str]] | None = None,
    workflows: Mapping[str, str] | None = None,
) -> Authorizer:
    facts = ResourceFacts(
        tags=lambda account, arn: (tags or {}).get(arn, {}),
        workflow_of_run=lambda account, run_id: (workflows or {}).get(run_id),
    )
    return Authorizer({"AKIA": policy if hasattr(policy, "decide") else parse(policy)}, facts)


def refusal(policy: Any, operation: str, request: Mapping[str, Any], **facts: Any) -> str | None:
    """What the caller is told, None when it may go on."""
    try:
        authorizer(policy, **facts)(caller(), operation, request)
    except AccessDeniedException as error:
        return error.message
    return None


def allow(action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def document(*statements: Mapping[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


@pytest.mark.source("model")
def test_every_operation_of_the_model_has_its_rights() -> None:
    assert set(TABLE) == set(MODEL.operations)


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("operation", "request_", "expected"),
    [
        ("ListRuns", {"status": "RUNNING"}, [("omics:ListRuns", "*")]),
        ("GetRun", {"id": "7"}, [("omics:GetRun", ARN + "run/7")]),
        (
            "GetRunTask",
            {"id": "7", "taskId": "9"},
            [("omics:GetRunTask", ARN + "task/9"), ("omics:GetRunTask", ARN + "run/7")],
        ),
        ("GetWorkflow", {"id": "7"}, [("omics:GetWorkflow", ARN + "workflow/7")]),
        (
            "GetWorkflow",
            {"id": "7", "workflowOwnerId": "210987654321"},
            [("omics:GetWorkflow", "arn:aws:omics:us-east-1:210987654321:workflow/7")],
        ),
        (
            "GetWorkflow",
            {"id": "7", "type": "READY2RUN"},
            [("omics:GetWorkflow", "arn:aws:omics:us-east-1::workflow/7")],
        ),
        (
            "UpdateWorkflowVersion",
            {"workflowId": "7", "versionName": "v1"},
            [
                ("omics:UpdateWorkflowVersion", ARN + "workflow/7"),
                ("omics:UpdateWorkflowVersion", ARN + "workflow/7/version/v1"),
            ],
        ),
        ("CreateRunGroup", {"tags": {}}, [("omics:CreateRunGroup", "*")]),
        (
            "CreateRunGroup",
            {"tags": {"a": "b"}},
            [("omics:CreateRunGroup", "*"), ("omics:TagResource", ARN + "runGroup/*")],
        ),
        (
            "CreateWorkflowVersion",
            {"workflowId": "7", "versionName": "v1", "tags": {"a": "b"}},
            [("omics:CreateWorkflowVersion", ARN + "workflow/7"), ("omics:TagResource", ARN + "workflow/7/version/v1")],
        ),
        ("TagResource", {"resourceArn": ARN + "run/7", "tags": {"a": "b"}}, [("omics:TagResource", ARN + "run/7")]),
        ("GetConfiguration", {"name": "vpc"}, [("omics:GetConfiguration", ARN + "configuration/vpc")]),
        ("AcceptShare", {"shareId": "x"}, [("omics:AcceptShare", "*")]),
        (
            "DeleteRunBatch",
            {"batchId": "5"},
            [("omics:DeleteRunBatch", ARN + "runBatch/5"), ("omics:DeleteRunBatch", ARN + "run/*")],
        ),
        (
            "StartRun",
            {"workflowId": "7", "runGroupId": "3", "cacheId": "4", "roleArn": ROLE, "tags": {"a": "b"}},
            [
                ("omics:StartRun", ARN + "run/*"),
                ("omics:StartRun", ARN + "workflow/7"),
                ("omics:StartRun", ARN + "runGroup/3"),
                ("omics:StartRun", ARN + "runCache/4"),
                ("omics:TagResource", ARN + "run/*"),
                ("iam:PassRole", ROLE),
            ],
        ),
        (
            "StartRunBatch",
            {"defaultRunSetting": {"workflowId": "7", "roleArn": ROLE, "runTags": {"a": "b"}}, "tags": {"c": "d"}},
            [
                ("omics:StartRunBatch", ARN + "runBatch/*"),
                ("omics:StartRunBatch", ARN + "run/*"),
                ("omics:StartRunBatch", ARN + "workflow/7"),
                ("omics:TagResource", ARN + "runBatch/*"),
                ("omics:StartRun", ARN + "runBatch/*"),
                ("omics:StartRun", ARN + "run/*"),
                ("omics:StartRun", ARN + "workflow/7"),
                ("omics:TagResource", ARN + "run/*"),
                ("iam:PassRole", ROLE),
            ],
        ),
    ],
)
def test_rights_are_those_of_the_authorization_reference(
    operation: str, request_: Mapping[str, Any], expected: list[tuple[str, str]]
) -> None:
    found = list(rights(operation, Named("us-east-1", ACCOUNT, request_)))
    assert [(right.action, right.resource) for right in found] == expected


@pytest.mark.source("guide")
def test_read_only_keys_read_and_no_more() -> None:
    policy = compiled("AmazonOmicsReadOnlyAccess")
    allowed = {operation for operation in TABLE if refusal(policy, operation, {}) is None}
    assert allowed == {operation for operation in TABLE if operation.startswith(READ)}


@pytest.mark.source("guide")
def test_full_access_is_enough_for_everything() -> None:
    policy = compiled("AmazonOmicsFullAccess")
    request = {"roleArn": ROLE, "tags": {"a": "b"}, "defaultRunSetting": {"roleArn": ROLE}}
    assert [operation for operation in TABLE if refusal(policy, operation, request) is not None] == []


@pytest.mark.source("guide")
def test_a_refusal_names_who_what_and_on_what() -> None:
    assert refusal(document(allow("omics:List*")), "GetRun", {"id": "7"}) == (
        f"User: {USER} is not authorized to perform: omics:GetRun on resource: {ARN}run/7 "
        "because no identity-based policy allows the omics:GetRun action"
    )
    denied = document(allow(), {"Effect": "Deny", "Action": "omics:*", "Resource": ARN + "run/*"})
    assert refusal(denied, "DeleteRun", {"id": "7"}) == (
        f"User: {USER} is not authorized to perform: omics:DeleteRun on resource: {ARN}run/7 "
        "with an explicit deny in an identity-based policy"
    )


@pytest.mark.source("guide")
def test_a_run_needs_the_right_to_pass_its_role() -> None:
    request = {"workflowId": "7", "roleArn": ROLE}
    passing = {"StringEquals": {"iam:PassedToService": "omics.amazonaws.com"}}
    without = document(allow("omics:*"))
    another = document(allow("omics:*"), allow("iam:PassRole", ROLE + "-2"))
    enough = document(allow("omics:*"), allow("iam:PassRole", ROLE, Condition=passing))
    assert [refusal(policy, "StartRun", request) for policy in (without, another, enough)] == [
        *[
            f"User: {USER} is not authorized to perform: iam:PassRole on resource: {ROLE} "
            "because no identity-based policy allows the iam:PassRole action"
        ]
        * 2,
        None,
    ]


@pytest.mark.source("guide")
def test_lists_of_an_account_are_not_allowed_by_an_arn() -> None:
    scoped = document(allow("omics:*", ARN + "*"))
    assert refusal(scoped, "ListRuns", {}) is not None
    assert refusal(scoped, "ListWorkflowVersions", {"workflowId": "7"}) is None


@pytest.mark.source("guide")
def test_both_arns_of_a_version_must_be_allowed() -> None:
    request = {"workflowId": "7", "versionName": "v1"}
    workflow, version = ARN + "workflow/7", ARN + "workflow/7/version/*"
    outcomes = [
        refusal(document(allow(resource=resource)), "GetWorkflowVersion", request) is None
        for resource in ([workflow], [version], [workflow, version])
    ]
    assert outcomes == [False, False, True]


@pytest.mark.source("guide")
def test_tags_of_the_request_are_conditions() -> None:
    only_prod = {
        "StringEquals": {"aws:RequestTag/stage": "prod"},
        "ForAllValues:StringEquals": {"aws:TagKeys": ["stage"]},
    }
    policy = document(allow("omics:CreateRunGroup"), allow("omics:TagResource", Condition=only_prod))
    requests = [{}, {"stage": "prod"}, {"stage": "dev"}, {"stage": "prod", "team": "x"}]
    outcomes = [refusal(policy, "CreateRunGroup", {"tags": tags}) is None for tags in requests]
    assert outcomes == [True, True, False, False]


@pytest.mark.source("guide")
def test_keys_that_are_taken_away_are_conditions() -> None:
    policy = document(
        allow("omics:UntagResource", Condition={"ForAllValues:StringNotEquals": {"aws:TagKeys": "stage"}})
    )
    outcomes = [
        refusal(policy, "UntagResource", {"resourceArn": ARN + "run/7", "tagKeys": keys}) is None
        for keys in (["team"], ["team", "stage"])
    ]
    assert outcomes == [True, False]


@pytest.mark.source("guide")
def test_tags_of_the_resource_are_conditions() -> None:
    policy = document(allow("omics:GetRun", Condition={"StringEquals": {"aws:ResourceTag/owner": "${aws:username}"}}))
    tags = {ARN + "run/7": {"Owner": "ana"}, ARN + "run/8": {"Owner": "ben"}}
    outcomes = [refusal(policy, "GetRun", {"id": run_id}, tags=tags) is None for run_id in ("7", "8", "9")]
    assert outcomes == [True, False, False]


@pytest.mark.source("assumed")
def test_whoever_repeats_a_run_needs_the_right_to_run_its_workflow() -> None:
    policy = document(allow("omics:StartRun", [ARN + "run/*", ARN + "workflow/7"]), allow("iam:PassRole", Condition={}))
    workflows = {"1": ARN + "workflow/7", "2": ARN + "workflow/8"}
    outcomes = [
        refusal(policy, "StartRun", {"runId": run_id, "roleArn": ROLE}, workflows=workflows) is None
        for run_id in ("1", "2", "3")
    ]
    assert outcomes == [True, False, True]


def test_a_key_without_a_policy_may_do_everything_and_is_asked_nothing() -> None:
    facts = ResourceFacts(tags=lambda *_: pytest.fail("asked"), workflow_of_run=lambda *_: pytest.fail("asked"))
    Authorizer({}, facts)(caller(), "StartRun", {"runId": "1"})


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = sorted(
    {
        member
        for operation in MODEL.operations.values()
        if operation.input_shape
        for member in MODEL.shapes[operation.input_shape].get("members", {})
    }
    | {"runTags"}
)
ASKING = document(
    allow("omics:Get*", Condition={"StringLike": {"aws:ResourceTag/a": "*"}}),
    allow("omics:StartRun*", [ARN + "run*"], Condition={"ForAnyValue:StringLike": {"aws:TagKeys": ["*"]}}),
)


@given(st.sampled_from(sorted(TABLE)), st.dictionaries(st.sampled_from(MEMBERS), ANYTHING, max_size=6))
def test_whatever_a_request_holds_it_is_allowed_or_denied(operation: str, request_: dict[str, Any]) -> None:
    message = refusal(ASKING, operation, request_)
    assert message is None or message.startswith(f"User: {USER} is not authorized to perform: ")


@given(st.sampled_from(sorted(TABLE)), st.dictionaries(st.sampled_from(MEMBERS), ANYTHING, max_size=6))
def test_whatever_a_request_holds_full_access_lets_it_through_to_validation(
    operation: str, request_: dict[str, Any]
) -> None:
    assert refusal(compiled("AmazonOmicsFullAccess"), operation, request_) is None
