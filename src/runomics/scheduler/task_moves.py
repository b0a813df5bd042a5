"""Moves the rows of tasks, in order and without waiting for the commit; runs in the server, called from several threads.

The store's writer keeps the order of what is submitted to it, so nobody has to wait. What it could not keep (the disk is full) stands in
a line here and is written again, in the same order, once a second until it is kept: a row never stays behind its task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from runomics.domain.task import TaskEvent, TaskStatus, advance
from runomics.ports import Clock
from runomics.store import tasks as task_rows
from runomics.store.database import Store, StoreUnavailable, Tx
from runomics.store.tasks import TaskRow

log = structlog.get_logger()

AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Move:
    """A row as it was, what it becomes, and when that happened (UTC epoch ms)."""

    row: TaskRow
    to: TaskStatus
    at_ms: int
    columns: Mapping[str, Any]

    def apply(self, tx: Tx) -> bool:
        return task_rows.apply_task(tx, self.row, self.to, now_ms=self.at_ms, **self.columns)


class TaskMoves:
    """`on_written(run_id)` is called when rows of a run that stood in the line are written; not on the caller's thread."""

    def __init__(self, *, store: Store, clock: Clock, on_written: Callable[[int], None]) -> None:
        self._store = store
        self._clock = clock
        self._on_written = on_written
        self._lock = threading.RLock()
        self._late: list[_Move] = []
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def move(self, row: TaskRow, event: TaskEvent, **columns: Any) -> TaskRow:
        """Move a row; the row as it will be.

        Raises:
            IllegalTaskTransition: the table has no such move.
        """
        return self._write(row, advance(row.status, event), columns)

    def change(self, row: TaskRow, **columns: Any) -> TaskRow:
        """Change columns of a row whose status stays; the row as it will be."""
        return self._write(row, row.status, columns)

    def _write(self, row: TaskRow, to: TaskStatus, columns: Mapping[str, Any]) -> TaskRow:
        move = _Move(row, to, self._clock.now_ms(), columns)
        with self._lock:
            if self._is_late(row.id):
                self._late.append(move)
            else:
                self._store.submit_unhurried(move.apply).add_done_callback(partial(self._answered, move))
        return replace(row, status=to, revision=row.revision + 1, **columns)

    def is_behind(self, run_id: int) -> bool:
        """Whether a row of the run is not what its task is."""
        with self._lock:
            return any(move.row.run_id == run_id for move in self._late)

    def close(self) -> None:
        """Try no more. What was not written is found again in the attempts' directories by the next server."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _is_late(self, task_id: int) -> bool:
        return any(move.row.id == task_id for move in self._late)

    def _answered(self, move: _Move, done: Future[bool]) -> None:
        """On the writer's thread, in the order of submission."""
        error = done.exception()
        if error is None and done.result():
            return
        with self._lock:
            if isinstance(error, StoreUnavailable) or (error is None and self._is_late(move.row.id)):
                self._late.append(move)
                self._try_later()
                return
        if error is not None:
            log.error("task.move_failed", task_id=move.row.id, to=str(move.to), error=str(error))
        else:
            log.error("task.move_refused", task_id=move.row.id, to=str(move.to), revision=move.row.revision)

    def _try_later(self) -> None:
        if self._thread is None and not self._closing.is_set():
            log.warning("task.moves_delayed", task_id=self._late[0].row.id)
            self._thread = threading.Thread(target=self._try_again, name="task-moves", daemon=True)
            self._thread.start()

    def _try_again(self) -> None:
        while not self._closing.wait(AGAIN_SECONDS):
            with self._lock:
                moves = tuple(self._late)
            if self._wrote(moves) and self._took_out(moves):
                return

    def _wrote(self, moves: tuple[_Move, ...]) -> bool:
        try:
            refused = self._store.write(lambda tx: [move for move in moves if not move.apply(tx)])
        except StoreUnavailable:
            return False
        for move in refused:
            log.error("task.move_refused", task_id=move.row.id, to=str(move.to), revision=move.row.revision)
        return True

    def _took_out(self, moves: tuple[_Move, ...]) -> bool:
        """Take what is written out of the line; whether the line is empty, and this thread over."""
        with self._lock:
            del self._late[: len(moves)]
            is_empty = not self._late
            if is_empty:
                self._thread = None
        log.info("task.moves_written", moves=len(moves))
        for run_id in {move.row.run_id for move in moves}:
            self._on_written(run_id)
        return is_empty
