"""Rows of workflow versions: what CreateWorkflowVersion inserts, what clients read, what registration applies. Used inside a unit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson

from runomics.store import catalog, statements
from runomics.store.events import add_event
from runomics.store.guard import require_known, update_guarded
from runomics.store.pages import Listing, page
from runomics.store.transaction import Tx

KIND = "workflow-version"
"""What a version is called in counters, wakes and events; the id there is the row's."""


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A row of `workflow_version` (the migration says what each column is). `parameter_template`, `tags`, `extra`: JSON text.

    What it has in common with a `WorkflowRow` is called the same.
    """

    id: int
    account: str
    workflow_id: int
    version_name: str
    uuid: str
    description: str | None
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
class NewVersion:
    """What CreateWorkflowVersion decides. It begins as CREATING."""

    id: int
    account: str
    workflow_id: int
    version_name: str
    uuid: str
    description: str | None = None
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


APPLIED = catalog.APPLIED
"""What `apply_version` may set beside the status."""

UPDATED = catalog.UPDATED - {"name"}
"""What a client may change."""

COLUMNS = statements.columns(VersionRow)
SQL = statements.load("versions", version=VersionRow)
_LISTING = Listing(
    table="workflow_version",
    columns=COLUMNS,
    always="account = :account and workflow_id = :workflow_id",
    indexed=frozenset({frozenset()}),
    texts=frozenset(),
)


# ---- for operations ----------------------------------------------------------------------------------------------


def insert_version(tx: Tx, new: NewVersion) -> None:
    """Insert a CREATING version, its event, and wake the scheduler for it.

    Raises:
        Duplicate: the workflow has a version of this name.
    """
    SQL.insert_version(tx, **asdict(new))
    _add_event(tx, new, status="CREATING", seq=1, at_ms=new.created_ms)
    tx.wake(KIND, new.id)


def find_version(tx: Tx, account: str, workflow_id: int, version_name: str) -> VersionRow | None:
    """The version of the account's workflow; None when there is none, or the workflow is another's."""
    row = SQL.find_version(tx, account=account, workflow_id=workflow_id, version_name=version_name)
    return None if row is None else VersionRow(*row)


def list_versions(
    tx: Tx, account: str, workflow_id: int, *, after_id: int, limit: int
) -> tuple[list[VersionRow], int | None]:
    """A page of the versions of the account's workflow, ascending by id, and the id to go on after, None at the end."""
    scope = {"account": account, "workflow_id": workflow_id}
    rows, next_id = page(tx, _LISTING, scope=scope, filters={}, after_id=after_id, limit=limit)
    return [VersionRow(*row) for row in rows], next_id


def count_versions(tx: Tx, account: str, workflow_id: int) -> int:
    """How many versions the account's workflow has, of whatever status."""
    count: int = SQL.count_versions(tx, account=account, workflow_id=workflow_id)
    return count


def find_readme(tx: Tx, account: str, workflow_id: int, version_name: str | None) -> str | None:
    """The README of a version of the account's workflow, or of the workflow itself without a name; None when there is none."""
    if version_name is None:
        workflow = catalog.find_workflow(tx, account, workflow_id)
        return None if workflow is None else workflow.readme
    version = find_version(tx, account, workflow_id, version_name)
    return None if version is None else version.readme


def update_version(tx: Tx, version: VersionRow, **columns: Any) -> bool:
    """Set what the client changed, if the version still is what was read.

    Raises:
        ValueError: a column that is not in `UPDATED`.
    """
    require_known(columns, UPDATED, what="update_version")
    return update_guarded(
        tx, "workflow_version", columns, row_id=version.id, revision=version.revision, status=version.status
    )


def delete_version(tx: Tx, version: VersionRow, *, now_ms: int) -> bool:
    """Remove the version, if it still is what was read, and write its DELETED event. Its runs keep what they need of it."""
    if SQL.delete_version(tx, id=version.id, revision=version.revision) == 0:
        return False
    _add_event(tx, version, status="DELETED", seq=version.revision + 1, at_ms=now_ms)
    return True


# ---- for the scheduler -------------------------------------------------------------------------------------------


def load_version(tx: Tx, version_id: int) -> VersionRow | None:
    """Any account's version."""
    row = SQL.load_version(tx, id=version_id)
    return None if row is None else VersionRow(*row)


def creating_versions(tx: Tx) -> list[int]:
    """Ids of the versions of all accounts that wait to be registered, the oldest first."""
    return [row[0] for row in SQL.creating_versions(tx)]


def apply_version(tx: Tx, version: VersionRow, status: str, *, now_ms: int, **columns: Any) -> bool:
    """Give `version`, as it was read, its `status` with `columns`; False, and nothing changed, when it changed meanwhile.

    Raises:
        ValueError: a column that is not in `APPLIED`.
    """
    require_known(columns, APPLIED, what="apply_version")
    values = {**columns, "status": str(status)}
    if not update_guarded(
        tx, "workflow_version", values, row_id=version.id, revision=version.revision, status=version.status
    ):
        return False
    if status != version.status:
        _add_event(tx, version, status=str(status), seq=version.revision + 1, at_ms=now_ms)
    return True


def _add_event(tx: Tx, version: VersionRow | NewVersion, *, status: str, seq: int, at_ms: int) -> None:
    if not version.account:
        return
    detail = {
        "uuid": version.uuid,
        "workflowId": str(version.workflow_id),
        "workflowVersionName": version.version_name,
    }
    add_event(
        tx,
        account=version.account,
        kind=KIND,
        resource_id=version.id,
        status=status,
        seq=seq,
        at_ms=at_ms,
        detail=orjson.dumps(detail).decode(),
    )
