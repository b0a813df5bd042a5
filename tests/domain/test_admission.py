"""Which waiting runs and tasks start."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.domain.admission import (
    PATIENCE_MS,
    GroupLimits,
    GroupRoom,
    GroupUse,
    PendingRun,
    Room,
    RunLine,
    StorageQuotas,
    TaskLine,
    WaitingTask,
    admit_runs,
    admit_tasks,
    waiting_reason,
)

GIB = 1 << 30


def pending(run_id: int, priority: int = 0) -> PendingRun:
    return PendingRun(run_id, priority, "DYNAMIC", None)


def waiting(task_id: int, cpus: float = 1, memory_gib: int = 1, *, since_ms: int = 0, priority: int = 0) -> WaitingTask:
    return WaitingTask(task_id, 1, priority, cpus, memory_gib * GIB, since_ms)


@pytest.mark.source("guide")
def test_runs_start_by_priority_then_age() -> None:
    runs = [pending(1), pending(2, 5), pending(3, 5), pending(4)]
    runs.sort(key=lambda run: run.rank)
    admitted = admit_runs([RunLine(runs)], active=1, max_active=4, has_storage=lambda run: True)
    assert [run.run_id for run in admitted.chosen] == [2, 3, 1]


@pytest.mark.source("guide")
def test_a_full_quota_of_an_account_lets_others_pass() -> None:
    runs = [PendingRun(number, 0, kind, None, who) for number, (who, kind) in enumerate(
        [("a", "STATIC"), ("a", "STATIC"), ("a", "DYNAMIC"), ("b", "STATIC"), ("a", "STATIC"), ("b", "DYNAMIC")]
    )]  # fmt: skip
    quotas = StorageQuotas(static=2)
    active = {("a", "STATIC"): 1, ("b", "DYNAMIC"): 70}
    admitted = admit_runs(
        [RunLine(runs)],
        active=71,
        max_active=100,
        has_storage=lambda run: True,
        places_of=partial(quotas.places, active),
    )
    assert ([run.run_id for run in admitted.chosen], admitted.without_storage, admitted.is_everybody) == (
        [0, 2, 3, 5],
        0,
        True,
    )
    assert (quotas.full(active), quotas.full({("a", "STATIC"): 2, ("b", "STATIC"): 1})) == ([], [("a", "STATIC")])
    assert (bool(quotas), bool(StorageQuotas())) == (True, False)


@pytest.mark.source("assumed")
def test_a_run_without_storage_room_lets_others_pass() -> None:
    admitted = admit_runs(
        [RunLine([pending(1), pending(2)])], active=0, max_active=5, has_storage=lambda run: run.run_id == 2
    )
    assert [run.run_id for run in admitted.chosen] == [2]
    assert (admitted.without_storage, admitted.is_everybody) == (1, True)


def test_smaller_tasks_pass_a_large_one_only_for_a_while() -> None:
    tasks = [waiting(1, cpus=4), waiting(2), waiting(3)]
    room = Room(2, 8 * GIB)
    assert [task.task_id for task in admit_tasks([TaskLine(tasks)], room, now_ms=PATIENCE_MS)] == [2, 3]
    assert admit_tasks([TaskLine(tasks)], room, now_ms=PATIENCE_MS + 1) == []


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 16), st.integers(0, 3)), max_size=30),
    st.integers(0, 2 * PATIENCE_MS),
)
def test_what_starts_fits_and_what_is_left_behind_has_a_reason(shapes: list[tuple[int, int, int]], now_ms: int) -> None:
    tasks = [waiting(number, cpus, gib, priority=priority) for number, (cpus, gib, priority) in enumerate(shapes)]
    tasks.sort(key=lambda task: task.rank)
    room = Room(8, 32 * GIB)
    chosen = admit_tasks([TaskLine(tasks)], room, now_ms=now_ms)
    assert sum(task.cpus for task in chosen) <= 8
    assert sum(task.memory_bytes for task in chosen) <= 32 * GIB
    left = room
    for task in chosen:
        left = left.less(task)
    behind = [task for task in tasks if task not in chosen]
    if now_ms <= PATIENCE_MS:
        assert not any(left.holds(task) for task in behind)


# ---- groups ------------------------------------------------------------------------------------------------------


def room_in_group(cpus: int | None = None, gpus: int | None = None, *, used: int = 0) -> GroupRoom:
    return GroupRoom(GroupLimits(7, 1, max_cpus=cpus, max_gpus=gpus), GroupUse(used, used))


def in_group(task_id: int, cpus: int = 1, *, gpus: int = 0, since_ms: int = 0, priority: int = 0) -> WaitingTask:
    return WaitingTask(task_id, 1, priority, cpus, GIB, since_ms, cpus, gpus)


def ids(tasks: list[WaitingTask]) -> list[int]:
    return [task.task_id for task in tasks]


@pytest.mark.source("guide")
def test_a_group_starts_no_more_runs_than_it_has_places_and_hides_nobody() -> None:
    full = RunLine(iter(lambda: pytest.fail("nobody looks into a full group"), None), places=0)
    grouped = RunLine([pending(1, 9), pending(2, 9), pending(3, 9)], places=2)
    alone = RunLine([pending(4, 5), pending(5)])
    admitted = admit_runs([full, grouped, alone], active=0, max_active=10, has_storage=lambda run: True)
    assert [run.run_id for run in admitted.chosen] == [1, 2, 4, 5]
    assert admitted.is_everybody


def test_a_run_without_storage_takes_no_place_of_its_group() -> None:
    line = RunLine([pending(1), pending(2)], places=1)
    admitted = admit_runs([line], active=0, max_active=10, has_storage=lambda run: run.run_id == 2)
    assert [run.run_id for run in admitted.chosen] == [2]


def test_no_more_runs_are_looked_at_than_was_asked() -> None:
    runs = iter([pending(1), pending(2), pending(3)])
    admitted = admit_runs([RunLine(runs)], active=0, max_active=10, has_storage=lambda run: False, look_at=1)
    assert (admitted.without_storage, admitted.is_everybody) == (1, False)
    assert [run.run_id for run in runs] == [3]


@pytest.mark.source("guide")
def test_the_first_limit_that_holds_a_run_back_is_the_reason_it_is_given() -> None:
    limits = GroupLimits(7, 1, max_runs=2)

    def reason(active: int, active_in_group: int, no_storage: str = "") -> str:
        return waiting_reason(
            active=active, max_active=5, no_storage=no_storage, limits=limits, active_in_group=active_in_group
        )

    assert reason(5, 2) == "Waiting: 5 of at most 5 runs are active."
    assert reason(4, 2, "full") == "Waiting: 2 of at most 2 runs of run group 7 are active (maxRuns)."
    assert reason(4, 1, "full") == "Waiting for run storage: full"
    assert reason(4, 1) == "Waiting to be started."


@pytest.mark.source("guide")
def test_running_tasks_of_a_group_use_no_more_cpus_and_gpus_than_it_has() -> None:
    room = Room(100, 100 * GIB, 100)
    tasks = [in_group(1, 2), in_group(2, 2), in_group(3)]
    assert ids(admit_tasks([TaskLine(tasks, room_in_group(cpus=3))], room, now_ms=0)) == [1, 3]
    with_gpus = [in_group(1, gpus=1), in_group(2, gpus=1), in_group(3)]
    assert ids(admit_tasks([TaskLine(with_gpus, room_in_group(gpus=1))], room, now_ms=0)) == [1, 3]


def test_a_full_group_is_passed_without_a_look_at_who_waits_in_it() -> None:
    full = TaskLine(iter(lambda: pytest.fail("nobody looks into a full group"), None), room_in_group(2, used=2))
    assert ids(admit_tasks([full, TaskLine([waiting(9)])], Room(4, 4 * GIB), now_ms=0)) == [9]


def test_a_large_task_of_a_group_holds_up_its_group_alone_once_it_has_waited_long() -> None:
    grouped = TaskLine([in_group(1, 4, priority=5), in_group(2, priority=5)], room_in_group(4, used=2))
    lines = [grouped, TaskLine([waiting(3)])]
    room = Room(8, 8 * GIB)
    assert ids(admit_tasks(lines, room, now_ms=PATIENCE_MS)) == [2, 3]
    assert ids(admit_tasks(lines, room, now_ms=PATIENCE_MS + 1)) == [3]


def test_the_limit_a_task_waits_for_is_said_in_words() -> None:
    room = room_in_group(4, 2, used=2)
    assert room.missing(in_group(1, 2)) is None
    assert room.missing(in_group(1, 3)) == (
        "Waiting: the running tasks of run group 7 use 2 of its 4 CPUs (maxCpus), and this task asks for 3."
    )
    assert room.missing(in_group(1, 1, gpus=1)) == (
        "Waiting: the running tasks of run group 7 use 2 of its 2 GPUs (maxGpus), and this task asks for 1."
    )


@pytest.mark.source("assumed")
def test_what_a_group_can_never_hold_is_refused_with_the_limit_named() -> None:
    limits = GroupLimits(7, 1, max_cpus=4, max_gpus=1)
    assert limits.refusal(4, 1) is None
    assert "5 CPUs, more than the maxCpus of 4 of run group 7" in (limits.refusal(5, 0) or "")
    assert "2 GPUs, more than the maxGpus of 1 of run group 7" in (limits.refusal(1, 2) or "")


Lines = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 6)),
        st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=8),
    ),
    max_size=5,
)


@given(Lines, st.integers(1, 12))
def test_lines_start_in_rank_order_what_one_line_of_all_would_start(
    shapes: list[tuple[int | None, list[tuple[int, int]]]], cpus: int
) -> None:
    """Against a plain loop over everybody, sorted, with a count for each group."""
    lines, everybody = [], []
    number = 0
    for group, (limit, tasks) in enumerate(shapes):
        made = []
        for asked, priority in tasks:
            number += 1
            made.append(in_group(number, asked, priority=priority))
        made.sort(key=lambda task: task.rank)
        lines.append(
            TaskLine(made, None if limit is None else GroupRoom(GroupLimits(group, 1, max_cpus=limit), GroupUse()))
        )
        everybody += [(task.rank, group, task) for task in made]
    left = {group: 10_000 if limit is None else limit for group, (limit, _) in enumerate(shapes)}
    free, expected = cpus, []
    for _, group, task in sorted(everybody, key=lambda entry: entry[0]):
        if task.requested_cpus <= min(free, left[group]):
            expected.append(task.task_id)
            free -= task.requested_cpus
            left[group] -= task.requested_cpus
    assert ids(admit_tasks(lines, Room(cpus, 1000 * GIB), now_ms=0)) == expected
