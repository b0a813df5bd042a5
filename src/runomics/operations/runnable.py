"""Which definition a run is to run: an own workflow's or a shared one's, the workflow's own or a version's. Server process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runomics.domain.workflow import WorkflowEvent, WorkflowStatus, accepts
from runomics.operations.caller import Caller
from runomics.operations.workflows import usable
from runomics.store import catalog, versions
from runomics.store.database import Tx
from runomics.store.versions import VersionRow
from runomics.wire.errors import ConflictException, ResourceNotFoundException, ValidationException

if TYPE_CHECKING:
    from runomics.operations.run_request import StartRunRequest

Definition = catalog.WorkflowRow | VersionRow
"""What can be run. The columns that both have are called the same."""


def runnable(tx: Tx, caller: Caller, wanted: StartRunRequest) -> tuple[catalog.WorkflowRow, Definition]:
    """The workflow to run, and whose definition and defaults count: the version's that is named, otherwise the workflow's own.

    Source: guide, workflow-versions (the workflow itself is the default version; nothing is inherited) and sharing-workflows;
    assumed: 409 for what is not ACTIVE.

    Raises:
        ValidationException, ConflictException. ResourceNotFoundException: no such workflow or version, of another type or account,
            not shared or no longer.
    """
    if "workflowId" not in wanted:
        raise ValidationException("workflowId or runId is needed: name the workflow to run, or the run to repeat.")
    workflow_id = wanted["workflowId"]
    owner = wanted.get("workflowOwnerId")
    row = usable(tx, caller, workflow_id, workflow_type=wanted.get("workflowType", "PRIVATE"), owner_id=owner)
    if row is None:
        look = _where_to_look(caller, owner or caller.account)
        raise ResourceNotFoundException(f"Workflow {workflow_id} not found. {look}")
    if "workflowVersionName" not in wanted:
        _require_active(f"Workflow {workflow_id}", row.status, "GetWorkflow")
        return row, row
    version_name = wanted["workflowVersionName"]
    version = versions.find_version(tx, row.account, row.id, version_name)
    if version is None:
        raise ResourceNotFoundException(
            f"Version {version_name} of workflow {workflow_id} not found. Leave workflowVersionName out to run the workflow "
            "itself; ListWorkflowVersions lists the versions it has."
        )
    _require_active(f"Version {version_name} of workflow {workflow_id}", version.status, "GetWorkflowVersion")
    return row, version


def _where_to_look(caller: Caller, owner: str) -> str:
    if owner != caller.account:
        return (
            f"It is not shared by account {owner}; leave workflowOwnerId out for a workflow of your own. "
            "ListShares with resourceOwner OTHER lists what is shared with you."
        )
    return "ListWorkflows lists yours; Ready2Run workflows need workflowType READY2RUN, others must not have it."


def _require_active(what: str, status: str, operation: str) -> None:
    if not accepts(WorkflowStatus(status), WorkflowEvent.RUN_STARTED):
        remedy = (
            f"wait until {operation} says ACTIVE"
            if status == WorkflowStatus.CREATING
            else "look at its statusMessage and create it anew"
        )
        raise ConflictException(f"{what} is {status} and cannot be run: {remedy}.")
