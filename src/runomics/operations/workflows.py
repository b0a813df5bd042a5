"""The operations on workflows: create, look, list, update, delete. Server process, one transaction each.

Creation is answered at once with CREATING; the scheduler's register opens the archive and decides between ACTIVE and FAILED.

Deviation: there are no Ready2Run workflows; type READY2RUN finds and lists none.
Deviation: workflowBucketOwnerId is kept but not compared: buckets have no owners yet.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, NotRequired, cast

import orjson

from runomics.domain import identity
from runomics.domain.limits import Limits
from runomics.domain.workflow import WorkflowEvent, WorkflowStatus, accepts
from runomics.operations import idempotency, pages
from runomics.operations.caller import Caller
from runomics.operations.moments import moment
from runomics.operations.run_request import check_s3_uri, check_tags
from runomics.store import catalog
from runomics.store.database import Tx, next_id
from runomics.wire.errors import ConflictException, ResourceNotFoundException, ValidationException

if TYPE_CHECKING:
    from types_boto3_omics.type_defs import (
        CreateWorkflowRequestTypeDef,
        DeleteWorkflowRequestTypeDef,
        GetWorkflowRequestTypeDef,
        ListWorkflowsRequestTypeDef,
        UpdateWorkflowRequestTypeDef,
    )

    class StoredWorkflowRequest(CreateWorkflowRequestTypeDef):
        """CreateWorkflow after `store_definition`: the archive's digest in the place of its bytes."""

        definitionSha256: NotRequired[str]  # noqa: N815 - in the API's style


_SOURCES = ("definitionZip", "definitionUri", "definitionRepository")
_KEPT = ("containerRegistryMap", "containerRegistryMapUri", "readmeUri", "workflowBucketOwnerId")


def found(tx: Tx, caller: Caller, workflow_id: str, *, workflow_type: str = "PRIVATE") -> catalog.WorkflowRow:
    """The caller's workflow of this type.

    Source: observed (`Workflow N not found`, also for the wrong type).

    Raises:
        ResourceNotFoundException: no such workflow, deleted, of another type or account: the same text for all.
    """
    number = identity.number(workflow_id)
    row = None if number is None else catalog.find_workflow(tx, caller.account, number)
    if row is None or row.type != workflow_type:
        raise ResourceNotFoundException(
            f"Workflow {workflow_id} not found. ListWorkflows lists the {workflow_type} workflows of account {caller.account}."
        )
    return row


# ---- CreateWorkflow ----------------------------------------------------------------------------------------------


def store_definition(caller: Caller, request: CreateWorkflowRequestTypeDef) -> StoredWorkflowRequest:
    """Before the transaction, on a pool thread: refuse what can be refused, and keep the archive on disk.

    Raises:
        ValidationException: the request cannot be served, whatever the archive holds.
    """
    _check(request, caller.site.limits)
    stored = dict(request)
    if "definitionZip" in request:
        stored["definitionSha256"] = caller.site.definitions.keep(cast("bytes", stored.pop("definitionZip")))
    return cast("StoredWorkflowRequest", stored)


def create_workflow(tx: Tx, caller: Caller, request: StoredWorkflowRequest) -> dict[str, Any]:
    """Make a workflow in CREATING and leave it to the scheduler.

    Source: model; guide, create-private-workflow (exactly one source); assumed (what is checked at once, what later).
    Deviation: definitionRepository, and with it parameterTemplatePath and readmePath, is refused: this server has no
    connections to Git hosts.

    Raises:
        ConflictException: the request token was used for another request.
    """
    if (answer := idempotency.first_answer(tx, caller, "CreateWorkflow", request)) is not None:
        return answer
    workflow_id = next_id(tx, "workflow")
    template = request.get("parameterTemplate")
    extra = {name: request[name] for name in _KEPT if name in request}  # type: ignore[literal-required]
    new = catalog.NewWorkflow(
        id=workflow_id,
        account=caller.account,
        uuid=str(uuid.uuid4()),
        name=request.get("name"),
        description=request.get("description"),
        type="PRIVATE",
        engine=request.get("engine"),
        main=request.get("main"),
        definition_sha256=request.get("definitionSha256"),
        definition_uri=request.get("definitionUri"),
        parameter_template=None if template is None else orjson.dumps(template).decode(),
        template_given=int(template is not None),
        storage_type=request.get("storageType"),
        storage_capacity_gib=request.get("storageCapacity"),
        accelerators=request.get("accelerators"),
        tags=orjson.dumps(request.get("tags", {})).decode(),
        extra=orjson.dumps(extra).decode(),
        readme=request.get("readmeMarkdown"),
        created_ms=caller.now_ms,
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


def _check(request: CreateWorkflowRequestTypeDef, limits: Limits) -> None:
    given = [name for name in _SOURCES if name in request]
    if len(given) != 1:
        what = "none" if not given else " and ".join(given)
        raise ValidationException(f"Exactly one of {', '.join(_SOURCES)} is needed; {what} was given.")
    if "definitionRepository" in request:
        raise ValidationException(
            "definitionRepository is not supported by this server. Send the repository's files as definitionZip, or put the "
            "archive into a bucket and pass definitionUri."
        )
    for name, instead in (
        ("parameterTemplatePath", "parameterTemplate"),
        ("readmePath", "readmeMarkdown or readmeUri"),
    ):
        if name in request:
            raise ValidationException(
                f"{name} needs definitionRepository, which this server does not support. Use {instead}."
            )
    if "definitionZip" in request:
        _check_archive_size(len(cast("bytes", request["definitionZip"])), limits)
    for name in ("definitionUri", "readmeUri", "containerRegistryMapUri"):
        if name in request:
            check_s3_uri(name, str(request[name]))  # type: ignore[literal-required]
    for first, second in (("readmeMarkdown", "readmeUri"), ("containerRegistryMap", "containerRegistryMapUri")):
        if first in request and second in request:
            raise ValidationException(f"{first} and {second} were both given: give one of them.")
    _check_readme(request.get("readmeMarkdown"), limits)
    entries = len(request.get("parameterTemplate", {}))
    if entries > limits.template_entries:
        raise ValidationException(
            f"parameterTemplate has {entries} entries; the limit is {limits.template_entries}. Leave some out."
        )
    check_tags(request.get("tags", {}), limits)


def _check_archive_size(size_bytes: int, limits: Limits) -> None:
    if size_bytes == 0:
        raise ValidationException("definitionZip is empty. Send the bytes of a zip archive.")
    if size_bytes > limits.definition_zip_bytes:
        raise ValidationException(
            f"definitionZip has {size_bytes} bytes; the limit is {limits.definition_zip_bytes}. Put the archive into a bucket and "
            f"pass definitionUri, which may have {limits.definition_uri_bytes} bytes."
        )


def _check_readme(readme: str | None, limits: Limits) -> None:
    size_bytes = 0 if readme is None else len(readme.encode())
    if size_bytes > limits.readme_bytes:
        raise ValidationException(
            f"readmeMarkdown has {size_bytes} bytes; the limit is {limits.readme_bytes}. Shorten it."
        )


# ---- GetWorkflow, ListWorkflows ----------------------------------------------------------------------------------


def get_workflow(tx: Tx, caller: Caller, request: GetWorkflowRequestTypeDef) -> dict[str, Any]:
    """A workflow; with `export`, URLs of its archive and README that anyone may GET for an hour.

    Source: model; observed (URLs rather than text; `optional` only where true); assumed (how long the URLs work).
    """
    if request.get("workflowOwnerId", caller.account) != caller.account:
        raise ResourceNotFoundException(
            f"Workflow {request['id']} not found. It is not shared by account {request['workflowOwnerId']}; leave workflowOwnerId out "
            "for a workflow of your own."
        )
    row = found(tx, caller, request["id"], workflow_type=request.get("type", "PRIVATE"))
    site = caller.site
    answer: dict[str, Any] = {
        "arn": identity.workflow_arn(site.region, row.account, row.id, row.type),
        "id": str(row.id),
        "uuid": row.uuid,
        "status": row.status,
        "type": row.type,
        "creationTime": moment(row.created_ms),
        "tags": orjson.Fragment(row.tags),
    }
    extra = orjson.loads(row.extra)
    optional = {
        "name": row.name,
        "description": row.description,
        "engine": row.engine,
        "main": row.main,
        "storageType": row.storage_type,
        "storageCapacity": row.storage_capacity_gib,
        "accelerators": row.accelerators,
        "statusMessage": row.status_message,
        "containerRegistryMap": extra.get("containerRegistryMap"),
        "profiles": extra.get("profiles"),
        "profileParameterTemplates": extra.get("profileParameterTemplates"),
    }
    answer.update((name, value) for name, value in optional.items() if value is not None)
    if row.definition_sha256 is not None:
        answer["digest"] = f"sha256:{row.definition_sha256}"
    if row.parameter_template is not None:
        answer["parameterTemplate"] = orjson.Fragment(row.parameter_template)
    expires_ms = caller.now_ms + site.export_seconds * 1000
    wanted = request.get("export", ())
    if "DEFINITION" in wanted and row.definition_sha256 is not None:
        answer["definition"] = site.export_url(f"definition/{row.definition_sha256}", expires_ms)
    if "README" in wanted and row.readme is not None:
        answer["readme"] = site.export_url(f"readme/{row.account}/{row.id}", expires_ms)
    return answer


def list_workflows(tx: Tx, caller: Caller, request: ListWorkflowsRequestTypeDef) -> dict[str, Any]:
    """Workflows in the order of their making, PRIVATE ones unless asked otherwise; names match exactly.

    Source: model; observed (clients look a workflow up by its exact name); assumed (order, 100 a page).
    """
    rows, next_after_id = catalog.list_workflows(
        tx,
        caller.account,
        after_id=pages.start(caller, "ListWorkflows", request),
        limit=pages.size(request),
        name=request.get("name"),
        type=request.get("type", "PRIVATE"),
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
        items.append(item)
    return pages.page(caller, "ListWorkflows", request, items=items, next_after_id=next_after_id)


# ---- UpdateWorkflow, DeleteWorkflow ------------------------------------------------------------------------------


def update_workflow(tx: Tx, caller: Caller, request: UpdateWorkflowRequestTypeDef) -> None:
    """Change name, description, default storage or README; done when answered. Members left out stay as they are.

    Source: model; assumed: 409 while CREATING.
    """
    row = found(tx, caller, request["id"])
    _check_readme(request.get("readmeMarkdown"), caller.site.limits)
    if not accepts(WorkflowStatus(row.status), WorkflowEvent.UPDATED):
        raise ConflictException(
            f"Workflow {row.id} is {row.status} and cannot be changed: wait until GetWorkflow says ACTIVE or FAILED."
        )
    members = {
        "name": "name",
        "description": "description",
        "storageType": "storage_type",
        "storageCapacity": "storage_capacity_gib",
        "readmeMarkdown": "readme",
    }
    changes = {column: request[member] for member, column in members.items() if member in request}  # type: ignore[literal-required]
    if changes:
        catalog.update_workflow(tx, row, **changes)


def delete_workflow(tx: Tx, caller: Caller, request: DeleteWorkflowRequestTypeDef) -> None:
    """Remove a workflow. Runs of it go on and keep what they need.

    Source: guide, delete-private-workflow (ACTIVE or FAILED); assumed: otherwise ConflictException.
    """
    row = found(tx, caller, request["id"])
    if not accepts(WorkflowStatus(row.status), WorkflowEvent.DELETE_REQUESTED):
        raise ConflictException(
            f"Workflow {row.id} is {row.status} and cannot be deleted: wait until GetWorkflow says ACTIVE or FAILED."
        )
    catalog.delete_workflow(tx, row, now_ms=caller.now_ms)
