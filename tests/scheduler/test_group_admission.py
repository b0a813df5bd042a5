"""Run groups at work: which runs are let in, which tasks start, what ends by its group's clock. Real store, real scheduler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from task_desk import ACCOUNT, GIB, RUN_ID, Clock, Desk, Logs, Storage, name, wait

from databases import open_store
from runomics.domain.admission import GroupLimits, StorageQuotas
from runomics.domain.run import (
    Admitted,
    CancelRequested,
    Failed,
    InputsImported,
    Prepared,
    RunEvent,
    RunStatus,
    StorageReleased,
    advance,
)
from runomics.domain.task import Reason, TaskStatus
from runomics.ports import EngineResult, StorageType, Volume
from runomics.scheduler.groups import Groups
from runomics.scheduler.loop import Kind, LoopPolicy, Scheduler
from runomics.scheduler.run_notes import RunNotes
from runomics.scheduler.run_plan import RunPlans, RunPolicy
from runomics.scheduler.steps import Steps
from runomics.scheduler.transfer import Exported
from runomics.store import groups as group_rows
from runomics.store import runs as run_rows
from runomics.store.database import Store, Tx, next_id, next_ids
from runomics.store.definitions import Definitions
from runomics.store.groups import GroupRow, NewGroup
from runomics.store.runs import NewRun, RunRow

MINUTE_MS = 60_000


def make_group(store: Store, **limits: int) -> int:
    def unit(tx: Tx) -> int:
        group_id = next_id(tx, group_rows.KIND)
        group_rows.insert_group(tx, NewGroup(id=group_id, account=ACCOUNT, created_ms=1, **limits))
        return group_id

    return store.write(unit)


def change_group(store: Store, group_id: int, **limits: int) -> None:
    def unit(tx: Tx) -> None:
        group = group_rows.load_group(tx, group_id)
        assert group is not None
        group_rows.update_group(tx, group, **limits)

    store.write(unit)


def limits_of(store: Store, group_id: int) -> GroupLimits:
    group = store.read(lambda tx: group_rows.load_group(tx, group_id))
    assert isinstance(group, GroupRow)
    return group.limits


def make_runs(store: Store, count: int = 1, **changes: Any) -> list[int]:
    """PENDING runs, as StartRun makes them."""
    values: dict[str, Any] = {
        "account": ACCOUNT,
        "workflow_id": 1,
        "workflow_type": "PRIVATE",
        "workflow_uuid": "w",
        "engine": "WDL",
        "main": "main.wdl",
        "digest": "sha256:a",
        "definition_sha256": "a" * 64,
        "storage_type": "DYNAMIC",
        "role_arn": "arn:aws:iam::123456789012:role/r",
        "started_by": "arn:aws:iam::123456789012:user/u",
        "output_uri": "s3://bucket",
        "run_output_uri": "s3://bucket/1",
        "log_level": "ALL",
        "retention_mode": "RETAIN",
        "created_ms": 1,
        **changes,
    }

    def unit(tx: Tx) -> list[int]:
        first = next_ids(tx, "run", count)[0]
        made = list(range(first, first + count))
        for run_id in made:
            run_rows.insert_run(tx, NewRun(id=run_id, uuid=f"uuid-{run_id}", **values))
        return made

    return store.write(unit)


def run_row(store: Store, run_id: int) -> RunRow:
    row = store.read(lambda tx: run_rows.load_run(tx, run_id))
    assert row is not None
    return row


def happen(store: Store, run_id: int, *events: RunEvent, now_ms: int = 1) -> None:
    """What steps would have made of the run."""
    for event in events:
        row = run_row(store, run_id)
        assert store.write(
            lambda tx, row=row, event=event: run_rows.apply_run(tx, row, advance(row.state, event), now_ms=now_ms)
        )


# ---- runs --------------------------------------------------------------------------------------------------------


class House:
    """A scheduler that admits and steps nothing further."""

    def __init__(self, directory: Path, *, max_active: int = 100, quotas: StorageQuotas | None = None) -> None:
        self.store = open_store(directory / "database.sqlite")
        self.limits: list[GroupLimits] = []
        self.woken: list[int] = []
        self.scheduler = Scheduler(
            store=self.store,
            clock=Clock(),
            policy=LoopPolicy(max_active_runs=max_active, quotas=quotas or StorageQuotas()),
            has_room=lambda storage_type, capacity_gib: (True, ""),
        )
        self.groups = Groups(
            self.store, set_limits=self.limits.append, wake=self.woken.append, admit=self.scheduler.run_ended
        )

    def open(self) -> None:
        self.store.set_on_wake(self.scheduler.woken)
        self.scheduler.start(
            {"run": Kind(lambda run_id: None, lambda tx: ()), group_rows.KIND: Kind(self.groups.step, lambda tx: ())}
        )

    def close(self) -> None:
        self.store.set_on_wake(None)
        self.scheduler.stop()
        self.store.close()

    def started(self) -> list[int]:
        return self.store.read(run_rows.active_run_ids)

    def ends(self, run_id: int) -> None:
        happen(self.store, run_id, Failed("SERVICE_ERROR", "the test says so"), StorageReleased())
        self.scheduler.run_ended()

    def starts(self, expected: Sequence[int]) -> None:
        """These are active soon, and nobody else."""
        assert wait(lambda: self.started() == sorted(expected)), self.started()


@pytest.mark.source("guide")
def test_an_account_has_as_many_active_runs_of_a_storage_type_as_its_quota_and_others_go_on(
    tmp_path: Path, database_kind: str
) -> None:
    house = House(tmp_path, quotas=StorageQuotas(static=2, dynamic=1))
    try:
        group_id = make_group(house.store)
        static = make_runs(house.store, 300, storage_type="STATIC")
        grouped = make_runs(house.store, 300, storage_type="STATIC", run_group_id=group_id)
        dynamic = make_runs(house.store, 2, storage_type="DYNAMIC")
        theirs = make_runs(house.store, 2, storage_type="STATIC", account="210987654321", priority=-5)
        house.open()
        house.starts([*static[:2], dynamic[0], *theirs])
        reasons = [
            house.scheduler.waiting_reason(run_row(house.store, run_id))
            for run_id in (static[2], grouped[0], dynamic[1])
        ]
        account = run_row(house.store, static[0]).account
        assert reasons == [
            f"Waiting: 2 of at most 2 STATIC runs of account {account} are active.",
            f"Waiting: 2 of at most 2 STATIC runs of account {account} are active.",
            f"Waiting: 1 of at most 1 DYNAMIC runs of account {account} are active.",
        ]
        house.ends(dynamic[0])
        house.ends(static[0])
        house.starts([*static[1:3], dynamic[1], *theirs])
        (newcomer,) = make_runs(house.store, storage_type="DYNAMIC", account="210987654321")
        # The look that time brings: it stands still here.
        house.scheduler.run_ended()
        house.starts([*static[1:3], dynamic[1], *theirs, newcomer])
    finally:
        house.close()


@pytest.fixture
def house(tmp_path: Path, database_kind: str) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


@pytest.mark.source("guide")
def test_a_group_has_as_many_active_runs_as_it_may_and_lets_the_next_in_when_one_ends(house: House) -> None:
    group_id = make_group(house.store, max_runs=2)
    first, second, third = make_runs(house.store, 3, run_group_id=group_id)
    (alone,) = make_runs(house.store)
    house.open()
    house.starts([first, second, alone])
    assert house.scheduler.waiting_reason(run_row(house.store, third)) == (
        f"Waiting: 2 of at most 2 runs of run group {group_id} are active (maxRuns)."
    )
    house.ends(first)
    house.starts([second, third, alone])


@pytest.mark.source("guide")
def test_within_a_group_the_highest_priority_goes_first_and_then_the_oldest(house: House) -> None:
    group_id = make_group(house.store, max_runs=1)
    (low,) = make_runs(house.store, run_group_id=group_id)
    (high,) = make_runs(house.store, run_group_id=group_id, priority=7)
    (also_high,) = make_runs(house.store, run_group_id=group_id, priority=7)
    house.open()
    for expected in (high, also_high, low):
        house.starts([expected])
        house.ends(expected)
    house.starts([])


def test_runs_that_wait_in_a_full_group_hide_nobody(house: House) -> None:
    """They are of higher priority and far more than are looked at in one round."""
    full = make_group(house.store, max_runs=1)
    roomy = make_group(house.store)
    crowd = make_runs(house.store, 1_000, run_group_id=full, priority=100_000)
    other = make_runs(house.store, 2, run_group_id=roomy)
    alone = make_runs(house.store, 2)
    house.open()
    house.starts([crowd[0], *other, *alone])


def test_the_host_s_limit_comes_before_the_group_s(tmp_path: Path) -> None:
    house = House(tmp_path, max_active=1)
    group_id = make_group(house.store, max_runs=1)
    alone, grouped = make_runs(house.store)[0], make_runs(house.store, run_group_id=group_id)[0]
    house.open()
    house.starts([alone])
    assert house.scheduler.waiting_reason(run_row(house.store, grouped)) == "Waiting: 1 of at most 1 runs are active."
    house.ends(alone)
    house.starts([grouped])
    house.close()


def test_a_higher_limit_lets_more_in_at_once_and_a_lower_one_ends_nothing(house: House) -> None:
    group_id = make_group(house.store, max_runs=1)
    first, second, third = make_runs(house.store, 3, run_group_id=group_id)
    house.open()
    house.starts([first])
    change_group(house.store, group_id, max_runs=2)
    house.starts([first, second])
    change_group(house.store, group_id, max_runs=1, max_duration_minutes=5)
    assert wait(lambda: [limits.revision for limits in house.limits] == [2, 3])
    house.ends(first)
    (alone,) = make_runs(house.store)
    house.starts([second, alone])
    assert run_row(house.store, third).status is RunStatus.PENDING
    assert wait(lambda: set(house.woken) >= {first, second})


def test_a_run_that_is_to_be_cancelled_is_not_let_in(house: House) -> None:
    group_id = make_group(house.store, max_runs=1)
    cancelled, next_one = make_runs(house.store, 2, run_group_id=group_id)
    (alone,) = make_runs(house.store)
    for run_id in (cancelled, alone):
        house.store.write(lambda tx, run_id=run_id: run_rows.wish_cancel(tx, ACCOUNT, run_id, 5))
    house.open()
    house.starts([next_one])
    happen(house.store, alone, CancelRequested())
    assert run_row(house.store, cancelled).status is RunStatus.PENDING


def test_a_new_scheduler_counts_what_the_last_one_let_in(house: House) -> None:
    group_id = make_group(house.store, max_runs=2)
    first, second, third = make_runs(house.store, 3, run_group_id=group_id)
    happen(house.store, third, Admitted())
    house.open()
    house.starts([first, third])
    assert run_row(house.store, second).status is RunStatus.PENDING


def test_a_look_at_a_full_group_costs_the_same_however_many_wait_in_it(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine, not in time."""

    def steps(count: int) -> int:
        directory = tmp_path / str(count)
        directory.mkdir()
        store = open_store(directory / "database.sqlite")
        group_id = make_group(store, max_runs=1)
        make_runs(store, count, run_group_id=group_id, priority=9)
        make_runs(store, 3)
        happen(store, make_runs(store, run_group_id=group_id)[0], Admitted())
        scheduler = Scheduler(
            store=store, clock=Clock(), policy=LoopPolicy(max_active_runs=50), has_room=lambda *_: (True, "")
        )
        taken = 0

        def count_step() -> int:
            nonlocal taken
            taken += 1
            return 0

        def look(tx: Tx) -> int:
            tx.connection.set_progress_handler(count_step, 1)
            admitted = scheduler._chosen(tx)
            tx.connection.set_progress_handler(None, 0)
            assert admitted is not None
            return len(admitted.chosen)

        assert store.read(look) == 3
        store.close()
        return taken

    few, many = steps(10), steps(2_000)
    assert few > 0
    assert many <= few + 20


# ---- tasks -------------------------------------------------------------------------------------------------------


class Hall(Desk):
    """Tasks of several runs, some of them in groups, on a host with 16 CPUs."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.tasks.close()
        self.directory = directory
        self.tasks = self.new_tasks(host_cpus=16, host_memory_bytes=64 * GIB)

    def open_run(self, run_id: int, limits: GroupLimits | None = None, *, priority: int = 0) -> None:
        self.tasks.open_run(self.place_of(run_id, limits, priority=priority), self.open_rows(run_id))

    def place_of(self, run_id: int, limits: GroupLimits | None, *, priority: int = 0) -> Any:
        return replace(
            self.place,
            run_id=run_id,
            run_uuid=f"uuid-{run_id}",
            run_directory=self.directory / str(run_id),
            group=limits,
            priority=priority,
        )

    def open_rows(self, run_id: int) -> list[Any]:
        return [row for row in self.rows(run_id) if row.status in (TaskStatus.STARTING, TaskStatus.RUNNING)]

    def running(self) -> list[str]:
        """The keys of what was started and has not ended, as far as this server knows."""
        live = []
        for run_id in (RUN_ID, RUN_ID + 1, RUN_ID + 2):
            live += [row.key for row in self.rows(run_id) if row.status in (TaskStatus.STARTING, TaskStatus.RUNNING)]
        return sorted(live)

    def ends(self, key: str, run_id: int = RUN_ID) -> None:
        (row,) = [each for each in self.rows(run_id) if each.key == key and each.status is TaskStatus.STARTING]
        self.runner.ends(name(row), Reason.OK)

    def row(self, key: str, run_id: int = RUN_ID) -> Any:
        return next(each for each in self.rows(run_id) if each.key == key)


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    made = Hall(tmp_path)
    yield made
    made.tasks.close()
    made.store.close()


FOUR = GroupLimits(7, 1, max_cpus=4)


@pytest.mark.source("guide")
def test_tasks_of_all_runs_of_a_group_share_its_cpus(hall: Hall) -> None:
    hall.open_run(RUN_ID, FOUR)
    hall.open_run(RUN_ID + 1, FOUR)
    hall.open_run(RUN_ID + 2)
    hall.submit("a", cpus=3)
    hall.submit("b", cpus=2, run_id=RUN_ID + 1)
    hall.submit("c", cpus=1, run_id=RUN_ID + 1)
    hall.submit("alone", cpus=10, run_id=RUN_ID + 2)
    assert wait(lambda: hall.running() == ["a", "alone", "c"])
    assert hall.tasks.waiting_reason(hall.row("b", RUN_ID + 1)) == (
        "Waiting: the running tasks of run group 7 use 4 of its 4 CPUs (maxCpus), and this task asks for 2."
    )
    assert hall.tasks.waiting_reason(hall.row("a")) is None
    hall.ends("a")
    assert wait(lambda: hall.running() == ["alone", "b", "c"])


@pytest.mark.source("guide")
def test_tasks_of_a_group_start_by_their_run_s_priority(hall: Hall) -> None:
    hall.open_run(RUN_ID, FOUR)
    hall.open_run(RUN_ID + 1, FOUR, priority=5)
    hall.submit("first", cpus=4)
    hall.submit("low", cpus=4)
    hall.submit("high", cpus=4, run_id=RUN_ID + 1)
    hall.ends("first")
    assert wait(lambda: hall.running() == ["high"])


def test_a_task_that_waits_for_the_host_says_so(hall: Hall) -> None:
    hall.open_run(RUN_ID, FOUR)
    hall.open_run(RUN_ID + 2)
    hall.submit("large", cpus=16, run_id=RUN_ID + 2)
    hall.submit("a", cpus=1)
    assert hall.tasks.waiting_reason(hall.row("a")) == "Waiting for 1 CPUs (0 are free) on this server."


@pytest.mark.source("assumed")
def test_a_task_larger_than_its_group_fails_and_says_so(hall: Hall) -> None:
    hall.open_run(RUN_ID, FOUR)
    hall.submit("a", cpus=5)
    hall.settle()
    row = hall.row("a")
    assert (row.status, row.failure_reason) == (TaskStatus.FAILED, "INVALID_TASK_RESOURCE_VALUE")
    assert f"It asks for {row.cpus} CPUs, more than the maxCpus of 4 of run group 7." in row.status_message
    assert ("a", 1, "REFUSED") in hall.told


@pytest.mark.source("assumed")
def test_new_limits_start_what_they_allow_and_fail_what_they_never_will(hall: Hall) -> None:
    hall.open_run(RUN_ID, FOUR)
    for key, cpus in (("a", 4), ("b", 4), ("c", 2)):
        hall.submit(key, cpus=cpus)
    assert wait(lambda: hall.running() == ["a"])
    hall.tasks.set_limits(GroupLimits(7, 2, max_cpus=2))
    assert wait(lambda: hall.row("b").status is TaskStatus.FAILED)
    assert "more than the maxCpus of 2 of run group 7" in hall.row("b").status_message
    hall.tasks.set_limits(GroupLimits(7, 3, max_cpus=6))
    assert wait(lambda: hall.running() == ["a", "c"])


def test_older_limits_that_come_late_change_nothing(hall: Hall) -> None:
    hall.tasks.set_limits(GroupLimits(7, 2, max_cpus=8))
    hall.open_run(RUN_ID, FOUR)
    hall.submit("a", cpus=8)
    assert wait(lambda: hall.running() == ["a"])


def test_a_stopped_run_gives_its_cpus_back_to_its_group(hall: Hall) -> None:
    hall.open_run(RUN_ID, FOUR)
    hall.open_run(RUN_ID + 1, FOUR)
    hall.submit("a", cpus=4)
    hall.submit("queued", cpus=4)
    hall.submit("b", cpus=4, run_id=RUN_ID + 1)
    hall.tasks.stop_run(RUN_ID)
    (row,) = [each for each in hall.rows() if each.key == "a"]
    hall.runner.ends(name(row), Reason.CANCELLED, None)
    assert wait(lambda: hall.running() == ["b"])
    hall.settle()
    assert hall.row("queued").status is TaskStatus.CANCELLED


def test_a_task_that_is_tried_again_is_counted_once(hall: Hall) -> None:
    hall.open_run(RUN_ID, FOUR)
    hall.submit("a", cpus=4)
    hall.submit("b", cpus=4)
    hall.runner.ends(name(hall.row("a")), Reason.LOST, None)
    assert wait(lambda: len(hall.rows()) == 3)
    assert wait(lambda: hall.running() == ["b"])
    hall.ends("b")
    assert wait(lambda: hall.running() == ["a"])
    assert len(hall.runner.started) == 3


def test_a_new_server_counts_the_tasks_it_adopts(hall: Hall) -> None:
    hall.open_run(RUN_ID, FOUR)
    hall.submit("a", cpus=3)
    hall.tasks.close()
    hall.tasks = hall.new_tasks(host_cpus=16, host_memory_bytes=64 * GIB)
    hall.open_run(RUN_ID, FOUR)
    hall.open_run(RUN_ID + 1, FOUR)
    hall.submit("b", cpus=2, run_id=RUN_ID + 1)
    assert "use 3 of its 4 CPUs" in (hall.tasks.waiting_reason(hall.row("b", RUN_ID + 1)) or "")
    hall.ends("a")
    assert wait(lambda: hall.running() == ["b"])


def test_a_group_whose_runs_have_all_ended_is_forgotten(hall: Hall) -> None:
    hall.open_run(RUN_ID, FOUR)
    hall.submit("a", cpus=4)
    hall.ends("a")
    hall.settle()
    hall.tasks.close_run(RUN_ID)
    hall.open_run(RUN_ID + 1, GroupLimits(7, 1, max_cpus=8))
    hall.submit("b", cpus=8, run_id=RUN_ID + 1)
    assert wait(lambda: hall.running() == ["b"])


# ---- the clock of a run ------------------------------------------------------------------------------------------


class Engines:
    """One that runs until it is stopped."""

    def __init__(self) -> None:
        self.stopped = False

    def start(self, run_directory: Path, on_end: Any) -> None:
        self.on_end = on_end

    def stop(self, run_directory: Path, *, kill: bool) -> None:
        if not self.stopped:
            self.stopped = True
            self.on_end(run_directory)

    def result(self, run_directory: Path, incarnation: int) -> EngineResult | None:
        return None

    def is_alive(self, run_directory: Path) -> bool:
        return not self.stopped


class Volumes(Storage):
    def find(self, run_uuid: str) -> Volume | None:
        return Volume(run_uuid, "directory", StorageType.DYNAMIC, None, Path("/nowhere"))

    def create(self, run_uuid: str, storage_type: StorageType, capacity_gib: int | None, uid: int) -> Volume:
        return Volume(run_uuid, "directory", storage_type, capacity_gib, Path("/nowhere"))


class Lines(Logs):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def append(self, account: str, stream: str, lines: Any) -> None:
        if stream.startswith("run/"):
            self.said += [text for _, text in lines]


class Stage:
    """Steps over the real store, with an engine that never ends by itself."""

    def __init__(self, directory: Path) -> None:
        (directory / "runs").mkdir()
        self.hall = Hall(directory)
        self.store, self.clock = self.hall.store, self.hall.clock
        self.logs, self.engines = Lines(), Engines()
        self.timers: list[int] = []
        transfers = SimpleNamespace(
            forget=lambda directory: None,
            export=lambda job, done, **_: done(Exported()),
            import_inputs=lambda *args, **_: None,
        )
        self.steps = Steps(
            store=self.store,
            plans=RunPlans(
                store=self.store,
                definitions=Definitions(directory / "definitions"),
                access=cast("Any", SimpleNamespace(of_run=lambda *_: None, role_failure=lambda *_: None)),
                policy=RunPolicy(region="us-east-1", data_directory=directory, rootless=True, sandbox_uid_base=0),
            ),
            notes=RunNotes(self.logs, self.clock),
            storage=Volumes(),
            engines=cast("Any", self.engines),
            transfers=cast("Any", transfers),
            tasks=self.hall.tasks,
            gateway=cast("Any", SimpleNamespace(open=lambda *_: None, close=lambda *_: None)),
            logs=self.logs,
            clock=self.clock,
            wake=lambda run_id: None,
            wake_at=lambda run_id, at_ms: self.timers.append(at_ms),
            on_ended=lambda: None,
        )
        self.directory = directory

    def executing(self, **changes: Any) -> int:
        """A run that has begun to run at 0."""
        (run_id,) = make_runs(self.store, **changes)
        happen(self.store, run_id, Admitted(), Prepared(), InputsImported(), now_ms=0)
        folder = self.directory / "runs" / f"uuid-{run_id}"
        folder.mkdir()
        (folder / "staged.json").write_text("{}")
        return run_id

    def at_minute(self, minutes: float, run_id: int) -> RunRow:
        self.clock.now = int(minutes * MINUTE_MS)
        self.steps.step(run_id)
        return run_row(self.store, run_id)

    def close(self) -> None:
        self.hall.tasks.close()
        self.store.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


@pytest.mark.source("guide")
def test_a_run_that_takes_longer_than_its_group_allows_times_out(stage: Stage) -> None:
    group_id = make_group(stage.store, max_duration_minutes=10)
    run_id = stage.executing(run_group_id=group_id)
    assert stage.at_minute(9.9, run_id).status is RunStatus.RUNNING
    assert stage.timers[-1] == 10 * MINUTE_MS
    ended = stage.at_minute(10, run_id)
    assert (ended.status, ended.failure_reason) == (RunStatus.FAILED, "RUN_TIMED_OUT")
    assert ended.status_message == f"Run timed out after 10 minutes, the maxDuration of run group {group_id}."
    assert stage.engines.stopped


@pytest.mark.source("assumed")
def test_a_changed_max_duration_counts_for_runs_that_run(stage: Stage) -> None:
    group_id = make_group(stage.store, max_duration_minutes=10)
    run_id = stage.executing(run_group_id=group_id)
    change_group(stage.store, group_id, max_duration_minutes=20)
    assert stage.at_minute(19, run_id).status is RunStatus.RUNNING
    assert stage.timers[-1] == 20 * MINUTE_MS
    change_group(stage.store, group_id, max_duration_minutes=5)
    ended = stage.at_minute(19, run_id)
    assert (ended.status, ended.failure_reason) == (RunStatus.FAILED, "RUN_TIMED_OUT")


def test_the_service_s_own_limit_stays_where_the_group_allows_more(stage: Stage) -> None:
    group_id = make_group(stage.store, max_duration_minutes=100_000)
    grouped, alone = stage.executing(run_group_id=group_id), stage.executing()
    for run_id in (grouped, alone):
        assert stage.at_minute(1, run_id).status is RunStatus.RUNNING
    assert stage.timers == [604_800_000] * 2
    ended = stage.at_minute(10_080, grouped)
    assert ended.status_message == "Run timed out after 10080 minutes."


def test_an_executing_run_brings_its_group_s_limits_to_its_tasks(stage: Stage) -> None:
    group_id = make_group(stage.store, max_cpus=2)
    run_id = stage.executing(run_group_id=group_id)
    stage.at_minute(1, run_id)
    stage.hall.submit("a", cpus=3, run_id=run_id)
    stage.hall.settle(run_id)
    assert stage.hall.row("a", run_id).failure_reason == "INVALID_TASK_RESOURCE_VALUE"
    assert limits_of(stage.store, group_id) == GroupLimits(group_id, 1, max_cpus=2)


@pytest.mark.parametrize("cached", [True, False])
def test_a_run_that_names_a_cache_says_in_its_log_that_nothing_is_cached(stage: Stage, cached: bool) -> None:
    (run_id,) = make_runs(stage.store, run_cache_id=1_000_000 if cached else None)
    happen(stage.store, run_id, Admitted())
    row = run_row(stage.store, run_id)
    tree = stage.directory / "definitions" / row.definition_sha256 / "tree"
    tree.mkdir(parents=True)
    (tree / "main.wdl").write_text("version 1.0")
    stage.steps.step(run_id)
    assert run_row(stage.store, run_id).status is RunStatus.RUNNING
    said = [line for line in stage.logs.said if "run cache" in line]
    expected = (
        "The run names run cache 1000000, but this server does not cache yet: every task runs, and nothing is kept "
    )
    assert said == ([f"{expected}for later runs."] if cached else [])
