"""The documents that receivers get: EventBridge's envelope, and for each kind of resource the members AWS tells."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from runomics.domain.event import TOPICS, StatusEvent, Topic, Webhook
from runomics.events.event import _SHAPES, document, encoded

RUN = StatusEvent(
    id=7,
    account="123456789012",
    kind="run",
    resource_id="2101313",
    status="COMPLETED",
    seq=6,
    at_ms=1_666_303_655_999,
    detail={
        "uuid": "153893cd-097a-40ec-aec7-838a97cd2b21",
        "runName": "run name",
        "runOutputUri": "s3://amzn-s3-demo-bucket/run-output/2101313",
        "workflowId": "1234567",
        "workflowName": "workflow name",
        "failureReason": "not told by AWS",
    },
)


def told(event: StatusEvent) -> dict[str, Any]:
    return document(event, region="us-west-2")


@pytest.mark.source("guide")
def test_a_run_is_told_as_the_guide_shows_it() -> None:
    made = told(RUN)
    assert uuid.UUID(made.pop("id")).version == 5
    assert made == {
        "version": "0",
        "detail-type": "Run Status Change",
        "source": "aws.omics",
        "account": "123456789012",
        "time": "2022-10-20T22:07:35Z",
        "region": "us-west-2",
        "resources": ["arn:aws:omics:us-west-2:123456789012:run/2101313"],
        "detail": {
            "omicsVersion": "1.0.0",
            "arn": "arn:aws:omics:us-west-2:123456789012:run/2101313",
            "status": "COMPLETED",
            "uuid": "153893cd-097a-40ec-aec7-838a97cd2b21",
            "runId": "2101313",
            "runName": "run name",
            "runOutputUri": "s3://amzn-s3-demo-bucket/run-output/2101313",
            "workflowId": "1234567",
            "workflowName": "workflow name",
        },
    }


@pytest.mark.source("guide")
def test_a_task_is_told_with_its_run() -> None:
    detail = {
        "uuid": "the task's",
        "name": "bwa",
        "runUuid": "153893cd-097a-40ec-aec7-838a97cd2b21",
        "runId": "1234567",
        "runName": "run name",
        "runOutputUri": "s3://b/o",
        "workflowId": "1234567",
        "workflowName": "workflow name",
    }
    made = told(replace(RUN, kind="task", resource_id="8888888", detail=detail))
    assert (made["detail-type"], made["resources"]) == (
        "Task Status Change",
        ["arn:aws:omics:us-west-2:123456789012:task/8888888"],
    )
    assert made["detail"] == {
        "omicsVersion": "1.0.0",
        "arn": "arn:aws:omics:us-west-2:123456789012:task/8888888",
        "status": "COMPLETED",
        "runArn": "arn:aws:omics:us-west-2:123456789012:run/1234567",
        "runUuid": "153893cd-097a-40ec-aec7-838a97cd2b21",
        "runId": "1234567",
        "runName": "run name",
        "workflowId": "1234567",
        "workflowName": "workflow name",
    }


@pytest.mark.source("guide")
def test_counters_of_a_batch_are_texts() -> None:
    detail = {"uuid": "u", "batchName": "b", "totalRuns": 12, "pendingRunCount": 3, "workflowId": "5"}
    made = told(replace(RUN, kind="run-batch", resource_id="4", status="INPROGRESS", detail=detail))
    assert (made["detail-type"], made["resources"]) == (
        "RunBatch Status Change",
        ["arn:aws:omics:us-west-2:123456789012:runBatch/4"],
    )
    assert made["detail"] == {
        "omicsVersion": "1.0.0",
        "arn": "arn:aws:omics:us-west-2:123456789012:runBatch/4",
        "status": "INPROGRESS",
        "batchId": "4",
        "uuid": "u",
        "batchName": "b",
        "totalRuns": "12",
        "pendingRunCount": "3",
        "workflowId": "5",
        "workflowArn": "arn:aws:omics:us-west-2:123456789012:workflow/5",
    }


@pytest.mark.source("guide")
def test_a_batch_tells_the_arns_of_what_its_runs_use() -> None:
    detail = {"uuid": "u", "workflowId": "5", "workflowOwnerId": "210987654321", "runCacheBehavior": "CACHE_ALWAYS"}
    uses = {"workflowVersionName": "v1", "cacheId": "9"}
    made = told(replace(RUN, kind="run-batch", resource_id="4", status="CREATING", detail=detail | uses))
    assert made["detail"] == {
        "omicsVersion": "1.0.0",
        "arn": "arn:aws:omics:us-west-2:123456789012:runBatch/4",
        "status": "CREATING",
        "batchId": "4",
        **detail,
        "workflowArn": "arn:aws:omics:us-west-2:210987654321:workflow/5",
        "workflowVersionArn": "arn:aws:omics:us-west-2:210987654321:workflow/5/version/v1",
        "runCache": "arn:aws:omics:us-west-2:123456789012:runCache/9",
    }


@pytest.mark.source("observed")
def test_a_workflow_and_its_version_are_told_by_their_own_arns() -> None:
    workflow = told(replace(RUN, kind="workflow", resource_id="5", status="FAILED", detail={"uuid": "w"}))
    detail = {"uuid": "v", "workflowId": "5", "workflowVersionName": "v1"}
    version = told(replace(RUN, kind="workflow-version", resource_id="77", status="ACTIVE", detail=detail))
    assert {workflow["detail-type"], version["detail-type"]} == {"Workflow Status Change"}
    assert [made["detail"] for made in (workflow, version)] == [
        {
            "omicsVersion": "1.0.0",
            "arn": "arn:aws:omics:us-west-2:123456789012:workflow/5",
            "status": "FAILED",
            "workflowUuid": "w",
        },
        {
            "omicsVersion": "1.0.0",
            "arn": "arn:aws:omics:us-west-2:123456789012:workflow/5/version/v1",
            "status": "ACTIVE",
            "workflowUuid": "v",
            "workflowVersionName": "v1",
        },
    ]


@pytest.mark.source("guide", "assumed")
def test_a_share_is_told_to_each_side_with_the_workflow_as_its_resource() -> None:
    arn = "arn:aws:omics:us-west-2:123456789012:workflow/5"
    detail = {"shareId": "s-1", "shareName": "n", "resourceArn": arn, "ownerId": "123456789012"}
    made = told(replace(RUN, account="210987654321", kind="share", resource_id="9", status="PENDING", detail=detail))
    assert (made["detail-type"], made["account"], made["resources"]) == (
        "Workflow Share Status Change",
        "210987654321",
        [arn],
    )
    assert made["detail"] == {
        "omicsVersion": "1.0.0",
        "arn": arn,
        "status": "PENDING",
        "shareId": "s-1",
        "shareName": "n",
        "ownerId": "123456789012",
    }


def test_an_id_is_the_same_for_each_delivery_and_no_other_change_has_it() -> None:
    again = replace(RUN, id=8, tries=3)
    others = [
        replace(RUN, account="210987654321"),
        replace(RUN, kind="workflow"),
        replace(RUN, resource_id="2101314"),
        replace(RUN, seq=7),
        replace(RUN, at_ms=RUN.at_ms + 1),
        replace(RUN, detail={**RUN.detail, "uuid": "another server's"}),
    ]
    ids = [encoded(event, region="us-west-2")[0] for event in (RUN, *others)]
    assert encoded(again, region="us-west-2")[0] == ids[0]
    assert len(set(ids)) == len(ids)


def test_every_kind_that_belongs_to_a_topic_has_a_shape() -> None:
    assert set(_SHAPES) == set(TOPICS)
    assert set(TOPICS.values()) == set(Topic)


@pytest.mark.parametrize(
    ("account", "kind", "at_ms", "is_wanted"),
    [
        ("1", "run", 100, True),
        ("1", "run", 99, False),
        ("2", "run", 100, False),
        ("1", "task", 100, False),
        ("1", "workflow-version", 100, True),
        ("1", "run-group", 100, False),
    ],
)
def test_a_webhook_wants_its_topics_of_its_account_since_it_was_added(
    account: str, kind: str, at_ms: int, is_wanted: bool
) -> None:
    hook = Webhook(1, "http://h/", "1", frozenset({Topic.RUN, Topic.WORKFLOW}), "s", 100)
    assert hook.wants(account=account, kind=kind, at_ms=at_ms) is is_wanted
    assert "secret" not in repr(hook)
