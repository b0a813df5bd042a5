"""A status change as Amazon EventBridge would deliver it: one JSON document, built when it is sent. Server process; pure.

The id is the same for every delivery of one change, so that a receiver can tell a repeat.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from runomics.domain import identity
from runomics.domain.event import StatusEvent

_NAMESPACE = uuid.UUID("6f0ad2c9-52a7-4d0f-9a53-3ce6b1a3e7c4")
_RUN = ("uuid", "runId", "runName", "runOutputUri", "workflowId", "workflowName")
_TASK = ("runArn", "runUuid", "runId", "runName", "workflowId", "workflowName")


def document(event: StatusEvent, *, region: str) -> dict[str, Any]:
    """The event. What is not known of the resource any more is left out.

    Source: guide, eventbridge (envelope, run, task and share); guide, workflows-batch (batches); observed (workflowUuid and
    workflowVersionName of workflows); assumed (the rest of what is told of a share).

    Deviation: ids are version 5 UUIDs, the same however often an event is delivered; AWS's are of version 4.
    Deviation: events are delivered at least once and in order for each resource; AWS promises its best effort.
    """
    detail_type, arn_and_more = _SHAPES[event.kind]
    arn, more = arn_and_more(event, region)
    return {
        "version": "0",
        "id": str(_id(event, region)),
        "detail-type": detail_type,
        "source": "aws.omics",
        "account": event.account,
        "time": datetime.fromtimestamp(event.at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [arn],
        "detail": {"omicsVersion": "1.0.0", "arn": arn, "status": event.status, **more},
    }


def encoded(event: StatusEvent, *, region: str) -> tuple[str, bytes]:
    """The event's id and the document as JSON."""
    made = document(event, region=region)
    return made["id"], orjson.dumps(made)


# ---- kinds of resources ------------------------------------------------------------------------------------------


def _run(event: StatusEvent, region: str) -> tuple[str, dict[str, Any]]:
    known = {**event.detail, "runId": event.resource_id}
    return identity.run_arn(region, event.account, int(event.resource_id)), _chosen(known, _RUN)


def _task(event: StatusEvent, region: str) -> tuple[str, dict[str, Any]]:
    run_arn = identity.run_arn(region, event.account, int(event.detail["runId"]))
    known = {**event.detail, "runArn": run_arn}
    return identity.task_arn(region, event.account, int(event.resource_id)), _chosen(known, _TASK)


def _batch(event: StatusEvent, region: str) -> tuple[str, dict[str, Any]]:
    """The batch's own row says everything; counters are texts."""
    known = dict(event.detail)
    version_name, cache_id = known.pop("workflowVersionName", None), known.pop("cacheId", None)
    told = {name: value if isinstance(value, str) else str(value) for name, value in known.items()}
    owner, workflow_id = known.get("workflowOwnerId", event.account), int(known["workflowId"])
    told["workflowArn"] = identity.workflow_arn(region, owner, workflow_id)
    if version_name is not None:
        told["workflowVersionArn"] = identity.version_arn(region, owner, workflow_id, version_name)
    if cache_id is not None:
        told["runCache"] = f"{identity.arn_prefix(region, event.account, 'runCache')}{cache_id}"
    arn = identity.batch_arn(region, event.account, int(event.resource_id))
    return arn, {"batchId": event.resource_id, **told}


def _workflow(event: StatusEvent, region: str) -> tuple[str, dict[str, Any]]:
    arn = identity.workflow_arn(region, event.account, int(event.resource_id))
    return arn, {"workflowUuid": event.detail["uuid"]}


def _version(event: StatusEvent, region: str) -> tuple[str, dict[str, Any]]:
    name = event.detail["workflowVersionName"]
    arn = identity.version_arn(region, event.account, int(event.detail["workflowId"]), name)
    return arn, {"workflowUuid": event.detail["uuid"], "workflowVersionName": name}


def _share(event: StatusEvent, region: str) -> tuple[str, dict[str, Any]]:
    """The resource is the workflow that is shared, for the owner and for the subscriber."""
    known = {name: value for name, value in event.detail.items() if name != "resourceArn"}
    return event.detail["resourceArn"], known


_SHAPES: Mapping[str, tuple[str, Callable[[StatusEvent, str], tuple[str, dict[str, Any]]]]] = {
    "run": ("Run Status Change", _run),
    "task": ("Task Status Change", _task),
    "run-batch": ("RunBatch Status Change", _batch),
    "workflow": ("Workflow Status Change", _workflow),
    "workflow-version": ("Workflow Status Change", _version),
    "share": ("Workflow Share Status Change", _share),
}


def _chosen(known: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: known[name] for name in names if name in known}


def _id(event: StatusEvent, region: str) -> uuid.UUID:
    """Account, resource and revision name a change in one server; the time and the resource's uuid do so among servers."""
    name = (region, event.account, event.kind, event.resource_id, event.seq, event.at_ms, event.detail.get("uuid"))
    return uuid.uuid5(_NAMESPACE, "/".join(map(str, name)))
