"""Rows that the tests of the store insert, whole but for what a test is about."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from runomics.domain.run import RunState
from runomics.store import runs, tasks
from runomics.store.catalog import NewWorkflow, insert_workflow
from runomics.store.database import Store, Tx, next_id
from runomics.store.runs import NewRun, RunRow
from runomics.store.tasks import NewTask, TaskRow

ACCOUNT = "123456789012"
OTHER_ACCOUNT = "210987654321"


def a_run(run_id: int, **changes: Any) -> NewRun:
    values: dict[str, Any] = {
        "id": run_id,
        "account": ACCOUNT,
        "uuid": f"uuid-{run_id}",
        "workflow_id": 1000000,
        "workflow_type": "PRIVATE",
        "workflow_uuid": "workflow-uuid",
        "engine": "WDL",
        "main": "main.wdl",
        "digest": "sha256:" + "a" * 64,
        "definition_sha256": "a" * 64,
        "storage_type": "STATIC",
        "role_arn": "arn:aws:iam::123456789012:role/omics",
        "started_by": "arn:aws:iam::123456789012:user/dev",
        "output_uri": "s3://bucket/out",
        "run_output_uri": f"s3://bucket/out/{run_id}",
        "log_level": "ALL",
        "retention_mode": "RETAIN",
        "created_ms": 1000,
    }
    return NewRun(**{**values, **changes})


def start(store: Store, **changes: Any) -> RunRow:
    """A PENDING run with the next id."""

    def unit(tx: Tx) -> RunRow:
        run_id = next_id(tx, "run")
        runs.insert_run(tx, a_run(run_id, **changes))
        return loaded(tx, run_id)

    return store.write(unit)


def loaded(tx: Tx, run_id: int) -> RunRow:
    run = runs.load_run(tx, run_id)
    assert run is not None
    return run


def move(store: Store, run: RunRow, to: RunState, *, now_ms: int = 2000, **columns: Any) -> RunRow:
    """`run` moved, as the scheduler would."""

    def unit(tx: Tx) -> RunRow:
        assert runs.apply_run(tx, run, to, now_ms=now_ms, **columns)
        return loaded(tx, run.id)

    return store.write(unit)


def submit_task(store: Store, run_id: int, key: str, **changes: Any) -> TaskRow:
    values: dict[str, Any] = {
        "account": ACCOUNT,
        "run_id": run_id,
        "incarnation": 1,
        "key": key,
        "attempt": 1,
        "name": key,
        "cpus": 2,
        "memory_gib": 4,
        "created_ms": 1500,
    }

    def unit(tx: Tx) -> TaskRow:
        task_id = next_id(tx, "task")
        return tasks.insert_tasks(tx, [NewTask(**{**values, "id": task_id, "uuid": f"uuid-{task_id}", **changes})])[0]

    return store.write(unit)


def create_workflow(store: Store, **changes: Any) -> int:
    def unit(tx: Tx) -> int:
        workflow_id = next_id(tx, "workflow")
        values = {"id": workflow_id, "account": ACCOUNT, "uuid": f"uuid-{workflow_id}", "created_ms": 1000, **changes}
        insert_workflow(tx, NewWorkflow(**values))
        return workflow_id

    return store.write(unit)


def together(store: Store, units: list[Callable[[Tx], Any]]) -> list[Future[Any]]:
    """Queue `units` so that they share one commit: the writer is held until all of them wait. Their futures, done."""
    entered, release = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        assert release.wait(10)

    held = store.submit(hold)
    assert entered.wait(10)
    futures = [store.submit(unit) for unit in units]
    release.set()
    held.result(10)
    for future in futures:
        future.exception(10)
    return futures


def counters(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("select kind, value from counter").fetchall())
