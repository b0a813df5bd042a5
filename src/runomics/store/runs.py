"""Rows of runs: what StartRun inserts, what clients read, what the scheduler loads and applies. Used inside a unit.

Clients' functions take the account and see neither foreign runs nor those with a delete wish; the scheduler's take the id alone.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from runomics.domain.admission import PendingRun
from runomics.domain.run import ENDED, RunPhase, RunState, RunStatus
from runomics.store import account_use, statements
from runomics.store.events import add_event, add_events, run_detail
from runomics.store.guard import require_known, update_guarded
from runomics.store.pages import Listing, page
from runomics.store.transaction import Tx

SANDBOX_SLOTS = 65_535
"""User ids that runs may have. The last of the 65,536 is for inspections."""
DROPPED_AT_ONCE = 10
"""Runs that one new run takes the place of at most: more than one, so that an account with too many comes down to its quota."""
TASKS_PER_DELETE = 1000
"""Task rows removed by one unit: what keeps it under 10 ms."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of `run`, column by column (the migration says what each is). `parameters`, `tags`, `extra`, `resource_digests`: JSON text."""

    id: int
    account: str
    uuid: str
    name: str | None
    status: RunStatus
    phase: RunPhase | None
    outcome: RunStatus | None
    incarnation: int
    revision: int
    cancel_wished_ms: int | None
    delete_wished_ms: int | None
    workflow_id: int
    workflow_type: str
    workflow_name: str | None
    workflow_uuid: str
    workflow_owner_id: str | None
    workflow_version_name: str | None
    source_run_id: int | None
    run_group_id: int | None
    run_cache_id: int | None
    cache_behavior: str | None
    batch_id: int | None
    priority: int | None
    engine: str
    engine_version: str | None
    main: str
    digest: str
    definition_sha256: str
    accelerators: str | None
    parameters: str | None
    storage_type: str
    storage_capacity_gib: int | None
    storage_peak_bytes: int | None
    resource_digests: str | None
    role_arn: str
    started_by: str
    output_uri: str
    run_output_uri: str
    log_level: str
    retention_mode: str
    tags: str
    extra: str
    sandbox_slot: int | None
    configuration_id: int | None
    created_ms: int
    started_ms: int | None
    stopped_ms: int | None
    failure_reason: str | None
    status_message: str | None

    @property
    def state(self) -> RunState:
        """What `advance` takes."""
        return RunState(self.status, self.phase, self.outcome, self.incarnation)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """What StartRun decides; the state, its times and what only running brings are set by the store and the scheduler."""

    id: int
    account: str
    uuid: str
    name: str | None = None
    workflow_id: int
    workflow_type: str
    workflow_name: str | None = None
    workflow_uuid: str
    workflow_owner_id: str | None = None
    workflow_version_name: str | None = None
    source_run_id: int | None = None
    run_group_id: int | None = None
    run_cache_id: int | None = None
    cache_behavior: str | None = None
    batch_id: int | None = None
    configuration_id: int | None = None
    priority: int | None = None
    engine: str
    main: str
    digest: str
    definition_sha256: str
    accelerators: str | None = None
    parameters: str | None = None
    storage_type: str
    storage_capacity_gib: int | None = None
    role_arn: str
    started_by: str
    output_uri: str
    run_output_uri: str
    log_level: str
    retention_mode: str
    tags: str = "{}"
    extra: str = "{}"
    created_ms: int


LISTED = (
    "id",
    "status",
    "workflow_id",
    "batch_id",
    "name",
    "priority",
    "storage_type",
    "storage_capacity_gib",
    "storage_peak_bytes",
    "workflow_version_name",
    "workflow_name",
    "created_ms",
    "started_ms",
    "stopped_ms",
)
"""The columns of a row of `list_runs`, in order."""

APPLIED = frozenset(
    {
        "accelerators",
        "engine",
        "engine_version",
        "failure_reason",
        "main",
        "parameters",
        "resource_digests",
        "sandbox_slot",
        "status_message",
        "storage_capacity_gib",
        "storage_peak_bytes",
        "workflow_name",
    }
)
"""What `apply_run` may set beside the state."""

_LISTING = Listing(
    table="run",
    columns=LISTED,
    always="account = :account and delete_wished_ms is null",
    indexed=frozenset(
        frozenset(filters)
        for filters in (
            (),
            ("status",),
            ("name",),
            ("name", "status"),
            ("run_group_id",),
            ("run_group_id", "status"),
            ("batch_id",),
            ("batch_id", "status"),
        )
    ),
    texts=frozenset({"name", "status"}),
)

COLUMNS = statements.columns(RunRow)
SQL = statements.load("runs", run=RunRow)
_STATE = slice(COLUMNS.index("status"), COLUMNS.index("outcome") + 1)
_INSERTED = statements.columns(NewRun)
_values_of: Callable[[NewRun], tuple[Any, ...]] = operator.attrgetter(*_INSERTED)


# ---- for operations ----------------------------------------------------------------------------------------------


def insert_run(tx: Tx, new: NewRun) -> int:
    """Insert a PENDING run and its event; the scheduler is told that somebody waits ("pending"), not to step it.

    How many runs the account has now: when they are too many, the caller makes room or gives the unit up.
    """
    SQL.insert_run(tx, **dict(zip(_INSERTED, _values_of(new), strict=True)))
    add_event(tx, **_first_event(new))
    tx.wake("pending", new.id)
    return account_use.add_stored_run(tx, new.account)


def insert_runs(tx: Tx, new: Sequence[NewRun]) -> None:
    """`insert_run` for one or more runs of one account at once. The caller has seen that there is room for them."""
    statements.many(SQL.insert_run, tx, [dict(zip(_INSERTED, _values_of(run), strict=True)) for run in new])
    add_events(tx, [_first_event(run) for run in new])
    tx.wake("pending", new[0].id)
    account_use.add_stored_runs(tx, new[0].account, len(new))


def find_run(tx: Tx, account: str, run_id: int) -> RunRow | None:
    """The account's run; None when it is another's, missing, or wished away."""
    row = SQL.find_run(tx, account=account, id=run_id)
    return None if row is None else _run(row)


def list_runs(
    tx: Tx,
    account: str,
    *,
    after_id: int,
    limit: int,
    name: str | None = None,
    run_group_id: int | None = None,
    batch_id: int | None = None,
    status: str | None = None,
) -> tuple[list[tuple[Any, ...]], int | None]:
    """A page of the account's runs, ascending by id, each in the order of `LISTED`; the id to go on after, None at the end.

    A page is short only at the end, or where the filters have no common index: then it may even be empty, with an id to go on.
    """
    filters = {"name": name, "run_group_id": run_group_id, "batch_id": batch_id, "status": status}
    return page(tx, _LISTING, scope={"account": account}, filters=filters, after_id=after_id, limit=limit)


def wish_cancel(tx: Tx, account: str, run_id: int, now_ms: int) -> bool:
    """Note that the client wants the run cancelled, and wake the scheduler; False when the account has no such run.

    The caller has asked `accepts`. A second wish changes nothing.
    """
    if SQL.wish_cancel(tx, account=account, id=run_id, now_ms=now_ms) == 0:
        return False
    tx.wake("run", run_id)
    return True


def wish_delete(tx: Tx, account: str, run_id: int, now_ms: int) -> bool:
    """Note that the client wants the run gone: for clients it is, from this commit on. False when the account has no such run."""
    if SQL.wish_delete(tx, account=account, id=run_id, now_ms=now_ms) == 0:
        return False
    account_use.drop_stored_run(tx, account)
    tx.wake("run", run_id)
    return True


def make_room(tx: Tx, account: str, wanted: int, now_ms: int) -> int:
    """Wish away at most `wanted` ended runs with retention mode REMOVE, the oldest first; how many were.

    They go the way of every deleted run: their tasks with them, and their DELETED event.
    """
    oldest = account_use.removable_runs(tx, account, min(wanted, DROPPED_AT_ONCE))
    return sum(wish_delete(tx, account, run_id, now_ms) for run_id in oldest)


# ---- for the scheduler -------------------------------------------------------------------------------------------


def load_run(tx: Tx, run_id: int) -> RunRow | None:
    """Any account's run, wished away or not."""
    row = SQL.load_run(tx, id=run_id)
    return None if row is None else _run(row)


def pending_runs(tx: Tx, limit: int, full: Iterable[tuple[str, str]] = ()) -> list[PendingRun]:
    """PENDING runs that are in no group and not to be cancelled: highest priority first (none is 0), then the oldest.

    Of all accounts, but for those (account, storage type) that are `full`.
    """
    return [PendingRun(*row) for row in SQL.pending_runs(tx, limit=limit, full=full_text(full))]


def full_text(full: Iterable[tuple[str, str]]) -> str:
    """Accounts and storage types as the statements look for them."""
    return "".join(f"|{account} {storage_type}|" for account, storage_type in full)


def active_run_ids(tx: Tx) -> list[int]:
    """Runs that have been admitted and have not ended, ascending."""
    return [row[0] for row in SQL.active_run_ids(tx)]


def active_run_uuids(tx: Tx) -> list[str]:
    """The uuids of those: whose directories and volumes are to be kept."""
    return [row[0] for row in SQL.active_run_uuids(tx)]


def count_pending(tx: Tx) -> int:
    """How many runs wait to be started."""
    count: int = SQL.count_pending(tx)
    return count


def active_by_quota(tx: Tx) -> Mapping[tuple[str, str], int]:
    """Account and storage type → how many of its runs have been admitted and have not ended; none where there are none."""
    return Counter((account, storage_type) for account, storage_type in SQL.active_quotas(tx))


def count_active(tx: Tx) -> int:
    """How many those are."""
    count: int = SQL.count_active(tx)
    return count


def runs_to_cancel(tx: Tx) -> list[int]:
    """Open runs with a cancel wish, PENDING ones too, ascending."""
    return [row[0] for row in SQL.runs_to_cancel(tx)]


def runs_to_delete(tx: Tx) -> list[int]:
    """Runs with a delete wish that are still here, ascending."""
    return [row[0] for row in SQL.runs_to_delete(tx)]


def apply_run(tx: Tx, run: RunRow, to: RunState, *, now_ms: int, **columns: Any) -> bool:
    """Move `run`, as it was read, to what `advance` said, with `columns`; False, and nothing changed, when it moved meanwhile.

    Sets `started_ms` at the first RUNNING and `stopped_ms` at the end, and writes the event of a new status. `to` may be the
    state it is in, to change columns only.

    Raises:
        ValueError: a column that is not in `APPLIED`.
    """
    require_known(columns, APPLIED, what="apply_run")
    values: dict[str, Any] = {
        **columns,
        "status": to.status.value,
        "phase": None if to.phase is None else to.phase.value,
        "outcome": None if to.outcome is None else to.outcome.value,
        "incarnation": to.incarnation,
    }
    if to.status is RunStatus.RUNNING and run.started_ms is None:
        values["started_ms"] = now_ms
    if to.status in ENDED and run.stopped_ms is None:
        values["stopped_ms"] = now_ms
    if not update_guarded(tx, "run", values, row_id=run.id, revision=run.revision, status=run.status):
        return False
    if run.batch_id is not None and to.status in ENDED:
        tx.wake("run-batch", run.batch_id)
    if to.status is not run.status:
        add_event(
            tx,
            account=run.account,
            kind="run",
            resource_id=run.id,
            status=to.status.value,
            seq=run.revision + 1,
            at_ms=now_ms,
            detail=_detail(
                run.uuid,
                columns.get("failure_reason", run.failure_reason),
                columns.get("status_message", run.status_message),
            ),
        )
    return True


def delete_run(tx: Tx, run: RunRow, *, now_ms: int) -> bool:
    """Remove a run that has ended and is wished away, with its tasks, and write its DELETED event; True once it is gone.

    Long work is many units: of a run with many tasks, one call removes some of them and wakes the scheduler for the next. False
    without a wake: the run is no longer what was read, or nobody wished it away.
    """
    if SQL.is_deletable(tx, id=run.id, revision=run.revision, status=run.status) is None:
        return False
    if SQL.delete_tasks_of_run(tx, run_id=run.id, limit=TASKS_PER_DELETE) == TASKS_PER_DELETE:
        tx.wake("run", run.id)
        return False
    SQL.delete_images_of_run(tx, run_id=run.id)
    SQL.delete_run(tx, id=run.id)
    if run.batch_id is not None:
        tx.wake("run-batch", run.batch_id)
    add_event(
        tx,
        account=run.account,
        kind="run",
        resource_id=run.id,
        status=RunStatus.DELETED.value,
        seq=run.revision + 1,
        at_ms=now_ms,
        # Nothing else knows it any more.
        detail=orjson.dumps(
            run_detail(run.uuid, run.name, run.run_output_uri, run.workflow_id, run.workflow_name)
        ).decode(),
    )
    return True


def used_sandbox_slots(tx: Tx) -> set[int]:
    """Slots that belong to a run, ended or not, until it lets go."""
    return {row[0] for row in SQL.used_sandbox_slots(tx)}


def free_sandbox_slot(tx: Tx) -> int | None:
    """The lowest slot that no run has; None when all are taken. Taken by `apply_run(…, sandbox_slot=…)` in the same unit."""
    used = used_sandbox_slots(tx)
    return next((slot for slot in range(SANDBOX_SLOTS) if slot not in used), None)


def _first_event(new: NewRun) -> dict[str, Any]:
    return {
        "account": new.account,
        "kind": "run",
        "resource_id": new.id,
        "status": RunStatus.PENDING.value,
        "seq": 1,
        "at_ms": new.created_ms,
        "detail": _detail(new.uuid),
    }


def _run(row: tuple[Any, ...]) -> RunRow:
    values = list(row)
    status, phase, outcome = values[_STATE]
    values[_STATE] = (
        RunStatus(status),
        None if phase is None else RunPhase(phase),
        None if outcome is None else RunStatus(outcome),
    )
    return RunRow(*values)


def _detail(uuid: str, failure_reason: str | None = None, status_message: str | None = None) -> str:
    detail = {"uuid": uuid}
    if failure_reason is not None:
        detail["failureReason"] = failure_reason
    if status_message is not None:
        detail["statusMessage"] = status_message
    return orjson.dumps(detail).decode()
