"""Rows of tasks: one per attempt of an engine and per try of ours, durable before anything runs. Used inside a unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson

from runomics.domain.task import ENDED, TaskStatus
from runomics.store import statements
from runomics.store.events import add_event
from runomics.store.guard import require_known, update_guarded
from runomics.store.pages import Listing, page
from runomics.store.transaction import Tx


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A row of `task`, column by column (the migration says what each is). `has_log` and `cache_hit` are 0 or 1."""

    id: int
    account: str
    run_id: int
    uuid: str
    incarnation: int
    key: str
    attempt: int
    try_: int
    name: str
    status: TaskStatus
    revision: int
    cpus: int
    memory_gib: int
    gpus: int
    instance_type: str | None
    image: str | None
    image_digest: str | None
    source_image: str | None
    reason: str | None
    exit_code: int | None
    cpu_seconds: float | None
    peak_memory_bytes: int | None
    has_log: int
    cache_hit: int
    cache_s3_uri: str | None
    created_ms: int
    started_ms: int | None
    stopped_ms: int | None
    failure_reason: str | None
    status_message: str | None
    cpus_maximum: float | None
    memory_average_bytes: int | None
    scratch_gib: int | None
    scratch_used_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task that an engine submitted (or that we try again). `try_` counts our tries from 1."""

    id: int
    account: str
    run_id: int
    uuid: str
    incarnation: int
    key: str
    attempt: int
    try_: int = 1
    name: str
    cpus: int
    memory_gib: int
    gpus: int = 0
    instance_type: str | None = None
    image: str | None = None
    image_digest: str | None = None
    source_image: str | None = None
    cache_hit: int = 0
    cache_s3_uri: str | None = None
    created_ms: int


APPLIED = frozenset(
    {
        "cache_hit",
        "cache_s3_uri",
        "cpu_seconds",
        "cpus",
        "cpus_maximum",
        "exit_code",
        "failure_reason",
        "gpus",
        "has_log",
        "image",
        "image_digest",
        "instance_type",
        "memory_average_bytes",
        "memory_gib",
        "peak_memory_bytes",
        "reason",
        "scratch_gib",
        "scratch_used_bytes",
        "source_image",
        "started_ms",
        "status_message",
        "stopped_ms",
    }
)
"""What `apply_task` may set beside the status."""

COLUMNS = statements.columns(TaskRow)
SQL = statements.load("tasks", task=TaskRow)
_STATUS = COLUMNS.index("status")
_LISTING = Listing(
    table="task",
    columns=COLUMNS,
    always="run_id = :run_id",
    indexed=frozenset({frozenset(), frozenset({"status"})}),
    texts=frozenset({"status"}),
)


# ---- for operations ----------------------------------------------------------------------------------------------


def find_task(tx: Tx, account: str, run_id: int, task_id: int) -> TaskRow | None:
    """The task of the account's run; None when there is no such task, or its run is another's or wished away."""
    row = SQL.find_task(tx, account=account, run_id=run_id, id=task_id)
    return None if row is None else _task(row)


def list_tasks(
    tx: Tx, account: str, run_id: int, *, after_id: int, limit: int, status: str | None = None
) -> tuple[list[TaskRow], int | None]:
    """A page of the run's tasks, ascending by id, and the id to go on after, None at the end. Empty for a run the account cannot see."""
    if SQL.has_visible_run(tx, account=account, run_id=run_id) is None:
        return [], None
    rows, next_id = page(
        tx, _LISTING, scope={"run_id": run_id}, filters={"status": status}, after_id=after_id, limit=limit
    )
    return [_task(row) for row in rows], next_id


# ---- for the scheduler -------------------------------------------------------------------------------------------


def insert_tasks(tx: Tx, new: Sequence[NewTask]) -> list[TaskRow]:
    """Insert PENDING tasks and their events; their rows.

    Raises: Duplicate (from the store): (run, incarnation, key, attempt, try) is there already.
    """
    SQL.insert_tasks(tx, [asdict(task) for task in new])
    for task in new:
        add_event(
            tx,
            account=task.account,
            kind="task",
            resource_id=task.id,
            status=TaskStatus.PENDING.value,
            seq=1,
            at_ms=task.created_ms,
            detail=_detail(task.run_id, task.uuid, task.name),
        )
    return [_as_inserted(task) for task in new]


def load_task(tx: Tx, task_id: int) -> TaskRow | None:
    """Any account's task."""
    row = SQL.load_task(tx, id=task_id)
    return None if row is None else _task(row)


def find_task_by_key(tx: Tx, run_id: int, incarnation: int, key: str, attempt: int) -> TaskRow | None:
    """Our latest try of what the engine calls (key, attempt)."""
    row = SQL.find_task_by_key(tx, run_id=run_id, incarnation=incarnation, key=key, attempt=attempt)
    return None if row is None else _task(row)


def open_tasks(tx: Tx, run_id: int | None = None) -> list[TaskRow]:
    """Tasks that have not ended, of one run or of all, by run and id."""
    rows = SQL.open_tasks(tx) if run_id is None else SQL.open_tasks_of_run(tx, run_id=run_id)
    return [_task(row) for row in rows]


def tasks_of_run(tx: Tx, run_id: int) -> list[TaskRow]:
    """All tasks of a run, ascending by id. For the manifest; on a reading thread, since there may be many."""
    return [_task(row) for row in SQL.tasks_of_run(tx, run_id=run_id)]


def apply_task(tx: Tx, task: TaskRow, to: TaskStatus, *, now_ms: int, **columns: Any) -> bool:
    """Move `task`, as it was read, to what `advance` said, with `columns`; False, and nothing changed, when it moved meanwhile.

    Sets `started_ms` at RUNNING and `stopped_ms` at the end unless the columns bring the supervisor's own, and writes the event
    of a new status. `to` may be the status it has, to change columns only.

    Raises:
        ValueError: a column that is not in `APPLIED`.
    """
    require_known(columns, APPLIED, what="apply_task")
    values: dict[str, Any] = {**columns, "status": to.value}
    if to is TaskStatus.RUNNING and task.started_ms is None:
        values.setdefault("started_ms", now_ms)
    if to in ENDED and task.stopped_ms is None:
        values.setdefault("stopped_ms", now_ms)
    if not update_guarded(tx, "task", values, row_id=task.id, revision=task.revision, status=task.status):
        return False
    if to is not task.status:
        add_event(
            tx,
            account=task.account,
            kind="task",
            resource_id=task.id,
            status=to.value,
            seq=task.revision + 1,
            at_ms=now_ms,
            detail=_detail(task.run_id, task.uuid, task.name),
        )
    return True


def _task(row: tuple[Any, ...]) -> TaskRow:
    values = list(row)
    values[_STATUS] = TaskStatus(values[_STATUS])
    return TaskRow(*values)


def _as_inserted(new: NewTask) -> TaskRow:
    absent = dict.fromkeys(field.name for field in fields(TaskRow))
    return TaskRow(**{**absent, **asdict(new), "status": TaskStatus.PENDING, "revision": 1, "has_log": 0})


def _detail(run_id: int, uuid: str, name: str) -> str:
    return orjson.dumps({"runId": str(run_id), "uuid": uuid, "name": name}).decode()
