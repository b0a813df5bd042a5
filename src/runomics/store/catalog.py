"""Rows of workflows: what CreateWorkflow inserts, what clients read, what registration applies. Used inside a unit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson

from runomics.store import statements
from runomics.store.events import add_event
from runomics.store.guard import require_known, update_guarded
from runomics.store.pages import Listing, page
from runomics.store.transaction import Tx


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    """A row of `workflow`, column by column (the migration says what each is). `parameter_template`, `tags`, `extra`: JSON text."""

    id: int
    account: str
    uuid: str
    name: str | None
    description: str | None
    type: str
    status: str
    status_message: str | None
    engine: str | None
    main: str | None
    definition_sha256: str | None
    definition_uri: str | None
    parameter_template: str | None
    template_given: int
    storage_type: str | None
    storage_capacity_gib: int | None
    accelerators: str | None
    tags: str
    extra: str
    readme: str | None
    revision: int
    created_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkflow:
    """What CreateWorkflow decides. It begins as CREATING."""

    id: int
    account: str
    uuid: str
    name: str | None = None
    description: str | None = None
    type: str = "PRIVATE"
    engine: str | None = None
    main: str | None = None
    definition_sha256: str | None = None
    definition_uri: str | None = None
    parameter_template: str | None = None
    template_given: int = 0
    storage_type: str | None = None
    storage_capacity_gib: int | None = None
    accelerators: str | None = None
    tags: str = "{}"
    extra: str = "{}"
    readme: str | None = None
    created_ms: int


APPLIED = frozenset(
    {
        "accelerators",
        "definition_sha256",
        "engine",
        "extra",
        "main",
        "parameter_template",
        "readme",
        "status_message",
        "storage_capacity_gib",
        "storage_type",
    }
)
"""What `apply_workflow` may set beside the status."""

UPDATED = frozenset({"description", "extra", "name", "readme", "storage_capacity_gib", "storage_type", "tags"})
"""What a client may change."""

COLUMNS = statements.columns(WorkflowRow)
SQL = statements.load("catalog", workflow=WorkflowRow)
_LISTING = Listing(
    table="workflow",
    columns=COLUMNS,
    always="account = :account",
    indexed=frozenset({frozenset(), frozenset({"name"}), frozenset({"type"})}),
    texts=frozenset({"name", "type"}),
)


# ---- for operations ----------------------------------------------------------------------------------------------


def insert_workflow(tx: Tx, new: NewWorkflow) -> None:
    """Insert a CREATING workflow, its event, and wake the scheduler for it."""
    SQL.insert_workflow(tx, **asdict(new))
    _add_event(tx, new.account, new.id, status="CREATING", seq=1, at_ms=new.created_ms, uuid=new.uuid)
    tx.wake("workflow", new.id)


def find_workflow(tx: Tx, account: str, workflow_id: int) -> WorkflowRow | None:
    """The account's workflow; None when it is another's or missing."""
    row = SQL.find_workflow(tx, account=account, id=workflow_id)
    return None if row is None else WorkflowRow(*row)


def list_workflows(
    tx: Tx,
    account: str,
    *,
    after_id: int,
    limit: int,
    name: str | None = None,
    type: str | None = None,  # noqa: A002 - the API's member
) -> tuple[list[WorkflowRow], int | None]:
    """A page of the account's workflows, ascending by id, and the id to go on after, None at the end."""
    filters = {"name": name, "type": type}
    rows, next_id = page(tx, _LISTING, scope={"account": account}, filters=filters, after_id=after_id, limit=limit)
    return [WorkflowRow(*row) for row in rows], next_id


def count_workflows(tx: Tx, account: str) -> int:
    """How many workflows the account has, of whatever status."""
    count: int = SQL.count_workflows(tx, account=account)
    return count


def update_workflow(tx: Tx, workflow: WorkflowRow, **columns: Any) -> bool:
    """Set what the client changed, if the workflow still is what was read.

    Raises:
        ValueError: a column that is not in `UPDATED`.
    """
    require_known(columns, UPDATED, what="update_workflow")
    return update_guarded(
        tx, "workflow", columns, row_id=workflow.id, revision=workflow.revision, status=workflow.status
    )


def delete_workflow(tx: Tx, workflow: WorkflowRow, *, now_ms: int) -> bool:
    """Remove the workflow, if it still is what was read, and write its DELETED event. Its runs keep what they need of it."""
    if SQL.delete_workflow(tx, id=workflow.id, revision=workflow.revision) == 0:
        return False
    _add_event(
        tx,
        workflow.account,
        workflow.id,
        status="DELETED",
        seq=workflow.revision + 1,
        at_ms=now_ms,
        uuid=workflow.uuid,
    )
    return True


# ---- for the scheduler -------------------------------------------------------------------------------------------


def load_workflow(tx: Tx, workflow_id: int) -> WorkflowRow | None:
    """Any account's workflow."""
    row = SQL.load_workflow(tx, id=workflow_id)
    return None if row is None else WorkflowRow(*row)


def creating_workflows(tx: Tx) -> list[int]:
    """Ids of the workflows of all accounts that wait to be registered, the oldest first."""
    return [row[0] for row in SQL.creating_workflows(tx)]


def apply_workflow(tx: Tx, workflow: WorkflowRow, status: str, *, now_ms: int, **columns: Any) -> bool:
    """Give `workflow`, as it was read, its `status` with `columns`; False, and nothing changed, when it changed meanwhile.

    Raises:
        ValueError: a column that is not in `APPLIED`.
    """
    require_known(columns, APPLIED, what="apply_workflow")
    values = {**columns, "status": str(status)}
    if not update_guarded(
        tx, "workflow", values, row_id=workflow.id, revision=workflow.revision, status=workflow.status
    ):
        return False
    if status != workflow.status:
        _add_event(
            tx,
            workflow.account,
            workflow.id,
            status=str(status),
            seq=workflow.revision + 1,
            at_ms=now_ms,
            uuid=workflow.uuid,
        )
    return True


def definition_in_use(tx: Tx, sha256: str) -> bool:
    """Whether a workflow, a version or a run still names the definition."""
    return bool(SQL.definition_in_use(tx, sha256=sha256))


def _add_event(tx: Tx, account: str, workflow_id: int, *, status: str, seq: int, at_ms: int, uuid: str) -> None:
    """Nobody is told of Ready2Run workflows: they are no account's."""
    if not account:
        return
    detail = orjson.dumps({"uuid": uuid}).decode()
    add_event(
        tx,
        account=account,
        kind="workflow",
        resource_id=workflow_id,
        status=status,
        seq=seq,
        at_ms=at_ms,
        detail=detail,
    )
