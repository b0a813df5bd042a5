"""Writes how attempts ended: the rest of the log, the row, the sums. In the server, on the threads that settle tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runomics.domain import failures
from runomics.domain.task import Reason, TaskEvent, TaskStatus, end_event
from runomics.domain.usage import task_usage
from runomics.ports import Clock, LogStore, RunStorage, TaskEnd
from runomics.scheduler.task_attempt import Attempt
from runomics.scheduler.task_moves import TaskMoves
from runomics.scheduler.task_totals import TaskTotals


@dataclass(frozen=True, slots=True)
class TaskEnds:
    """Keeps nothing of its own."""

    moves: TaskMoves
    totals: TaskTotals
    storage: RunStorage
    logs: LogStore
    clock: Clock

    def follow_log(self, attempt: Attempt) -> None:
        """Bring what the attempt prints into its log from now on."""
        place = attempt.place
        if place.keeps_logs and attempt.outputs is not None:
            self.logs.follow_task(place.account, attempt.stream, place.volume, *attempt.outputs)

    def write(self, attempt: Attempt, end: TaskEnd) -> None:
        """Bring the attempt's row to its end, after the rest of its log."""
        place = attempt.place
        if attempt.row.status is TaskStatus.STARTING and end.started_ms is not None:
            self.follow_log(attempt)
            attempt.row = self.moves.move(attempt.row, TaskEvent.STARTED, started_ms=end.started_ms)
        self.totals.add(end)
        has_log = place.keeps_logs and self.logs.end_task(place.account, attempt.stream)
        failure = self._failure(attempt, end)
        attempt.row = self.moves.move(
            attempt.row,
            end_event(end.reason),
            reason=str(end.reason),
            exit_code=end.exit_code,
            cpu_seconds=end.cpu_seconds,
            peak_memory_bytes=end.peak_memory_bytes,
            **_usage_columns(end),
            has_log=int(has_log),
            stopped_ms=end.stopped_ms or self.clock.now_ms(),
            failure_reason=None if failure is None else failure.reason,
            status_message=end.message or None if failure is None else failure.message,
        )

    def _failure(self, attempt: Attempt, end: TaskEnd) -> failures.Failure | None:
        usage = None
        if end.reason is Reason.EXIT and attempt.place.storage_capacity_gib is not None:
            usage = self.storage.usage(attempt.place.run_uuid)
        return failures.of_task(
            reason=end.reason,
            name=attempt.row.name,
            task_id=attempt.row.id,
            exit_code=end.exit_code,
            message=end.message,
            memory_gib=attempt.row.memory_gib,
            timeout_seconds=None if attempt.submission is None else attempt.submission.timeout_seconds,
            volume_was_full=usage is not None and usage.was_full,
            code=end.code,
        )


def _usage_columns(end: TaskEnd) -> dict[str, Any]:
    if end.started_ms is None or end.stopped_ms is None or not end.minutes:
        return {}
    usage = task_usage(end.minutes, started_ms=end.started_ms, stopped_ms=end.stopped_ms)
    columns: dict[str, Any] = {
        "cpus_maximum": round(usage.cpus_maximum, 4),
        "memory_average_bytes": usage.memory_average_bytes,
    }
    return columns if end.scratch_used_bytes is None else {**columns, "scratch_used_bytes": end.scratch_used_bytes}
