"""Rows of batches: what StartRunBatch inserts, what clients read, what the scheduler loads and applies. Used inside a unit.

The counters of a batch move with its settings (`batch_runs`). Which states its runs are in is counted when somebody asks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson

from runomics.domain.batch import BatchStatus
from runomics.store import statements
from runomics.store.events import add_event
from runomics.store.guard import require_known, update_guarded
from runomics.store.pages import Listing, page
from runomics.store.transaction import Tx

KIND = "run-batch"
"""What a batch is called in counters, wakes and events."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A row of `run_batch`, column by column (the migration says what each is)."""

    id: int
    account: str
    uuid: str
    name: str | None
    status: str
    revision: int
    cancel_wished_ms: int | None
    delete_runs_wished_ms: int | None
    delete_wished_ms: int | None
    workflow_id: int
    run_group_id: int | None
    default_run_setting: str
    inline_settings: str | None
    settings_uri: str | None
    settings_etag: str | None
    total_runs: int | None
    loaded_runs: int
    started_runs: int
    failed_starts: int
    cancelled_runs: int
    failed_cancels: int
    deleted_runs: int
    failed_deletes: int
    started_by: str
    tags: str
    created_ms: int
    submitted_ms: int | None
    processed_ms: int | None
    failed_ms: int | None
    failure_category: str | None
    failure_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """What StartRunBatch decides. It begins as CREATING."""

    id: int
    account: str
    uuid: str
    name: str | None = None
    workflow_id: int
    run_group_id: int | None = None
    default_run_setting: str
    inline_settings: str | None = None
    settings_uri: str | None = None
    settings_etag: str | None = None
    started_by: str
    tags: str = "{}"
    created_ms: int


@dataclass(frozen=True, slots=True)
class RunCounts:
    """How many of a batch's runs are in which state; `deleted` are those that are gone."""

    pending: int
    starting: int
    running: int
    stopping: int
    completed: int
    failed: int
    cancelled: int
    deleted: int


LISTED = ("id", "name", "status", "created_ms", "total_runs", "workflow_id")
"""The columns of a row of `list_batches`, in order."""

APPLIED = frozenset(
    {
        "failed_ms",
        "failure_category",
        "failure_reason",
        "inline_settings",
        "processed_ms",
        "submitted_ms",
        "total_runs",
        "delete_runs_wished_ms",
    }
)
"""What `apply_batch` may set beside the status."""

COLUMNS = statements.columns(BatchRow)
SQL = statements.load("batches", batch=BatchRow)
_LISTING = Listing(
    table="run_batch",
    columns=LISTED,
    always="account = :account and delete_wished_ms is null",
    indexed=frozenset(frozenset(filters) for filters in ((), ("status",), ("name",), ("run_group_id",))),
    texts=frozenset({"name", "status"}),
)


# ---- for operations ----------------------------------------------------------------------------------------------


def insert_batch(tx: Tx, new: NewBatch) -> None:
    """Insert a CREATING batch and its event, and wake the scheduler for it."""
    SQL.insert_batch(tx, **asdict(new))
    row = SQL.load_batch(tx, id=new.id)
    _add_event(tx, BatchRow(*row), status=BatchStatus.CREATING, seq=1, at_ms=new.created_ms)
    tx.wake(KIND, new.id)


def find_batch(tx: Tx, account: str, batch_id: int) -> BatchRow | None:
    """The account's batch; None when it is another's, missing, or wished away."""
    row = SQL.find_batch(tx, account=account, id=batch_id)
    return None if row is None else BatchRow(*row)


def list_batches(
    tx: Tx,
    account: str,
    *,
    after_id: int,
    limit: int,
    status: str | None = None,
    name: str | None = None,
    run_group_id: int | None = None,
) -> tuple[list[tuple[Any, ...]], int | None]:
    """A page of the account's batches, ascending by id, each in the order of `LISTED`; the id to go on after, None at the end."""
    filters = {"status": status, "name": name, "run_group_id": run_group_id}
    return page(tx, _LISTING, scope={"account": account}, filters=filters, after_id=after_id, limit=limit)


def count_runs(tx: Tx, batch: BatchRow) -> RunCounts:
    """The states of the batch's runs in this moment: one walk over their index, 5 ms for 100,000 runs."""
    there: list[int] = list(SQL.count_runs(tx, account=batch.account, batch_id=batch.id))
    return RunCounts(*[*there, batch.started_runs - sum(there)])


def wish_cancel(tx: Tx, account: str, batch_id: int, now_ms: int) -> None:
    """Note that the client wants the batch's runs cancelled, and wake the scheduler. The caller has asked `accepts`."""
    SQL.wish_cancel(tx, account=account, id=batch_id, now_ms=now_ms)
    tx.wake(KIND, batch_id)


def wish_delete_runs(tx: Tx, account: str, batch_id: int, now_ms: int) -> None:
    """Note that the client wants the batch's runs gone, and wake the scheduler. The caller has asked `accepts`."""
    SQL.wish_delete_runs(tx, account=account, id=batch_id, now_ms=now_ms)
    tx.wake(KIND, batch_id)


def wish_delete(tx: Tx, account: str, batch_id: int, now_ms: int) -> None:
    """Note that the client wants the batch gone: for clients it is, from this commit on. The caller has asked `accepts`."""
    SQL.wish_delete(tx, account=account, id=batch_id, now_ms=now_ms)
    tx.wake(KIND, batch_id)


# ---- for the scheduler -------------------------------------------------------------------------------------------


def load_batch(tx: Tx, batch_id: int) -> BatchRow | None:
    """Any account's batch, wished away or not."""
    row = SQL.load_batch(tx, id=batch_id)
    return None if row is None else BatchRow(*row)


def open_batches(tx: Tx) -> list[int]:
    """Batches that wait for the scheduler or for their runs, ascending."""
    return [row[0] for row in SQL.open_batches(tx)]


def apply_batch(tx: Tx, batch: BatchRow, status: BatchStatus, *, now_ms: int, **columns: Any) -> bool:
    """Give `batch`, as it was read, its `status` with `columns`; False, and nothing changed, when it changed meanwhile.

    Raises:
        ValueError: a column that is not in `APPLIED`.
    """
    require_known(columns, APPLIED, what="apply_batch")
    values = {**columns, "status": str(status)}
    if not update_guarded(tx, "run_batch", values, row_id=batch.id, revision=batch.revision, status=batch.status):
        return False
    changed = load_batch(tx, batch.id)
    if changed is not None and status != batch.status:
        _add_event(tx, changed, status=status, seq=changed.revision, at_ms=now_ms)
    return True


def is_still(tx: Tx, batch: BatchRow) -> bool:
    """Whether the batch is in the state that was read, and nobody wished for its end since."""
    now = load_batch(tx, batch.id)
    return now is not None and (now.revision, now.cancel_wished_ms) == (batch.revision, batch.cancel_wished_ms)


def has_open_runs(tx: Tx, batch: BatchRow) -> bool:
    """Whether a run of the batch has not ended."""
    return bool(SQL.has_open_runs(tx, account=batch.account, batch_id=batch.id))


def delete_batch(tx: Tx, batch: BatchRow) -> None:
    """Remove the row of a batch that is wished away and has no settings left."""
    SQL.delete_batch(tx, id=batch.id)


def _add_event(tx: Tx, batch: BatchRow, *, status: BatchStatus, seq: int, at_ms: int) -> None:
    """Source: guide, workflows-batch (RunBatch Status Change; counts are strings)."""
    detail: dict[str, str | None] = {
        "uuid": batch.uuid,
        "batchName": batch.name,
        "totalRuns": None if batch.total_runs is None else str(batch.total_runs),
        "workflowId": str(batch.workflow_id),
        "failureReason": batch.failure_category,
        "failureMessage": batch.failure_reason,
    }
    setting = orjson.loads(batch.default_run_setting)
    for name in ("workflowOwnerId", "workflowVersionName", "cacheId"):
        detail[name] = setting.get(name)
    detail["runCacheBehavior"] = setting.get("cacheBehavior")
    if batch.total_runs is not None:
        detail |= {name: str(count) for name, count in submission_counts(batch).items() if "Start" in name}
    if batch.started_runs:
        detail |= {f"{name}RunCount": str(count) for name, count in asdict(count_runs(tx, batch)).items()}
    text = orjson.dumps({name: value for name, value in detail.items() if value is not None}).decode()
    add_event(
        tx,
        account=batch.account,
        kind=KIND,
        resource_id=batch.id,
        status=str(status),
        seq=seq,
        at_ms=at_ms,
        detail=text,
    )


def submission_counts(batch: BatchRow) -> dict[str, int]:
    """The submissionSummary of the API. What was cancelled before it had its turn waits no longer."""
    had_no_turn = 0 if batch.total_runs is None else batch.total_runs - batch.started_runs - batch.failed_starts
    waiting = 0 if batch.cancel_wished_ms is not None else had_no_turn
    return {
        "successfulStartSubmissionCount": batch.started_runs,
        "failedStartSubmissionCount": batch.failed_starts,
        "pendingStartSubmissionCount": waiting,
        "successfulCancelSubmissionCount": batch.cancelled_runs,
        "failedCancelSubmissionCount": batch.failed_cancels,
        "successfulDeleteSubmissionCount": batch.deleted_runs,
        "failedDeleteSubmissionCount": batch.failed_deletes,
    }
