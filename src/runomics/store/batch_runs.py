"""Rows of the settings of batches, one for each run that is to be: what each became, and how the scheduler works them off. In a unit.

A setting, the run it becomes and the counters of its batch change in one unit, so that each has its turn exactly once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runomics.domain.batch import SubmissionStatus
from runomics.domain.run import CancelRequested, DeleteRequested, accepts
from runomics.store import runs, statements
from runomics.store.batches import BatchRow
from runomics.store.dialect import next_ids
from runomics.store.pages import Listing, page
from runomics.store.runs import NewRun
from runomics.store.transaction import Tx

COUNTER = "batch-run"


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A row of `batch_run` as clients see it."""

    id: int
    run_setting_id: str
    submission_status: str | None
    run_id: int | None
    run_uuid: str | None
    failure_reason: str | None
    failure_message: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something that a batch asks for was not done: the API's name of the error, and its message."""

    reason: str
    message: str


SQL = statements.load("batch_runs")
_LISTING = Listing(
    table="batch_run",
    columns=statements.columns(SettingRow),
    always="batch_id = :batch_id",
    indexed=frozenset(frozenset(filters) for filters in ((), ("submission_status",), ("run_setting_id",), ("run_id",))),
    texts=frozenset({"submission_status", "run_setting_id"}),
)

# ---- for operations ----------------------------------------------------------------------------------------------


def list_settings(
    tx: Tx,
    batch: BatchRow,
    *,
    after_id: int,
    limit: int,
    submission_status: str | None = None,
    run_setting_id: str | None = None,
    run_id: int | None = None,
) -> tuple[list[SettingRow], int | None]:
    """A page of the batch's settings in the order the client gave them; the id to go on after, None at the end."""
    filters = {"submission_status": submission_status, "run_setting_id": run_setting_id, "run_id": run_id}
    scope = {"batch_id": batch.id}
    rows, next_after_id = page(tx, _LISTING, scope=scope, filters=filters, after_id=after_id, limit=limit)
    return [SettingRow(*row) for row in rows], next_after_id


# ---- for the scheduler -------------------------------------------------------------------------------------------


def add_settings(tx: Tx, batch: BatchRow, settings: Sequence[tuple[str, str]]) -> None:
    """Insert the next settings of the batch, each as (runSettingId, JSON text).

    Raises:
        Duplicate: the batch has such a runSettingId already.
    """
    ids = next_ids(tx, COUNTER, len(settings))
    rows = [
        {"id": row_id, "account": batch.account, "batch_id": batch.id, "run_setting_id": name, "setting": text}
        for row_id, (name, text) in zip(ids, settings, strict=True)
    ]
    SQL.insert_settings(tx, rows)
    SQL.count_loaded(tx, id=batch.id, loaded=len(settings))


def waiting_settings(tx: Tx, batch: BatchRow, limit: int) -> list[tuple[int, str]]:
    """The next settings that had no turn yet, each as (row id, JSON text)."""
    return [(row[0], row[1]) for row in SQL.waiting_settings(tx, batch_id=batch.id, limit=limit)]


def settings_of_status(
    tx: Tx, batch: BatchRow, status: SubmissionStatus, *, after_id: int, limit: int
) -> list[tuple[int, int | None]]:
    """Settings with this outcome, each as (row id, run id)."""
    rows = SQL.settings_of_status(tx, batch_id=batch.id, submission_status=str(status), after_id=after_id, limit=limit)
    return [(row[0], row[1]) for row in rows]


def note_submissions(tx: Tx, batch: BatchRow, outcomes: Sequence[tuple[int, NewRun | Refusal]]) -> None:
    """Insert the runs that these settings (row ids) became, and note of each setting what it became."""
    started = [outcome for _, outcome in outcomes if isinstance(outcome, NewRun)]
    SQL.note_submission(tx, [_submission(row_id, outcome) for row_id, outcome in outcomes])
    if started:
        # Late: from here to the commit PostgreSQL lets nobody else count runs of this account.
        runs.insert_runs(tx, started)
    SQL.count_submitted(tx, id=batch.id, started=len(started), failed=len(outcomes) - len(started))


def cancel_waiting(tx: Tx, batch: BatchRow, limit: int) -> int:
    """At most `limit` settings that had no turn will have none any more; how many were found."""
    rows = SQL.waiting_settings(tx, batch_id=batch.id, limit=limit)
    SQL.note_submission(tx, [_noted(row[0], SubmissionStatus.CANCEL_SUCCESS) for row in rows])
    SQL.count_cancelled(tx, id=batch.id, done=len(rows), failed=0)
    return len(rows)


def cancel_runs(tx: Tx, batch: BatchRow, rows: Sequence[tuple[int, int]], now_ms: int) -> None:
    """Wish for the end of these runs, and note of each setting (row id, run id) whether there was one to wish for."""
    outcomes = [(row_id, _cancel(tx, batch, run_id, now_ms)) for row_id, run_id in rows]
    SQL.note_wish(tx, [_wished(row_id, SubmissionStatus.CANCEL_SUCCESS, refusal) for row_id, refusal in outcomes])
    failed = sum(refusal is not None for _, refusal in outcomes)
    SQL.count_cancelled(tx, id=batch.id, done=len(outcomes) - failed, failed=failed)


def delete_runs(tx: Tx, batch: BatchRow, rows: Sequence[tuple[int, int]], now_ms: int) -> None:
    """Wish these runs away, and note of each setting (row id, run id) whether there was one to wish away."""
    outcomes = [(row_id, _delete(tx, batch, run_id, now_ms)) for row_id, run_id in rows]
    SQL.note_wish(tx, [_wished(row_id, SubmissionStatus.DELETE_SUCCESS, refusal) for row_id, refusal in outcomes])
    failed = sum(refusal is not None for _, refusal in outcomes)
    SQL.count_deleted(tx, id=batch.id, done=len(outcomes) - failed, failed=failed)


def wishes_under_way(tx: Tx, limit: int) -> int:
    """How many runs, of whatever batch or none, are about to end or to go because somebody wished it; counted up to `limit`."""
    return len(SQL.runs_being_cancelled(tx, limit=limit)) + len(SQL.runs_being_deleted(tx, limit=limit))


def delete_settings(tx: Tx, batch: BatchRow, limit: int) -> int:
    """Remove at most `limit` settings; how many were there."""
    removed: int = SQL.delete_settings(tx, batch_id=batch.id, limit=limit)
    return removed


# ---- pieces ------------------------------------------------------------------------------------------------------


def _cancel(tx: Tx, batch: BatchRow, run_id: int, now_ms: int) -> Refusal | None:
    run = runs.find_run(tx, batch.account, run_id)
    if run is None:
        return _not_found(run_id)
    if not accepts(run.state, CancelRequested):
        return Refusal("ConflictException", f"Run {run_id} is {run.status} and cannot be cancelled.")
    runs.wish_cancel(tx, batch.account, run_id, now_ms)
    return None


def _delete(tx: Tx, batch: BatchRow, run_id: int, now_ms: int) -> Refusal | None:
    run = runs.find_run(tx, batch.account, run_id)
    if run is None:
        return _not_found(run_id)
    if not accepts(run.state, DeleteRequested):
        return Refusal("ConflictException", f"Run {run_id} is {run.status} and cannot be deleted.")
    runs.wish_delete(tx, batch.account, run_id, now_ms)
    return None


def _not_found(run_id: int) -> Refusal:
    return Refusal("ResourceNotFoundException", f"Run {run_id} not found. It was deleted before.")


def _submission(row_id: int, outcome: NewRun | Refusal) -> dict[str, Any]:
    if isinstance(outcome, NewRun):
        return _noted(row_id, SubmissionStatus.SUCCESS) | {"run_id": outcome.id, "run_uuid": outcome.uuid}
    return _wished(row_id, SubmissionStatus.FAILED, outcome) | {"run_id": None, "run_uuid": None}


def _noted(row_id: int, status: SubmissionStatus) -> dict[str, Any]:
    return {**_wished(row_id, status, None), "run_id": None, "run_uuid": None}


_FAILED = {
    SubmissionStatus.CANCEL_SUCCESS: SubmissionStatus.CANCEL_FAILED,
    SubmissionStatus.DELETE_SUCCESS: SubmissionStatus.DELETE_FAILED,
}


def _wished(row_id: int, status: SubmissionStatus, refusal: Refusal | None) -> dict[str, Any]:
    """The columns of a setting that came to `status`, or to the failure that stands for it."""
    if refusal is None:
        return {"id": row_id, "submission_status": str(status), "failure_reason": None, "failure_message": None}
    return {
        "id": row_id,
        "submission_status": str(_FAILED.get(status, status)),
        "failure_reason": refusal.reason,
        "failure_message": refusal.message,
    }
