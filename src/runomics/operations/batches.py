"""The operations on batches of runs: start, look, list, cancel, delete the runs, delete the batch. Server process.

What is asked of a batch is written down; the scheduler does it.
Deviation: outputBucketOwnerId is kept and answered, and not checked.
Deviation: runs of a batch are submitted as fast as the server can without holding up others, not at the rate of StartRun.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import orjson

from runomics.domain import batch as life
from runomics.domain import identity
from runomics.domain.batch import BatchEvent, BatchStatus
from runomics.operations import idempotency, pages, run_request
from runomics.operations.caller import Caller
from runomics.operations.moments import moment
from runomics.operations.run_request import check_s3_uri, check_tags
from runomics.operations.runs import look_up
from runomics.ports import ObjectForbidden, ObjectMissing
from runomics.store import batch_runs, batches
from runomics.store.batches import BatchRow
from runomics.store.database import Tx, next_id
from runomics.wire.errors import (
    AccessDeniedException,
    ApiError,
    ConflictException,
    ResourceNotFoundException,
    ValidationException,
)

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import (
        CancelRunBatchRequestTypeDef,
        DeleteBatchRequestTypeDef,
        DeleteRunBatchRequestTypeDef,
        GetBatchRequestTypeDef,
        ListBatchRequestTypeDef,
        ListRunsInBatchRequestTypeDef,
    )

_OPERATION = "StartRunBatch"
_SETTINGS_ETAG = "settingsEtag"
_SETTINGS_ERROR = "settingsError"


def found(tx: Tx, caller: Caller, batch_id: str) -> BatchRow:
    """The caller's batch.

    Raises:
        ResourceNotFoundException: no such batch, deleted, or of another account: the same text for all.
    """
    number = identity.number(batch_id)
    row = None if number is None else batches.find_batch(tx, caller.account, number)
    if row is None:
        raise ResourceNotFoundException(
            f"Batch {batch_id} not found. ListBatch lists the batches of account {caller.account}."
        )
    return row


# ---- StartRunBatch -----------------------------------------------------------------------------------------------


def find_settings(caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
    """Before the transaction, on a pool thread: look at the file of settings. The request comes back with its ETag, or with why not.

    Source: guide, workflows-batch (access is checked and the ETag recorded before the answer).
    """
    uri = request["batchRunSettings"].get("s3UriSettings")
    if uri is None:
        return dict(request)
    try:
        check_s3_uri("s3UriSettings", uri)
        info = caller.site.objects_as(caller.account, request["defaultRunSetting"]["roleArn"]).head(uri)
    except ObjectMissing:
        return {
            **request,
            _SETTINGS_ERROR: ValidationException(f"s3UriSettings {uri} not found. Put the file there first."),
        }
    except ObjectForbidden as error:
        return {**request, _SETTINGS_ERROR: AccessDeniedException(f"s3UriSettings {uri} may not be read: {error}")}
    except ApiError as error:
        return {**request, _SETTINGS_ERROR: error}
    if info.size_bytes > life.MAX_FILE_BYTES:
        too_large = f"s3UriSettings {uri} has {info.size_bytes} bytes; the limit is {life.MAX_FILE_BYTES}. Make several batches of it."
        return {**request, _SETTINGS_ERROR: ValidationException(too_large)}
    return {**request, _SETTINGS_ETAG: info.etag}


def start_run_batch(tx: Tx, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
    """Make a batch in CREATING and leave it to the scheduler. The request is what `find_settings` gave.

    Source: model; guide, workflows-batch (what is common to all runs is checked at once, each run's own when its turn comes;
    no Ready2Run workflows); assumed (the exceptions).

    Raises:
        ValidationException, ConflictException, ResourceNotFoundException, AccessDeniedException.
    """
    asked = {name: value for name, value in request.items() if name not in (_SETTINGS_ETAG, _SETTINGS_ERROR)}
    if (answer := idempotency.first_answer(tx, caller, _OPERATION, asked)) is not None:
        return answer
    default = request["defaultRunSetting"]
    _check_default(caller, default)
    check_tags(request.get("tags", {}), caller.site.limits)
    named = look_up(tx, caller, default)
    if _SETTINGS_ERROR in request:
        raise request[_SETTINGS_ERROR]
    inline = request["batchRunSettings"].get("inlineSettings")
    new = batches.NewBatch(
        id=next_id(tx, batches.KIND),
        account=caller.account,
        uuid=str(uuid.uuid4()),
        name=request.get("batchName"),
        workflow_id=named.workflow.id,
        run_group_id=identity.number(default["runGroupId"]) if "runGroupId" in default else None,
        default_run_setting=orjson.dumps(default).decode(),
        inline_settings=None if inline is None else orjson.dumps(inline).decode(),
        settings_uri=request["batchRunSettings"].get("s3UriSettings"),
        settings_etag=request.get(_SETTINGS_ETAG),
        started_by=caller.principal_arn,
        tags=orjson.dumps(request.get("tags", {})).decode(),
        created_ms=caller.now_ms,
    )
    batches.insert_batch(tx, new)
    answer = {
        "id": str(new.id),
        "arn": identity.batch_arn(caller.site.region, caller.account, new.id),
        "status": str(BatchStatus.CREATING),
        "uuid": new.uuid,
        "tags": orjson.Fragment(new.tags),
    }
    idempotency.remember(tx, caller, _OPERATION, asked, answer=answer)
    return answer


def _check_default(caller: Caller, default: Mapping[str, Any]) -> None:
    if default.get("workflowType") == "READY2RUN":
        raise ValidationException(
            f"Workflow {default['workflowId']}: a batch cannot run Ready2Run workflows. Start each of its runs with StartRun."
        )
    if not isinstance(default.get("parameters", {}), dict):
        raise ValidationException("parameters must be a JSON object that maps each parameter's name to its value.")
    # What a run of this setting alone would ask for; a setting of its own may still bring the outputUri.
    alone = {"outputUri": "s3://given-by-each-run/", **life.run_request(default, {})}
    run_request.check(cast("run_request.StartRunRequest", alone), caller.site.limits)


# ---- GetBatch, ListBatch, ListRunsInBatch ------------------------------------------------------------------------


def get_batch(tx: Tx, caller: Caller, request: GetBatchRequestTypeDef) -> dict[str, Any]:
    """A batch, each member from the moment it has a value. The counts are those of this moment.

    Source: model; guide, workflows-batch. assumed (totalRuns is there once the settings were counted).
    """
    row = found(tx, caller, request["batchId"])
    counts = batches.count_runs(tx, row)
    answer: dict[str, Any] = {
        "id": str(row.id),
        "arn": identity.batch_arn(caller.site.region, caller.account, row.id),
        "uuid": row.uuid,
        "status": row.status,
        "tags": orjson.Fragment(row.tags),
        "defaultRunSetting": orjson.Fragment(row.default_run_setting),
        "submissionSummary": batches.submission_counts(row),
        "runSummary": {
            "pendingRunCount": counts.pending,
            "startingRunCount": counts.starting,
            "runningRunCount": counts.running,
            "stoppingRunCount": counts.stopping,
            "completedRunCount": counts.completed,
            "deletedRunCount": counts.deleted,
            "failedRunCount": counts.failed,
            "cancelledRunCount": counts.cancelled,
        },
        "creationTime": moment(row.created_ms),
    }
    if row.name is not None:
        answer["name"] = row.name
    if row.total_runs is not None:
        answer["totalRuns"] = row.total_runs
    for member, at_ms in (
        ("submittedTime", row.submitted_ms),
        ("processedTime", row.processed_ms),
        ("failedTime", row.failed_ms),
    ):
        if at_ms is not None:
            answer[member] = moment(at_ms)
    if row.failure_reason is not None:
        answer["failureReason"] = row.failure_reason
    return answer


def list_batch(tx: Tx, caller: Caller, request: ListBatchRequestTypeDef) -> dict[str, Any]:
    """Batches in the order of their making. Names match exactly.

    Source: model; guide, workflows-batch (one filter a call); assumed (ascending order, exact names).

    Raises:
        ValidationException: more than one filter.
    """
    _one_filter(request, ("status", "name", "runGroupId"))
    after_id = pages.start(caller, "ListBatch", request)
    rows, next_after_id = batches.list_batches(
        tx,
        caller.account,
        after_id=after_id,
        limit=request.get("maxItems", pages.PAGE_SIZE),
        status=request.get("status"),
        name=request.get("name"),
        run_group_id=_filter_id(request.get("runGroupId")),
    )
    items = [_item(*row) for row in rows]
    return pages.page(caller, "ListBatch", request, items=items, next_after_id=next_after_id)


def _item(
    batch_id: int, name: str | None, status: str, created_ms: int, total_runs: int | None, workflow_id: int
) -> dict[str, Any]:
    """A row in the order of `batches.LISTED`."""
    item: dict[str, Any] = {
        "id": str(batch_id),
        "status": status,
        "createdAt": moment(created_ms),
        "workflowId": str(workflow_id),
    }
    if name is not None:
        item["name"] = name
    if total_runs is not None:
        item["totalRuns"] = total_runs
    return item


def list_runs_in_batch(tx: Tx, caller: Caller, request: ListRunsInBatchRequestTypeDef) -> dict[str, Any]:
    """The settings of a batch in the order they were given, each with the run it became and how that went.

    Source: model; guide, workflows-batch (one filter a call, no runId where the submission failed); assumed (a setting that had no
    turn yet has no submissionStatus).

    Raises:
        ResourceNotFoundException. ValidationException: more than one filter.
    """
    _one_filter(request, ("submissionStatus", "runSettingId", "runId"))
    row = found(tx, caller, request["batchId"])
    after_id = pages.start(caller, "ListRunsInBatch", request)
    settings, next_after_id = batch_runs.list_settings(
        tx,
        row,
        after_id=after_id,
        limit=request.get("maxItems", pages.PAGE_SIZE),
        submission_status=request.get("submissionStatus"),
        run_setting_id=request.get("runSettingId"),
        run_id=_filter_id(request.get("runId")),
    )
    prefix = identity.arn_prefix(caller.site.region, caller.account, "run")
    items = [_setting(prefix, setting) for setting in settings]
    return pages.page(caller, "ListRunsInBatch", request, items=items, next_after_id=next_after_id, items_member="runs")


def _setting(arn_prefix: str, setting: batch_runs.SettingRow) -> dict[str, Any]:
    item: dict[str, Any] = {"runSettingId": setting.run_setting_id}
    if setting.run_id is not None:
        item["runId"] = str(setting.run_id)
        item["runInternalUuid"] = setting.run_uuid
        item["runArn"] = f"{arn_prefix}{setting.run_id}"
    if setting.submission_status is not None:
        item["submissionStatus"] = setting.submission_status
    if setting.failure_reason is not None:
        item["submissionFailureReason"] = setting.failure_reason
        item["submissionFailureMessage"] = setting.failure_message
    return item


def _one_filter(request: Mapping[str, Any], filters: tuple[str, ...]) -> None:
    given = [name for name in filters if name in request]
    if len(given) > 1:
        raise ValidationException(f"{' and '.join(given)} were given; only one filter is supported per call.")


def _filter_id(identifier: str | None) -> int | None:
    """A filter by an id that is none of ours matches nothing: -1 is nobody's id."""
    if identifier is None:
        return None
    number = identity.number(identifier)
    return -1 if number is None else number


# ---- CancelRunBatch, DeleteRunBatch, DeleteBatch -----------------------------------------------------------------


def cancel_run_batch(tx: Tx, caller: Caller, request: CancelRunBatchRequestTypeDef) -> None:
    """Ask for the end of all runs of the batch, and that no more are started.

    Source: guide, workflows-batch (PENDING, SUBMITTING, INPROGRESS; one cancel or delete at a time); assumed (ConflictException).
    """
    row = found(tx, caller, request["batchId"])
    if row.cancel_wished_ms is not None or not _accepts(row, BatchEvent.CANCEL_REQUESTED):
        raise ConflictException(
            f"Batch {row.id} is {_state(row)} and cannot be cancelled: only one that is PENDING, SUBMITTING or INPROGRESS can."
        )
    batches.wish_cancel(tx, caller.account, row.id, caller.now_ms)


def delete_run_batch(tx: Tx, caller: Caller, request: DeleteRunBatchRequestTypeDef) -> None:
    """Ask for the runs of the batch to go. The batch itself stays.

    Source: guide, workflows-batch (PROCESSED, CANCELLED; one cancel or delete at a time); assumed (ConflictException).
    """
    row = found(tx, caller, request["batchId"])
    if row.delete_runs_wished_ms is not None or not _accepts(row, BatchEvent.RUNS_DELETE_REQUESTED):
        raise ConflictException(
            f"Batch {row.id} is {_state(row)} and its runs cannot be deleted: only those of a batch that is PROCESSED or CANCELLED "
            "can. Wait for its end, or cancel it first with CancelRunBatch."
        )
    batches.wish_delete_runs(tx, caller.account, row.id, caller.now_ms)


def delete_batch(tx: Tx, caller: Caller, request: DeleteBatchRequestTypeDef) -> None:
    """Remove the batch. Its runs stay.

    Source: model, guide, workflows-batch (PROCESSED, FAILED, CANCELLED, RUNS_DELETED, RUNS_DELETE_FAILED); assumed
    (ConflictException).
    """
    row = found(tx, caller, request["batchId"])
    if row.delete_runs_wished_ms is not None or not _accepts(row, BatchEvent.DELETE_REQUESTED):
        raise ConflictException(
            f"Batch {row.id} is {_state(row)} and cannot be deleted: wait for its end, or cancel it first with CancelRunBatch."
        )
    batches.wish_delete(tx, caller.account, row.id, caller.now_ms)


def _accepts(row: BatchRow, event: BatchEvent) -> bool:
    return life.accepts(BatchStatus(row.status), event)


def _state(row: BatchRow) -> str:
    """The status, or the one that was asked for a moment ago."""
    if row.cancel_wished_ms is not None and _accepts(row, BatchEvent.CANCEL_REQUESTED):
        return str(BatchStatus.STOPPING)
    if row.delete_runs_wished_ms is not None and _accepts(row, BatchEvent.RUNS_DELETE_REQUESTED):
        return str(BatchStatus.RUNS_DELETING)
    return row.status
