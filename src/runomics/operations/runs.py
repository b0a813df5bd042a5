"""The operations on runs: start, look, list, cancel, delete. Server process, one transaction each.

Deviation: sessionPolicy narrows which objects a run reads (s3:GetObject, s3:ListBucket) and writes (s3:PutObject); what it says of logs
and images is not asked, and one with a condition that this server cannot evaluate is refused.
Deviation: a VPC is a network that the operator of the server defines; RESTRICTED tasks reach nothing, not even S3.
"""

from __future__ import annotations

import functools
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import orjson

from runomics.domain import identity, parameters, ready2run, run, storage
from runomics.domain.packaging import host_engine
from runomics.operations import idempotency, pages, quota, run_request
from runomics.operations.caller import Caller
from runomics.operations.moments import moment
from runomics.operations.run_context import RunContext, run_context
from runomics.operations.runnable import Definition, runnable
from runomics.store import runs
from runomics.store.catalog import WorkflowRow
from runomics.store.database import Tx, next_id
from runomics.store.versions import VersionRow
from runomics.wire.errors import (
    AccessDeniedException,
    ConflictException,
    ResourceNotFoundException,
    ValidationException,
)

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import (
        CancelRunRequestTypeDef,
        DeleteRunRequestTypeDef,
        GetRunRequestTypeDef,
        ListRunsRequestTypeDef,
    )

    from runomics.operations.run_request import StartRunRequest

_OPERATION = "StartRun"


def found(tx: Tx, caller: Caller, run_id: str) -> runs.RunRow:
    """The caller's run.

    Raises:
        ResourceNotFoundException: no such run, deleted, or of another account: the same text for all.
    """
    number = identity.number(run_id)
    row = None if number is None else runs.find_run(tx, caller.account, number)
    if row is None:
        raise ResourceNotFoundException(f"Run {run_id} not found. ListRuns lists the runs of account {caller.account}.")
    return row


# ---- StartRun ----------------------------------------------------------------------------------------------------


def start_run(tx: Tx, caller: Caller, request: StartRunRequest) -> dict[str, Any]:
    """Make a PENDING run, or a copy of the run `runId` with the members given here in the place of its own.

    Source: model (members, limits); guide, starting-a-run and rerun-a-run; assumed: 409 for a workflow that is not ACTIVE.

    Raises:
        ValidationException, ConflictException, ResourceNotFoundException, ServiceQuotaExceededException.
    """
    if (answer := idempotency.first_answer(tx, caller, _OPERATION, request)) is not None:
        return answer
    source = found(tx, caller, request["runId"]) if "runId" in request else None
    if source is not None:
        _refuse_repeating_another_accounts(caller, source)
    wanted = request if source is None else run_request.repeating(request, source)
    run_request.check(wanted, caller.site.limits)
    named = look_up(tx, caller, wanted)
    source_id = None if source is None else source.id
    new = new_run(caller, wanted, named, run_id=next_id(tx, "run"), source_run_id=source_id)
    stored = runs.insert_run(tx, new)
    if stored > caller.site.limits.stored_runs:
        quota.make_room_for_run(tx, caller, stored=stored, retention_mode=new.retention_mode)
    answer = _started(caller, new, wanted, named.context)
    idempotency.remember(tx, caller, _OPERATION, request, answer=answer)
    return answer


@dataclass(frozen=True, slots=True)
class Named:
    """What a run's request names, as it was found: the workflow, whose definition and defaults count, and what else it uses."""

    workflow: WorkflowRow
    definition: Definition
    context: RunContext


def look_up(tx: Tx, caller: Caller, wanted: StartRunRequest) -> Named:
    """Everything that the request names and that has to be there.

    Raises:
        ValidationException, ConflictException, ResourceNotFoundException.
    """
    workflow, definition = runnable(tx, caller, wanted)
    return Named(workflow, definition, run_context(tx, caller, wanted))


def new_run(
    caller: Caller,
    wanted: StartRunRequest,
    named: Named,
    *,
    run_id: int,
    source_run_id: int | None = None,
    batch_id: int | None = None,
) -> runs.NewRun:
    """The run that the request asks for, whether by StartRun or as one of a batch. `named` is what `look_up` found.

    Raises:
        ValidationException: the parameters are none, too large, or do not fit the template.
    """
    workflow, definition, context = named.workflow, named.definition, named.context
    given_parameters = _checked_parameters(caller, wanted, definition)
    run_storage = storage.resolve(
        storage.StorageWish(wanted.get("storageType"), wanted.get("storageCapacity")),
        storage.StorageWish(definition.storage_type, definition.storage_capacity_gib),
        caller.site.default_storage,
    )
    tags = wanted.get("tags")
    return runs.NewRun(
        id=run_id,
        account=caller.account,
        uuid=str(uuid.uuid4()),
        name=wanted.get("name"),
        workflow_id=workflow.id,
        workflow_type=workflow.type,
        workflow_name=workflow.name,
        workflow_uuid=workflow.uuid,
        workflow_owner_id=wanted.get("workflowOwnerId"),
        workflow_version_name=wanted.get("workflowVersionName"),
        source_run_id=source_run_id,
        run_group_id=context.run_group_id,
        run_cache_id=context.run_cache_id,
        cache_behavior=context.cache_behavior,
        batch_id=batch_id,
        configuration_id=context.configuration_id,
        priority=wanted.get("priority"),
        # What is ACTIVE has all three.
        engine=cast("str", definition.engine),
        main=cast("str", definition.main),
        digest=f"sha256:{definition.definition_sha256}",
        definition_sha256=cast("str", definition.definition_sha256),
        accelerators=definition.accelerators,
        parameters=given_parameters,
        storage_type=run_storage.storage_type,
        storage_capacity_gib=run_storage.capacity_gib,
        role_arn=wanted["roleArn"],
        started_by=caller.principal_arn,
        output_uri=wanted["outputUri"],
        run_output_uri=identity.run_output_uri(wanted["outputUri"], run_id, wanted.get("outputUriPrefixMode")),
        log_level=wanted.get("logLevel", "ALL"),
        retention_mode=wanted.get("retentionMode", "RETAIN"),
        tags=orjson.dumps(tags).decode() if tags else "{}",
        extra=_extra(wanted, definition, context),
        created_ms=caller.now_ms,
    )


def _started(caller: Caller, new: runs.NewRun, wanted: StartRunRequest, context: RunContext) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "arn": identity.run_arn(caller.site.region, caller.account, new.id),
        "id": str(new.id),
        "status": str(run.RunStatus.PENDING),
        "tags": orjson.Fragment(new.tags),
        "uuid": new.uuid,
        "runOutputUri": new.run_output_uri,
    }
    if "networkingMode" in wanted:
        answer["networkingMode"] = wanted["networkingMode"]
    if "configuration" in context.extra:
        answer["configuration"] = context.extra["configuration"]
    return answer


def _refuse_repeating_another_accounts(caller: Caller, source: runs.RunRow) -> None:
    """Source: model, guide, sharing-workflows (a run of a shared workflow is not repeated by runId); assumed (the exception)."""
    if _is_of_another(caller, source):
        raise ValidationException(
            f"Run {source.id} is of a workflow shared by account {source.workflow_owner_id} and cannot be repeated by runId. "
            "Pass workflowId and workflowOwnerId with the values of the run."
        )


def _is_of_another(caller: Caller, row: runs.RunRow) -> bool:
    return row.workflow_owner_id is not None and row.workflow_owner_id != caller.account


def _checked_parameters(caller: Caller, wanted: StartRunRequest, definition: Definition) -> str | None:
    """The parameters as JSON text, their names checked; None when they come as a file, which is checked when the run starts."""
    if "parametersUri" in wanted:
        return None
    given = wanted.get("parameters", {})
    text = run_request.parameters_text(given, caller.site.limits)
    signature, workflow_name = _signature(definition.parameter_template or "{}", definition.extra)
    wrong = parameters.disagreements(signature, given, workflow_name)
    if wrong is not None:
        if isinstance(definition, VersionRow):
            whose, operation = (
                f"version {definition.version_name} of workflow {definition.workflow_id}",
                "GetWorkflowVersion",
            )
        else:
            whose, operation = f"workflow {definition.id}", "GetWorkflow"
        raise ValidationException(
            f"The parameters do not fit the parameter template of {whose}. {wrong} {operation} shows the template."
        )
    return text if "parameters" in wanted else None


@functools.lru_cache(maxsize=256)
def _signature(template: str, extra: str) -> tuple[parameters.Signature, str]:
    return parameters.signature(orjson.loads(template)), orjson.loads(extra).get("workflowName", "")


def _extra(wanted: StartRunRequest, definition: Definition, context: RunContext) -> str:
    """Members without a column. engineSettings are dropped for other engines than Nextflow. Source: guide, starting-a-run."""
    extra = {name: wanted[name] for name in run_request.KEPT & wanted.keys()}  # type: ignore[literal-required]
    if host_engine(definition.engine or "") != "NEXTFLOW":
        extra.pop("engineSettings", None)
    extra |= context.extra
    if "containerRegistryMap" in definition.extra:
        # The workflow may be gone by the time a task names an image.
        registry_map = orjson.loads(definition.extra).get("containerRegistryMap")
        extra |= {} if registry_map is None else {"containerRegistryMap": registry_map}
    return orjson.dumps(extra).decode() if extra else "{}"


# ---- GetRun, ListRuns --------------------------------------------------------------------------------------------


def get_run(tx: Tx, caller: Caller, request: GetRunRequestTypeDef) -> dict[str, Any]:
    """A run, each member from the moment it has a value.

    Source: model; guide (definition is a URL to the archive, storageCapacity of DYNAMIC once ended, engineVersion for Nextflow
    only; the definition of a shared workflow is not exported); observed (digest has 71 characters); assumed (logLocation from
    STARTING on).
    Deviation: while PENDING, statusMessage says what the run waits for.
    """
    row = found(tx, caller, request["id"])
    site = caller.site
    status = row.status
    ended = status in run.ENDED
    answer: dict[str, Any] = {
        "arn": identity.run_arn(site.region, caller.account, row.id),
        "id": str(row.id),
        "uuid": row.uuid,
        "status": str(status),
        "workflowId": str(row.workflow_id),
        "workflowType": row.workflow_type,
        "workflowUuid": row.workflow_uuid,
        "roleArn": row.role_arn,
        "digest": row.digest,
        "storageType": row.storage_type,
        "outputUri": row.output_uri,
        "runOutputUri": row.run_output_uri,
        "outputUriPrefixMode": "SERVICE_DEFINED",
        "logLevel": row.log_level,
        "retentionMode": row.retention_mode,
        "startedBy": row.started_by,
        "creationTime": moment(row.created_ms),
        "tags": orjson.Fragment(row.tags),
    }
    if row.extra != "{}":
        answer.update(orjson.loads(row.extra))
        answer.pop("containerRegistryMap", None)
    if row.name is not None:
        answer["name"] = row.name
    if row.source_run_id is not None:
        answer["runId"] = str(row.source_run_id)
    if row.run_group_id is not None:
        answer["runGroupId"] = str(row.run_group_id)
    if row.batch_id is not None:
        answer["batchId"] = str(row.batch_id)
    if row.run_cache_id is not None:
        answer["cacheId"] = str(row.run_cache_id)
    if row.cache_behavior is not None:
        answer["cacheBehavior"] = row.cache_behavior
    if row.priority is not None:
        answer["priority"] = row.priority
    if row.parameters is not None:
        answer["parameters"] = orjson.Fragment(row.parameters)
    if row.workflow_owner_id is not None:
        answer["workflowOwnerId"] = row.workflow_owner_id
    if row.workflow_version_name is not None:
        answer["workflowVersionName"] = row.workflow_version_name
    if row.accelerators is not None:
        answer["accelerators"] = row.accelerators
    if row.resource_digests is not None:
        answer["resourceDigests"] = orjson.Fragment(row.resource_digests)
    capacity = storage.shown_capacity_gib(
        row.storage_type, row.storage_capacity_gib, row.storage_peak_bytes, ended=ended
    )
    if capacity is not None:
        answer["storageCapacity"] = capacity
    if row.engine_version is not None:
        answer["engineVersion"] = row.engine_version
    if row.started_ms is not None:
        answer["startTime"] = moment(row.started_ms)
    if row.stopped_ms is not None:
        answer["stopTime"] = moment(row.stopped_ms)
    if row.failure_reason is not None:
        answer["failureReason"] = row.failure_reason
    message = site.waiting_reason(row) if status == run.RunStatus.PENDING else row.status_message
    if message is not None:
        answer["statusMessage"] = message
    if row.log_level != "OFF" and _has_logs(row):
        answer["logLocation"] = {
            "engineLogStream": identity.log_stream_arn(site.region, caller.account, identity.engine_stream(row.id)),
            "runLogStream": identity.log_stream_arn(site.region, caller.account, identity.run_stream(row.id)),
        }
    if "DEFINITION" in request.get("export", ()):
        if row.workflow_type == ready2run.WORKFLOW_TYPE:
            raise AccessDeniedException(
                f"The definition of run {row.id} is not for export: its workflow is a Ready2Run workflow. Leave export out."
            )
        if _is_of_another(caller, row):
            raise AccessDeniedException(
                f"The definition of run {row.id} is not for export: account {row.workflow_owner_id} owns the workflow and shares it "
                "for running. Leave export out, or ask the owner."
            )
        expires_ms = caller.now_ms + site.export_seconds * 1000
        answer["definition"] = site.export_url(f"definition/{row.definition_sha256}", expires_ms)
    return answer


def _has_logs(row: runs.RunRow) -> bool:
    """Whether the run was ever admitted: one that was cancelled while PENDING wrote nothing."""
    if row.status == run.RunStatus.PENDING:
        return False
    return row.started_ms is not None or row.status != run.RunStatus.CANCELLED


def list_runs(tx: Tx, caller: Caller, request: ListRunsRequestTypeDef) -> dict[str, Any]:
    """Runs in the order of their making. Names match exactly.

    Source: model; observed (ascending order in every published sample); assumed (100 a page, exact names).
    """
    group_id = _filter_id(request.get("runGroupId"))
    batch_id = _filter_id(request.get("batchId"))
    after_id = pages.start(caller, "ListRuns", request)
    rows, next_after_id = runs.list_runs(
        tx,
        caller.account,
        after_id=after_id,
        limit=pages.size(request),
        name=request.get("name"),
        run_group_id=group_id,
        batch_id=batch_id,
        status=request.get("status"),
    )
    prefix = identity.arn_prefix(caller.site.region, caller.account, "run")
    return pages.page(
        caller, "ListRuns", request, items=[_item(prefix, *row) for row in rows], next_after_id=next_after_id
    )


def _item(
    arn_prefix: str,
    run_id: int,
    status: str,
    workflow_id: int,
    batch_id: int | None,
    name: str | None,
    priority: int | None,
    storage_type: str,
    storage_capacity_gib: int | None,
    storage_peak_bytes: int | None,
    workflow_version_name: str | None,
    workflow_name: str | None,
    created_ms: int,
    started_ms: int | None,
    stopped_ms: int | None,
) -> dict[str, Any]:
    """A row in the order of `runs.LISTED` as an item of the page."""
    item: dict[str, Any] = {
        "arn": f"{arn_prefix}{run_id}",
        "id": str(run_id),
        "status": status,
        "workflowId": str(workflow_id),
        "storageType": storage_type,
        "creationTime": moment(created_ms),
    }
    if name is not None:
        item["name"] = name
    if workflow_name is not None:
        item["workflowName"] = workflow_name
    if workflow_version_name is not None:
        item["workflowVersionName"] = workflow_version_name
    if batch_id is not None:
        item["batchId"] = str(batch_id)
    if priority is not None:
        item["priority"] = priority
    capacity = storage.shown_capacity_gib(
        storage_type, storage_capacity_gib, storage_peak_bytes, ended=status in run.ENDED
    )
    if capacity is not None:
        item["storageCapacity"] = capacity
    if started_ms is not None:
        item["startTime"] = moment(started_ms)
    if stopped_ms is not None:
        item["stopTime"] = moment(stopped_ms)
    return item


def _filter_id(identifier: str | None) -> int | None:
    """A filter by an id that is none of ours matches nothing: -1 is nobody's id."""
    if identifier is None:
        return None
    number = identity.number(identifier)
    return -1 if number is None else number


# ---- CancelRun, DeleteRun ----------------------------------------------------------------------------------------


def cancel_run(tx: Tx, caller: Caller, request: CancelRunRequestTypeDef) -> None:
    """Ask for the run's end; the scheduler ends it.

    Source: guide, canceling-runs (PENDING, STARTING, RUNNING, STOPPING); assumed: otherwise ConflictException.
    """
    row = found(tx, caller, request["id"])
    if not run.accepts(row.state, run.CancelRequested):
        raise ConflictException(
            f"Run {row.id} is {row.status} and cannot be cancelled: only a run that has not ended can. DeleteRun removes it."
        )
    runs.wish_cancel(tx, caller.account, row.id, caller.now_ms)


def delete_run(tx: Tx, caller: Caller, request: DeleteRunRequestTypeDef) -> None:
    """Remove the metadata of an ended run. Its outputs and logs stay.

    Source: model (COMPLETED, FAILED, CANCELLED); assumed: otherwise ConflictException.
    """
    row = found(tx, caller, request["id"])
    if not run.accepts(row.state, run.DeleteRequested):
        raise ConflictException(
            f"Run {row.id} is {row.status} and cannot be deleted: wait for its end, or cancel it first with CancelRun."
        )
    runs.wish_delete(tx, caller.account, row.id, caller.now_ms)
