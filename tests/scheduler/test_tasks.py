"""Task attempts between engine, store and runner: a stand-in runner, the real store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from task_desk import GIB, RUN_ID, Desk, name, wait

from runomics.domain.task import Reason, TaskStatus
from runomics.store import tasks as task_rows


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.tasks.open_run(made.place)
    yield made
    made.tasks.close()
    made.store.close()


def test_a_task_goes_from_its_row_to_its_end(desk: Desk) -> None:
    desk.submit("a", cpus=1.2, memory_bytes=1)
    (row,) = desk.rows()
    assert (row.status, row.cpus, row.memory_gib, row.instance_type) == (TaskStatus.STARTING, 2, 1, "omics.c.large")
    desk.runner.running(name(row))
    desk.runner.ends(name(row), Reason.OK)
    desk.settle()
    (row,) = desk.rows()
    assert (row.status, row.exit_code, row.started_ms, row.stopped_ms) == (TaskStatus.COMPLETED, 0, 2_000, 3_000)
    assert desk.told == [("a", 1, "queued"), ("a", 1, "running"), ("a", 1, "OK")]


def test_the_same_submission_twice_is_one_task(desk: Desk) -> None:
    desk.submit("a")
    desk.submit("a")
    assert len(desk.rows()) == 1
    assert len(desk.runner.started) == 1


def test_tasks_wait_for_room_and_get_it_when_others_end(desk: Desk) -> None:
    for key in "abc":
        desk.submit(key)
    assert len(desk.runner.started) == 2
    desk.runner.ends(name(desk.rows()[0]), Reason.OK)
    assert len(desk.runner.started) == 3


@pytest.mark.source("guide")
def test_a_lost_attempt_is_tried_again_unseen_by_the_engine(desk: Desk) -> None:
    desk.submit("a")
    desk.runner.ends(name(desk.rows()[0]), Reason.LOST, None)
    assert wait(lambda: len(desk.runner.started) == 2)
    second = desk.rows()[1]
    assert (second.try_, second.attempt) == (2, 1)
    desk.runner.ends(name(second), Reason.OK)
    desk.settle()
    assert [row.status for row in desk.rows()] == [TaskStatus.FAILED, TaskStatus.COMPLETED]
    assert [row.failure_reason for row in desk.rows()] == ["SERVICE_ERROR", None]
    assert [what for _, _, what in desk.told if what in Reason.__members__] == ["OK"]


@pytest.mark.source("guide")
def test_after_two_more_tries_the_engine_hears_of_the_loss(desk: Desk) -> None:
    desk.submit("a")
    for number in range(3):
        assert wait(lambda number=number: len(desk.runner.started) == number + 1)
        desk.runner.ends(name(desk.rows()[number]), Reason.RUNTIME, None)
    desk.settle()
    assert len(desk.rows()) == 3
    assert desk.told[-1] == ("a", 1, "RUNTIME")


def test_a_stopped_run_starts_nothing_more_and_ends_what_runs(desk: Desk) -> None:
    for key in "abc":
        desk.submit(key)
    desk.tasks.stop_run(RUN_ID)
    running = desk.rows()[:2]
    assert desk.runner.cancelled == [name(row) for row in running]
    for row in running:
        desk.runner.ends(name(row), Reason.CANCELLED, None)
    desk.submit("late")
    desk.settle()
    assert [row.status for row in desk.rows()] == [TaskStatus.CANCELLED] * 3
    assert desk.told[-1] == ("late", 1, "CANCELLED")


def test_the_engine_may_cancel_a_task_that_waits(desk: Desk) -> None:
    for key in "abc":
        desk.submit(key)
    desk.tasks.cancel(RUN_ID, "c", 1)
    assert ("c", 1, "CANCELLED") in desk.told
    assert desk.runner.cancelled == []


def test_a_new_server_adopts_what_was_started_and_takes_the_rest_again(desk: Desk) -> None:
    for key in "abc":
        desk.submit(key)
    started = dict(desk.runner.started)
    desk.tasks.close()
    desk.runner.started.clear()
    desk.tasks = desk.new_tasks()
    open_rows = desk.store.read(lambda tx: task_rows.open_tasks(tx, RUN_ID))
    desk.tasks.open_run(desk.place, open_rows)
    assert set(desk.runner.started) == set(started)
    for key in "abc":
        desk.submit(key)
    assert len(desk.rows()) == 3
    for row_name in list(started):
        desk.runner.ends(row_name, Reason.OK)
    assert wait(lambda: len(desk.runner.started) == 3)


def test_an_adopted_attempt_whose_start_was_never_written_still_ends(desk: Desk) -> None:
    desk.submit("a")
    (row,) = desk.rows()
    desk.tasks.close()
    desk.store.write(lambda tx: task_rows.apply_task(tx, row, TaskStatus.PENDING, now_ms=1))
    desk.tasks = desk.new_tasks()
    (pending,) = desk.store.read(lambda tx: task_rows.open_tasks(tx, RUN_ID))
    desk.tasks.open_run(desk.place, [pending])
    desk.runner.ends(name(row), Reason.OK)
    desk.settle()
    assert [each.status for each in desk.rows()] == [TaskStatus.COMPLETED]


def test_rows_of_an_engine_that_is_gone_are_cancelled(desk: Desk) -> None:
    desk.submit("a")
    (row,) = desk.rows()
    desk.tasks.open_run(replace(desk.place, incarnation=2), [row])
    desk.settle()
    (row,) = desk.rows()
    assert (row.status, desk.runner.killed) == (TaskStatus.CANCELLED, [name(row)])
    desk.submit("a")
    assert [each.incarnation for each in desk.rows()] == [1, 2]


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("reason", "full", "says"),
    [
        (Reason.EXIT, False, "RUN_TASK_FAILED"),
        (Reason.EXIT, True, "FILE_SYSTEM_OUT_OF_SPACE"),
        (Reason.OOM, False, "OUT_OF_MEMORY_ERROR"),
        (Reason.TIMEOUT, False, "TASK_TIMED_OUT"),
    ],
)
def test_each_end_has_the_reason_of_the_api(desk: Desk, reason: Reason, full: bool, says: str) -> None:
    desk.storage.full = full
    desk.submit("a", timeout_seconds=60)
    desk.runner.ends(name(desk.rows()[0]), reason, 1)
    desk.settle()
    (row,) = desk.rows()
    assert (row.status, row.failure_reason) == (TaskStatus.FAILED, says)
    assert str(row.id) in (row.status_message or "")


@pytest.mark.source("guide")
def test_what_can_never_run_is_refused_with_its_reason(desk: Desk) -> None:
    desk.submit("huge", cpus=500)
    desk.settle()
    assert [row.failure_reason for row in desk.rows()] == ["INVALID_TASK_RESOURCE_VALUE"]
    assert desk.runner.started == {}


@pytest.mark.source("assumed")
def test_a_task_larger_than_the_host_gets_the_host_and_the_run_is_told(desk: Desk) -> None:
    desk.submit("large", cpus=64, memory_bytes=64 * GIB)
    (spec,) = desk.runner.specs.values()
    assert (spec["cpus"], spec["memory_bytes"]) == (2, 4 * GIB)
    assert "64 CPUs" in desk.notes[0]


@pytest.mark.source("assumed")
def test_a_run_without_a_network_is_told_once_that_its_tasks_ask_for_one(desk: Desk) -> None:
    desk.submit("first", network=True)
    desk.submit("second", network=True)
    assert [note for note in desk.notes if "network" in note] == [
        "Task first asks for network access; tasks of this run have none: its networkingMode is RESTRICTED."
    ]


@pytest.mark.source("assumed")
def test_such_a_task_fails_where_the_operator_wants_it_to(desk: Desk) -> None:
    desk.tasks = desk.new_tasks(oversize="fail")
    desk.tasks.open_run(desk.place)
    desk.submit("large", cpus=64)
    desk.settle()
    assert desk.rows()[0].failure_reason == "INVALID_TASK_RESOURCE_VALUE"
