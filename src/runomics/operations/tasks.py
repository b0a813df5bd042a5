"""The operations on tasks: list those of a run, look at one. Server process, one transaction each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runomics.domain import identity
from runomics.domain.task import TaskStatus
from runomics.operations import pages
from runomics.operations.caller import Caller
from runomics.operations.moments import moment
from runomics.operations.runs import found as found_run
from runomics.store import tasks
from runomics.store.database import Tx
from runomics.wire.errors import ResourceNotFoundException

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import GetRunTaskRequestTypeDef, ListRunTasksRequestTypeDef


def list_run_tasks(tx: Tx, caller: Caller, request: ListRunTasksRequestTypeDef) -> dict[str, Any]:
    """A run's tasks in the order of their making; a retry is a task of its own.

    Source: model; assumed (order, 100 a page).
    """
    run = found_run(tx, caller, request["id"])
    rows, next_after_id = tasks.list_tasks(
        tx,
        caller.account,
        run.id,
        after_id=pages.start(caller, "ListRunTasks", request),
        limit=pages.size(request),
        status=request.get("status"),
    )
    return pages.page(caller, "ListRunTasks", request, items=[_item(row) for row in rows], next_after_id=next_after_id)


def get_run_task(tx: Tx, caller: Caller, request: GetRunTaskRequestTypeDef) -> dict[str, Any]:
    """A task, with its log stream once the command has printed anything, and its image.

    Source: model; guide, workflow-run-tasks (cpus and memory are what was asked for, rounded).
    Deviation: while PENDING, statusMessage says what the task waits for.
    """
    run = found_run(tx, caller, request["id"])
    number = identity.number(request["taskId"])
    row = None if number is None else tasks.find_task(tx, caller.account, run.id, number)
    if row is None:
        raise ResourceNotFoundException(
            f"Task {request['taskId']} of run {run.id} not found. ListRunTasks lists the run's tasks."
        )
    answer = _item(row)
    message = caller.site.task_waiting_reason(row) if row.status == TaskStatus.PENDING else row.status_message
    if message is not None:
        answer["statusMessage"] = message
    if row.failure_reason is not None:
        answer["failureReason"] = row.failure_reason
    if row.has_log:
        stream = identity.task_stream(run.id, row.id)
        answer["logStream"] = identity.log_stream_arn(caller.site.region, caller.account, stream)
    image = {"image": row.image, "imageDigest": row.image_digest, "sourceImage": row.source_image}
    if any(image.values()):
        answer["imageDetails"] = {name: value for name, value in image.items() if value is not None}
    return answer


def _item(row: tasks.TaskRow) -> dict[str, Any]:
    item: dict[str, Any] = {
        "taskId": str(row.id),
        "uuid": row.uuid,
        "status": str(row.status),
        "name": row.name,
        "cpus": row.cpus,
        "memory": row.memory_gib,
        "gpus": row.gpus,
        "creationTime": moment(row.created_ms),
    }
    if row.instance_type is not None:
        item["instanceType"] = row.instance_type
    if row.cache_hit:
        item["cacheHit"] = True
    if row.cache_s3_uri is not None:
        item["cacheS3Uri"] = row.cache_s3_uri
    if row.started_ms is not None:
        item["startTime"] = moment(row.started_ms)
    if row.stopped_ms is not None:
        item["stopTime"] = moment(row.stopped_ms)
    return item
