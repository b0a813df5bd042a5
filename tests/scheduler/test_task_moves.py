"""Rows of tasks while the store refuses to write: they wait in order, their runs with them, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest

from runomics.domain.task import TaskEvent, TaskStatus
from runomics.scheduler.task_moves import TaskMoves
from runomics.store import tasks as task_rows
from runomics.store.database import SqliteStore, StoreUnavailable, Tx, next_id
from runomics.store.tasks import NewTask, TaskRow

T = TypeVar("T")
RUN_ID = 7


class Clock:
    """Counts."""

    now = 1_000

    def now_ms(self) -> int:
        self.now += 1
        return self.now


class FullDisk:
    """The real store, which writes nothing while `is_full`."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.is_full = False
        self.tried = threading.Semaphore(0)

    def submit_unhurried(self, work: Callable[[Tx], T]) -> Future[T]:
        if not self.is_full:
            return self._store.submit_unhurried(work)
        refused: Future[T] = Future()
        refused.set_exception(StoreUnavailable("database or disk is full"))
        return refused

    def write(self, work: Callable[[Tx], T]) -> T:
        self.tried.release()
        if self.is_full:
            raise StoreUnavailable("database or disk is full")
        return self._store.write(work)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "database.sqlite")
    yield store
    store.close()


def new_row(store: SqliteStore, key: str) -> TaskRow:
    def unit(tx: Tx) -> TaskRow:
        members: dict[str, Any] = {"cpus": 1, "memory_gib": 1, "created_ms": 1}
        new = NewTask(
            id=next_id(tx, "task"),
            account="1",
            run_id=RUN_ID,
            uuid=key,
            incarnation=1,
            key=key,
            attempt=1,
            name=key,
            **members,
        )
        return task_rows.insert_tasks(tx, [new])[0]

    return store.write(unit)


def found(store: SqliteStore) -> list[tuple[str, TaskStatus, int | None]]:
    rows = store.read(lambda tx: task_rows.tasks_of_run(tx, RUN_ID))
    return [(row.key, row.status, row.stopped_ms) for row in rows]


@pytest.mark.source("assumed")
def test_moves_that_the_disk_refused_are_written_in_order_once_there_is_room(store: SqliteStore) -> None:
    disk, written = FullDisk(store), threading.Semaphore(0)
    moves = TaskMoves(store=disk, clock=Clock(), on_written=lambda run_id: written.release())  # type: ignore[arg-type]
    first, second = new_row(store, "first"), new_row(store, "second")
    first = moves.move(first, TaskEvent.ADMITTED)
    disk.is_full = True
    first = moves.move(first, TaskEvent.STARTED)
    disk.is_full = False
    first = moves.move(first, TaskEvent.SUCCEEDED, stopped_ms=77)
    second = moves.move(second, TaskEvent.ADMITTED)
    assert moves.is_behind(RUN_ID)
    assert not moves.is_behind(RUN_ID + 1)
    assert written.acquire(timeout=10)
    assert not moves.is_behind(RUN_ID)
    assert found(store) == [("first", TaskStatus.COMPLETED, 77), ("second", TaskStatus.STARTING, None)]
    moves.close()


@pytest.mark.source("assumed")
def test_a_disk_that_stays_full_is_tried_again_and_a_close_does_not_wait_for_it(store: SqliteStore) -> None:
    disk = FullDisk(store)
    moves = TaskMoves(store=disk, clock=Clock(), on_written=lambda run_id: None)  # type: ignore[arg-type]
    row = new_row(store, "only")
    disk.is_full = True
    moves.move(row, TaskEvent.ADMITTED)
    assert disk.tried.acquire(timeout=10)
    assert disk.tried.acquire(timeout=10)
    moves.close()
    assert found(store) == [("only", TaskStatus.PENDING, None)]


@pytest.mark.source("assumed")
def test_a_move_that_meets_its_failed_forerunner_in_the_queue_waits_for_it(store: SqliteStore) -> None:
    """The second is submitted before the first one's failure is known: its guard refuses it, and both are written later."""
    disk, written = FullDisk(store), threading.Semaphore(0)
    moves = TaskMoves(store=disk, clock=Clock(), on_written=lambda run_id: written.release())  # type: ignore[arg-type]
    row = new_row(store, "only")
    held: list[Future[Any]] = []
    real = disk.submit_unhurried

    def hold(work: Callable[[Tx], T]) -> Future[T]:
        held.append(Future())
        return held[-1]

    disk.submit_unhurried = hold  # type: ignore[method-assign]
    row = moves.move(row, TaskEvent.ADMITTED)
    moves.move(row, TaskEvent.STARTED)
    disk.submit_unhurried = real  # type: ignore[method-assign]
    held[0].set_exception(StoreUnavailable("database or disk is full"))
    held[1].set_result(False)
    assert written.acquire(timeout=10)
    assert [(key, status) for key, status, _ in found(store)] == [("only", TaskStatus.RUNNING)]
    moves.close()
