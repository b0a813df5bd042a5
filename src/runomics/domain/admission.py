"""Which waiting runs and tasks may start now: order and fit, nothing else. Pure; used by the scheduler.

Runs go by priority (higher first), then age. Tasks inherit their run's priority. A task that does not fit lets smaller ones pass for
`PATIENCE_MS`; after that nothing behind it starts until it fits, so a large task cannot be starved by a stream of small ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

PATIENCE_MS = 30_000


@dataclass(frozen=True, slots=True)
class PendingRun:
    """A run that waits. `priority` as the client gave it, 0 when it gave none."""

    run_id: int
    priority: int
    storage_type: str
    storage_capacity_gib: int | None

    @property
    def rank(self) -> tuple[int, int]:
        """Smaller starts earlier."""
        return (-self.priority, self.run_id)


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """A task that waits for cpu and memory."""

    task_id: int
    run_id: int
    priority: int
    cpus: float
    memory_bytes: int
    since_ms: int

    @property
    def rank(self) -> tuple[int, int, int]:
        """Smaller starts earlier."""
        return (-self.priority, self.run_id, self.task_id)


@dataclass(frozen=True, slots=True)
class Room:
    """What is free of the host's cpu and memory."""

    cpus: float
    memory_bytes: int

    def holds(self, task: WaitingTask) -> bool:
        return task.cpus <= self.cpus + 1e-9 and task.memory_bytes <= self.memory_bytes

    @property
    def is_used_up(self) -> bool:
        """Whether nothing can start: every task takes some of both."""
        return self.cpus <= 1e-9 or self.memory_bytes <= 0

    def less(self, task: WaitingTask) -> Room:
        return Room(self.cpus - task.cpus, self.memory_bytes - task.memory_bytes)


def admit_runs(
    pending: Iterable[PendingRun], *, active: int, max_active: int, has_storage: Callable[[PendingRun], bool]
) -> list[PendingRun]:
    """The runs to start now, in order. A run without storage room waits and lets others pass.

    Source: guide, monitoring-runs: PENDING runs are ordered by priority, then by age.
    """
    free = max_active - active
    chosen: list[PendingRun] = []
    for run in sorted(pending, key=lambda waiting: waiting.rank):
        if len(chosen) >= free:
            break
        if has_storage(run):
            chosen.append(run)
    return chosen


def waiting_reason(*, active: int, max_active: int, no_storage: str) -> str:
    """Why a PENDING run has not started, in words for its owner. `no_storage` says why its storage cannot be had, "" when it can."""
    if active >= max_active:
        return f"Waiting: {active} of at most {max_active} runs are active."
    if no_storage:
        return f"Waiting for run storage: {no_storage}"
    return "Waiting to be started."


def admit_tasks(waiting: Iterable[WaitingTask], room: Room, *, now_ms: int) -> list[WaitingTask]:
    """The tasks to start now. `waiting` must be sorted by rank; it is looked at no further than there is room."""
    chosen: list[WaitingTask] = []
    for task in waiting:
        if room.is_used_up:
            break
        if room.holds(task):
            chosen.append(task)
            room = room.less(task)
            continue
        if now_ms - task.since_ms > PATIENCE_MS:
            break
    return chosen
