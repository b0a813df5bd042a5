"""Which waiting runs and tasks start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.domain.admission import PATIENCE_MS, PendingRun, Room, WaitingTask, admit_runs, admit_tasks

GIB = 1 << 30


def pending(run_id: int, priority: int = 0) -> PendingRun:
    return PendingRun(run_id, priority, "DYNAMIC", None)


def waiting(task_id: int, cpus: float = 1, memory_gib: int = 1, *, since_ms: int = 0, priority: int = 0) -> WaitingTask:
    return WaitingTask(task_id, 1, priority, cpus, memory_gib * GIB, since_ms)


@pytest.mark.source("guide")
def test_runs_start_by_priority_then_age() -> None:
    runs = [pending(1), pending(2, 5), pending(3, 5), pending(4)]
    chosen = admit_runs(runs, active=1, max_active=4, has_storage=lambda run: True)
    assert [run.run_id for run in chosen] == [2, 3, 1]


@pytest.mark.source("assumed")
def test_a_run_without_storage_room_lets_others_pass() -> None:
    chosen = admit_runs([pending(1), pending(2)], active=0, max_active=5, has_storage=lambda run: run.run_id == 2)
    assert [run.run_id for run in chosen] == [2]


def test_smaller_tasks_pass_a_large_one_only_for_a_while() -> None:
    tasks = [waiting(1, cpus=4), waiting(2), waiting(3)]
    room = Room(2, 8 * GIB)
    assert [task.task_id for task in admit_tasks(tasks, room, now_ms=PATIENCE_MS)] == [2, 3]
    assert admit_tasks(tasks, room, now_ms=PATIENCE_MS + 1) == []


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 16), st.integers(0, 3)), max_size=30),
    st.integers(0, 2 * PATIENCE_MS),
)
def test_what_starts_fits_and_what_is_left_behind_has_a_reason(shapes: list[tuple[int, int, int]], now_ms: int) -> None:
    tasks = [waiting(number, cpus, gib, priority=priority) for number, (cpus, gib, priority) in enumerate(shapes)]
    tasks.sort(key=lambda task: task.rank)
    room = Room(8, 32 * GIB)
    chosen = admit_tasks(tasks, room, now_ms=now_ms)
    assert sum(task.cpus for task in chosen) <= 8
    assert sum(task.memory_bytes for task in chosen) <= 32 * GIB
    left = room
    for task in chosen:
        left = left.less(task)
    behind = [task for task in tasks if task not in chosen]
    if now_ms <= PATIENCE_MS:
        assert not any(left.holds(task) for task in behind)
