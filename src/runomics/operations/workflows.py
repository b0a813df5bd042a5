"""The operations on workflows: create, look, list, update, delete. Server process, one transaction each.

Creation is answered at once with CREATING; the scheduler's register opens the archive and decides between ACTIVE and FAILED.

Deviation: Ready2Run workflows are those of the operator's catalogue (setting ready2run_directory); without one there are none.
Deviation: workflowBucketOwnerId is kept but not compared: buckets have no owners yet.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from runomics.domain import identity, ready2run
from runomics.domain.workflow import WorkflowEvent, WorkflowStatus, accepts
from runomics.operations import definitions, idempotency, pages, quota
from runomics.operations.caller import Caller
from runomics.operations.moments import moment
from runomics.store import catalog, shares, versions
from runomics.store.database import Tx, next_id
from runomics.wire.errors import ConflictException, ResourceNotFoundException

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import (
        DeleteWorkflowRequestTypeDef,
        GetWorkflowRequestTypeDef,
        ListWorkflowsRequestTypeDef,
        UpdateWorkflowRequestTypeDef,
    )


def found(
    tx: Tx, caller: Caller, workflow_id: str, *, workflow_type: str = "PRIVATE", owner_id: str | None = None
) -> catalog.WorkflowRow:
    """The caller's workflow, or the one that `owner_id`, another account, shares with the caller, or a Ready2Run workflow.

    Source: observed (`Workflow N not found`, also for the wrong type).

    Raises:
        ResourceNotFoundException: no such workflow, deleted, of another type or account, not shared or no longer: the same text
            for all.
    """
    row = usable(tx, caller, workflow_id, workflow_type=workflow_type, owner_id=owner_id)
    if row is None:
        look = where_to_look(caller, owner_id or caller.account, workflow_type)
        raise ResourceNotFoundException(f"Workflow {workflow_id} not found. {look}")
    return row


def usable(
    tx: Tx, caller: Caller, workflow_id: str, *, workflow_type: str, owner_id: str | None
) -> catalog.WorkflowRow | None:
    """The workflow that the caller may look at and run; None when there is none of this id, type and owner for it.

    Source: observed (a Ready2Run workflow is found with its type alone); assumed (and not with an owner).
    """
    number = identity.number(workflow_id)
    if number is None:
        return None
    if workflow_type == ready2run.WORKFLOW_TYPE:
        return catalog.find_workflow(tx, ready2run.ACCOUNT, number) if owner_id is None else None
    owner = owner_id or caller.account
    if owner != caller.account and not shares.may_use(tx, owner, number, caller.account):
        return None
    return catalog.find_workflow(tx, owner, number)


def where_to_look(caller: Caller, owner: str, workflow_type: str) -> str:
    """What to do about a workflow that is not found."""
    if owner != caller.account:
        return (
            f"It is not shared by account {owner}; leave workflowOwnerId out for a workflow of your own. "
            "ListShares with resourceOwner OTHER lists what is shared with you."
        )
    if workflow_type == ready2run.WORKFLOW_TYPE:
        return "ListWorkflows with type READY2RUN lists those of this server."
    return f"ListWorkflows lists the {workflow_type} workflows of account {caller.account}."


# ---- CreateWorkflow ----------------------------------------------------------------------------------------------


def create_workflow(tx: Tx, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
    """Make a workflow in CREATING and leave it to the scheduler. The request is what `definitions.store_definition` gave.

    Source: model; guide, create-private-workflow (exactly one source); assumed (what is checked at once, what later).
    Deviation: definitionRepository needs a connection that the operator of the server has listed; a link in a repository that leads
    to no file of it makes the workflow FAILED, and submodules are left out.

    Raises:
        ConflictException: the request token was used for another request. ServiceQuotaExceededException.
    """
    if (answer := idempotency.first_answer(tx, caller, "CreateWorkflow", request)) is not None:
        return answer
    quota.require_room(
        catalog.count_workflows(tx, caller.account),
        caller.site.limits.workflows,
        "workflows. Delete one with DeleteWorkflow",
    )
    workflow_id = _free_id(tx)
    new = catalog.NewWorkflow(
        id=workflow_id,
        account=caller.account,
        uuid=str(uuid.uuid4()),
        name=request.get("name"),
        type="PRIVATE",
        created_ms=caller.now_ms,
        **definitions.columns(request),
    )
    catalog.insert_workflow(tx, new)
    answer = {
        "arn": identity.workflow_arn(caller.site.region, caller.account, workflow_id),
        "id": str(workflow_id),
        "status": str(WorkflowStatus.CREATING),
        "tags": orjson.Fragment(new.tags),
        "uuid": new.uuid,
    }
    idempotency.remember(tx, caller, "CreateWorkflow", request, answer=answer)
    return answer


def _free_id(tx: Tx) -> int:
    """The next id that no Ready2Run workflow has: those are chosen by the operator."""
    workflow_id = next_id(tx, "workflow")
    while catalog.load_workflow(tx, workflow_id) is not None:
        workflow_id = next_id(tx, "workflow")
    return workflow_id


# ---- GetWorkflow, ListWorkflows ----------------------------------------------------------------------------------


def get_workflow(tx: Tx, caller: Caller, request: GetWorkflowRequestTypeDef) -> dict[str, Any]:
    """A workflow; with `export`, URLs of its archive and README that anyone may GET for an hour.

    A subscriber sees what it needs for running: no tags, no statusMessage (it may quote the definition), no registry map.

    Source: model; observed (URLs rather than text; `optional` only where true); guide, sharing-workflows; assumed (how long the
    URLs work, the exact list of what a subscriber sees).

    Raises:
        ResourceNotFoundException. AccessDeniedException: a subscriber wants to export.
    """
    owner_id = request.get("workflowOwnerId")
    row = found(tx, caller, request["id"], workflow_type=request.get("type", "PRIVATE"), owner_id=owner_id)
    answer: dict[str, Any] = {
        "arn": identity.workflow_arn(caller.site.region, row.account, row.id, row.type),
        "id": str(row.id),
        "type": row.type,
        **definitions.members(row),
    }
    if row.name is not None:
        answer["name"] = row.name
    if definitions.is_subscriber(caller, request):
        definitions.refuse_export(request)
        return answer
    readme_path = f"readme/{definitions.export_owner(row)}/{row.id}"
    if row.type == ready2run.WORKFLOW_TYPE:
        definitions.refuse_catalogue_export(request)
        answer |= definitions.catalogue_members(row)
    else:
        answer |= definitions.owners_members(row)
    return answer | definitions.exported(caller, row, request.get("export", ()), readme_path=readme_path)


def list_workflows(tx: Tx, caller: Caller, request: ListWorkflowsRequestTypeDef) -> dict[str, Any]:
    """Workflows in the order of their making, PRIVATE ones unless asked otherwise; names match exactly.

    Source: model; observed (clients look a workflow up by its exact name); assumed (order, 100 a page).
    """
    workflow_type = request.get("type", "PRIVATE")
    rows, next_after_id = catalog.list_workflows(
        tx,
        ready2run.ACCOUNT if workflow_type == ready2run.WORKFLOW_TYPE else caller.account,
        after_id=pages.start(caller, "ListWorkflows", request),
        limit=pages.size(request),
        name=request.get("name"),
        type=workflow_type,
    )
    items = []
    for row in rows:
        item: dict[str, Any] = {
            "arn": identity.workflow_arn(caller.site.region, caller.account, row.id, row.type),
            "id": str(row.id),
            "status": row.status,
            "type": row.type,
            "creationTime": moment(row.created_ms),
        }
        if row.name is not None:
            item["name"] = row.name
        if row.definition_sha256 is not None:
            item["digest"] = f"sha256:{row.definition_sha256}"
        if (metadata := definitions.metadata(row)) is not None:
            item["metadata"] = metadata
        items.append(item)
    return pages.page(caller, "ListWorkflows", request, items=items, next_after_id=next_after_id)


# ---- UpdateWorkflow, DeleteWorkflow ------------------------------------------------------------------------------


def update_workflow(tx: Tx, caller: Caller, request: UpdateWorkflowRequestTypeDef) -> None:
    """Change name, description, default storage or README; done when answered. Members left out stay as they are.

    Source: model; assumed: 409 while CREATING.
    """
    row = found(tx, caller, request["id"])
    changes = definitions.changes(request, {"name": "name", **definitions.UPDATES}, caller.site.limits)
    if not accepts(WorkflowStatus(row.status), WorkflowEvent.UPDATED):
        raise ConflictException(
            f"Workflow {row.id} is {row.status} and cannot be changed: wait until GetWorkflow says ACTIVE or FAILED."
        )
    if changes:
        catalog.update_workflow(tx, row, **changes)


def delete_workflow(tx: Tx, caller: Caller, request: DeleteWorkflowRequestTypeDef) -> None:
    """Remove a workflow. Runs of it go on and keep what they need.

    Source: guide, delete-private-workflow (ACTIVE or FAILED, neither versions nor live shares); assumed: otherwise
    ConflictException.
    """
    row = found(tx, caller, request["id"])
    if not accepts(WorkflowStatus(row.status), WorkflowEvent.DELETE_REQUESTED):
        raise ConflictException(
            f"Workflow {row.id} is {row.status} and cannot be deleted: wait until GetWorkflow says ACTIVE or FAILED."
        )
    if count := versions.count_versions(tx, caller.account, row.id):
        raise ConflictException(
            f"Workflow {row.id} still has versions ({count}) and cannot be deleted: delete them first with DeleteWorkflowVersion."
        )
    if count := shares.count_live_shares(tx, caller.account, row.id):
        raise ConflictException(
            f"Workflow {row.id} still has live shares ({count}) and cannot be deleted: end them first with DeleteShare. "
            "ListShares with resourceOwner SELF lists them."
        )
    catalog.delete_workflow(tx, row, now_ms=caller.now_ms)
