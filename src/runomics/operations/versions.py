"""The operations on versions of workflows: create, look, list, update, delete. Server process, one transaction each.

A version takes over nothing from its workflow: it has its own definition, template, storage, README and tags. The workflow itself is
for ever the default version and is not listed among the others.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from runomics.domain import identity, ready2run
from runomics.domain.workflow import WorkflowEvent, WorkflowStatus, accepts
from runomics.operations import definitions, idempotency, pages
from runomics.operations.caller import Caller
from runomics.operations.moments import moment
from runomics.operations.workflows import found as found_workflow
from runomics.store import versions
from runomics.store.catalog import WorkflowRow
from runomics.store.database import Tx, next_id
from runomics.wire.errors import ConflictException, ResourceNotFoundException, ServiceQuotaExceededException

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import (
        DeleteWorkflowVersionRequestTypeDef,
        GetWorkflowVersionRequestTypeDef,
        ListWorkflowVersionsRequestTypeDef,
        UpdateWorkflowVersionRequestTypeDef,
    )

_OPERATION = "CreateWorkflowVersion"


def found(tx: Tx, workflow: WorkflowRow, version_name: str) -> versions.VersionRow:
    """The version of this name of a workflow that the caller may see.

    Raises:
        ResourceNotFoundException: there is none, or no longer.
    """
    row = versions.find_version(tx, workflow.account, workflow.id, version_name)
    if row is None:
        raise ResourceNotFoundException(
            f"Version {version_name} of workflow {workflow.id} not found. ListWorkflowVersions lists them; "
            "the workflow itself is the default version and has no version name."
        )
    return row


# ---- CreateWorkflowVersion ---------------------------------------------------------------------------------------


def create_workflow_version(tx: Tx, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
    """Make a version in CREATING and leave it to the scheduler. The request is what `definitions.store_definition` gave.

    Source: model; guide, workflow-versions and workflows-version-create (nothing inherited, 1,000 a workflow, a name is free again
    after deletion); observed (CREATING first, as the waiter expects); assumed (409 for a name in use, 402 for one too many).
    Deviation: definitionRepository needs a connection that the operator of the server has listed; a link in a repository that leads
    to no file of it makes the workflow FAILED, and submodules are left out.

    Raises:
        ConflictException: the workflow has a version of this name, or the request token was used for another request.
        ResourceNotFoundException. ServiceQuotaExceededException.
    """
    if (answer := idempotency.first_answer(tx, caller, _OPERATION, request)) is not None:
        return answer
    workflow = found_workflow(tx, caller, request["workflowId"])
    version_name = request["versionName"]
    if versions.find_version(tx, caller.account, workflow.id, version_name) is not None:
        raise ConflictException(
            f"Workflow {workflow.id} has a version {version_name} already. Choose another name, or delete that version first."
        )
    limit = caller.site.limits.versions_per_workflow
    if versions.count_versions(tx, caller.account, workflow.id) >= limit:
        raise ServiceQuotaExceededException(
            f"Workflow {workflow.id} has {limit} versions, as many as a workflow may have. Delete one with DeleteWorkflowVersion."
        )
    new = versions.NewVersion(
        id=next_id(tx, versions.KIND),
        account=caller.account,
        workflow_id=workflow.id,
        version_name=version_name,
        uuid=str(uuid.uuid4()),
        created_ms=caller.now_ms,
        **definitions.columns(request),
    )
    versions.insert_version(tx, new)
    answer = {
        "arn": _arn(caller, workflow, version_name),
        "workflowId": str(workflow.id),
        "versionName": version_name,
        "status": str(WorkflowStatus.CREATING),
        "tags": orjson.Fragment(new.tags),
        "uuid": new.uuid,
    }
    idempotency.remember(tx, caller, _OPERATION, request, answer=answer)
    return answer


# ---- GetWorkflowVersion, ListWorkflowVersions --------------------------------------------------------------------


def get_workflow_version(tx: Tx, caller: Caller, request: GetWorkflowVersionRequestTypeDef) -> dict[str, Any]:
    """A version; with `export`, URLs of its archive and README that anyone may GET for an hour.

    A subscriber sees of it what it sees of the workflow.

    Source: model; guide, sharing-workflows; assumed as in GetWorkflow.

    Raises:
        ResourceNotFoundException. AccessDeniedException: a subscriber wants to export.
    """
    workflow = _workflow(tx, caller, request)
    row = found(tx, workflow, request["versionName"])
    answer: dict[str, Any] = {
        "arn": _arn(caller, workflow, row.version_name),
        "workflowId": str(workflow.id),
        "versionName": row.version_name,
        "type": workflow.type,
        **definitions.members(row),
    }
    if definitions.is_subscriber(caller, request):
        definitions.refuse_export(request)
        return answer
    readme_path = f"readme/{definitions.export_owner(row)}/{workflow.id}/{row.version_name}"
    if workflow.type == ready2run.WORKFLOW_TYPE:
        definitions.refuse_catalogue_export(request)
        answer |= definitions.catalogue_members(row)
        return answer | definitions.exported(caller, row, request.get("export", ()), readme_path=readme_path)
    answer |= definitions.owners_members(row)
    bucket_owner = orjson.loads(row.extra).get("workflowBucketOwnerId")
    if bucket_owner is not None:
        answer["workflowBucketOwnerId"] = bucket_owner
    return answer | definitions.exported(caller, row, request.get("export", ()), readme_path=readme_path)


def list_workflow_versions(tx: Tx, caller: Caller, request: ListWorkflowVersionsRequestTypeDef) -> dict[str, Any]:
    """The versions of a workflow in the order of their making, without the workflow itself.

    Source: model; assumed (order, 100 a page, the default version is not among them: it has no name).
    """
    workflow = _workflow(tx, caller, request)
    rows, next_after_id = versions.list_versions(
        tx,
        workflow.account,
        workflow.id,
        after_id=pages.start(caller, "ListWorkflowVersions", request),
        limit=pages.size(request),
    )
    items = []
    for row in rows:
        item: dict[str, Any] = {
            "arn": _arn(caller, workflow, row.version_name),
            "workflowId": str(workflow.id),
            "versionName": row.version_name,
            "status": row.status,
            "type": workflow.type,
            "creationTime": moment(row.created_ms),
        }
        if row.description is not None:
            item["description"] = row.description
        if row.definition_sha256 is not None:
            item["digest"] = f"sha256:{row.definition_sha256}"
        items.append(item)
    return pages.page(caller, "ListWorkflowVersions", request, items=items, next_after_id=next_after_id)


def _workflow(
    tx: Tx, caller: Caller, request: GetWorkflowVersionRequestTypeDef | ListWorkflowVersionsRequestTypeDef
) -> WorkflowRow:
    return found_workflow(
        tx,
        caller,
        request["workflowId"],
        workflow_type=request.get("type", "PRIVATE"),
        owner_id=request.get("workflowOwnerId"),
    )


def _arn(caller: Caller, workflow: WorkflowRow, version_name: str) -> str:
    return identity.version_arn(caller.site.region, workflow.account, workflow.id, version_name, workflow.type)


# ---- UpdateWorkflowVersion, DeleteWorkflowVersion ----------------------------------------------------------------


def update_workflow_version(tx: Tx, caller: Caller, request: UpdateWorkflowVersionRequestTypeDef) -> None:
    """Change description, default storage or README; done when answered. Members left out stay as they are.

    Source: model; assumed: 409 while CREATING.
    """
    row = found(tx, found_workflow(tx, caller, request["workflowId"]), request["versionName"])
    changes = definitions.changes(request, definitions.UPDATES, caller.site.limits)
    _require(row, WorkflowEvent.UPDATED, "changed")
    if changes:
        versions.update_version(tx, row, **changes)


def delete_workflow_version(tx: Tx, caller: Caller, request: DeleteWorkflowVersionRequestTypeDef) -> None:
    """Remove a version. Runs of it go on and keep what they need; its name is free again.

    Source: guide, workflows-version-delete; assumed: 409 unless ACTIVE or FAILED.
    """
    row = found(tx, found_workflow(tx, caller, request["workflowId"]), request["versionName"])
    _require(row, WorkflowEvent.DELETE_REQUESTED, "deleted")
    versions.delete_version(tx, row, now_ms=caller.now_ms)


def _require(row: versions.VersionRow, event: WorkflowEvent, participle: str) -> None:
    if not accepts(WorkflowStatus(row.status), event):
        raise ConflictException(
            f"Version {row.version_name} of workflow {row.workflow_id} is {row.status} and cannot be {participle}: "
            "wait until GetWorkflowVersion says ACTIVE or FAILED."
        )
