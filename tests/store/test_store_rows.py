"""Rows: the guarded apply, wishes, what each side may see, and the events that come with every change of status."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from sample_rows import ACCOUNT, OTHER_ACCOUNT, a_run, create_workflow, loaded, move, start, submit_task

from runomics.domain import run as run_life
from runomics.domain import task as task_life
from runomics.domain.event import Topic
from runomics.domain.run import (
    Admitted,
    CancelRequested,
    Failed,
    InputsImported,
    Prepared,
    RunPhase,
    RunState,
    RunStatus,
    StorageReleased,
    advance,
)
from runomics.domain.task import TaskEvent, TaskStatus
from runomics.store import accounts, catalog, events, runs, tasks, tokens, webhooks
from runomics.store.accounts import AccessKeyRow, AccountRow
from runomics.store.catalog import WorkflowRow
from runomics.store.database import Duplicate, Store, Tx, next_ids
from runomics.store.runs import TASKS_PER_DELETE, NewRun, RunRow
from runomics.store.tasks import TaskRow
from runomics.store.tokens import TokenRow


def ended(store: Store, **changes: Any) -> RunRow:
    run = start(store, **changes)
    return move(store, run, advance(run.state, CancelRequested()), now_ms=3000)


def told(store: Store, kind: str, resource_id: int) -> list[tuple[str, int, int]]:
    rows = store.read(lambda tx: events.undelivered(tx, 1000))
    return [(row.status, row.seq, row.at_ms) for row in rows if (row.kind, row.resource_id) == (kind, str(resource_id))]


# ---- runs --------------------------------------------------------------------------------------------------------


def test_a_new_run_is_pending_and_has_everything_it_was_given(store: Store) -> None:
    given = a_run(
        1000000,
        name="sample 'x'; --",
        workflow_name="align",
        workflow_owner_id=OTHER_ACCOUNT,
        workflow_version_name="v1",
        source_run_id=5,
        run_group_id=6,
        run_cache_id=7,
        cache_behavior="CACHE_ALWAYS",
        batch_id=8,
        priority=9,
        accelerators="GPU",
        parameters='{"a": "µ"}',
        storage_capacity_gib=1200,
        tags='{"k":"v"}',
        extra='{"networkingMode":"RESTRICTED"}',
    )
    woken: list[tuple[str, int]] = []
    store.set_on_wake(woken.extend)
    store.write(lambda tx: runs.insert_run(tx, given))
    store.write(lambda tx: None)

    run = store.read(lambda tx: runs.find_run(tx, ACCOUNT, 1000000))
    assert run is not None
    assert {field.name: getattr(run, field.name) for field in fields(NewRun)} == {
        field.name: getattr(given, field.name) for field in fields(NewRun)
    }
    assert run.state == RunState()
    assert (run.revision, run.started_ms, run.stopped_ms, run.sandbox_slot) == (1, None, None, None)
    assert told(store, "run", 1000000) == [("PENDING", 1, 1000)]
    assert woken == [("pending", 1000000)]


def test_a_foreign_a_missing_and_a_wished_away_run_are_not_found(store: Store) -> None:
    run = start(store)
    wished = ended(store)
    store.write(lambda tx: runs.wish_delete(tx, ACCOUNT, wished.id, 5))
    asked = [(OTHER_ACCOUNT, run.id), (ACCOUNT, 999), (ACCOUNT, wished.id)]
    assert [store.read(lambda tx, a=a, i=i: runs.find_run(tx, a, i)) for a, i in asked] == [None] * 3
    assert store.read(lambda tx: runs.load_run(tx, wished.id)) is not None


def test_a_run_goes_its_way_with_a_time_and_an_event_for_each_status(store: Store) -> None:
    run = start(store)
    run = move(store, run, advance(run.state, Admitted()), now_ms=2000, sandbox_slot=3)
    run = move(store, run, advance(run.state, Prepared()), now_ms=3000)
    assert (run.status, run.phase, run.started_ms) == (RunStatus.RUNNING, RunPhase.IMPORTING, 3000)
    run = move(store, run, advance(run.state, InputsImported()), now_ms=4000, resource_digests='{"s3://a/b":"etag:1"}')
    assert (run.phase, run.incarnation, run.started_ms) == (RunPhase.EXECUTING, 1, 3000)
    run = move(
        store,
        run,
        advance(run.state, Failed("RUN_TASK_FAILED", "task failed")),
        now_ms=5000,
        failure_reason="RUN_TASK_FAILED",
        status_message="task failed",
    )
    assert (run.status, run.outcome, run.stopped_ms) == (RunStatus.STOPPING, RunStatus.FAILED, None)
    run = move(store, run, advance(run.state, StorageReleased()), now_ms=6000, storage_peak_bytes=77, sandbox_slot=None)

    assert (run.status, run.stopped_ms, run.revision) == (RunStatus.FAILED, 6000, 6)
    assert (run.storage_peak_bytes, run.resource_digests) == (77, '{"s3://a/b":"etag:1"}')
    assert told(store, "run", run.id) == [
        ("PENDING", 1, 1000),
        ("STARTING", 2, 2000),
        ("RUNNING", 3, 3000),
        ("STOPPING", 5, 5000),
        ("FAILED", 6, 6000),
    ]
    last = store.read(lambda tx: events.undelivered(tx, 10))[-1]
    assert last.detail == f'{{"uuid":"{run.uuid}","failureReason":"RUN_TASK_FAILED","statusMessage":"task failed"}}'


def test_a_stale_apply_changes_nothing_and_says_so(store: Store) -> None:
    stale = start(store)
    fresh = move(store, stale, advance(stale.state, Admitted()), sandbox_slot=1)
    before = told(store, "run", stale.id)

    def again(tx: Tx) -> bool:
        to = advance(stale.state, CancelRequested())
        return runs.apply_run(tx, stale, to, now_ms=9000, status_message="too late", sandbox_slot=2)

    assert store.write(again) is False
    assert store.read(lambda tx: loaded(tx, stale.id)) == fresh
    assert told(store, "run", stale.id) == before


def test_columns_may_change_without_the_state_and_without_an_event(store: Store) -> None:
    run = start(store)
    changed = move(store, run, run.state, storage_capacity_gib=5)
    assert changed == replace(run, revision=2, storage_capacity_gib=5)
    assert told(store, "run", run.id) == [("PENDING", 1, 1000)]


@pytest.mark.parametrize("column", ["status", "revision", "account", "id", "started_ms", "name = 'x', account"])
def test_an_apply_sets_only_what_the_scheduler_may(store: Store, column: str) -> None:
    run = start(store)
    with pytest.raises(ValueError, match="apply_run cannot set"):
        store.write(lambda tx: runs.apply_run(tx, run, run.state, now_ms=1, **{column: 1}))
    assert store.read(lambda tx: loaded(tx, run.id)) == run


def test_a_wish_to_cancel_is_noted_once_and_wakes(store: Store) -> None:
    run = start(store)
    woken: list[tuple[str, int]] = []
    store.set_on_wake(woken.extend)
    assert store.write(lambda tx: runs.wish_cancel(tx, ACCOUNT, run.id, 50)) is True
    assert store.write(lambda tx: runs.wish_cancel(tx, ACCOUNT, run.id, 60)) is True
    assert store.write(lambda tx: runs.wish_cancel(tx, OTHER_ACCOUNT, run.id, 70)) is False
    assert store.read(lambda tx: loaded(tx, run.id)) == replace(run, cancel_wished_ms=50)
    assert woken == [("run", run.id)] * 2
    assert store.read(runs.runs_to_cancel) == [run.id]
    move(store, run, advance(run.state, CancelRequested()))
    assert store.read(runs.runs_to_cancel) == []


def test_a_wish_does_not_refuse_the_step_that_is_under_way(store: Store) -> None:
    run = start(store)
    store.write(lambda tx: runs.wish_cancel(tx, ACCOUNT, run.id, 50))
    moved = move(store, run, advance(run.state, Admitted()))
    assert (moved.status, moved.cancel_wished_ms) == (RunStatus.STARTING, 50)


def test_a_run_wished_away_is_gone_for_clients_at_once_and_is_left_for_the_scheduler(store: Store) -> None:
    run = ended(store)
    assert store.write(lambda tx: runs.wish_delete(tx, OTHER_ACCOUNT, run.id, 50)) is False
    assert store.write(lambda tx: runs.wish_delete(tx, ACCOUNT, run.id, 60)) is True
    assert store.write(lambda tx: runs.wish_delete(tx, ACCOUNT, run.id, 70)) is False
    assert store.write(lambda tx: runs.wish_cancel(tx, ACCOUNT, run.id, 70)) is False
    assert store.read(lambda tx: runs.list_runs(tx, ACCOUNT, after_id=0, limit=10)) == ([], None)
    assert store.read(runs.runs_to_delete) == [run.id]
    assert store.read(lambda tx: loaded(tx, run.id)) == replace(run, delete_wished_ms=60)


def test_deleting_removes_the_run_and_its_tasks_and_tells_it_once(store: Store) -> None:
    run, neighbour = ended(store), start(store)
    for number in range(3):
        submit_task(store, run.id, f"call-{number}")
    kept = submit_task(store, neighbour.id, "call-0")
    store.write(lambda tx: runs.wish_delete(tx, ACCOUNT, run.id, 60))

    assert store.write(lambda tx: runs.delete_run(tx, run, now_ms=70)) is True
    assert store.write(lambda tx: runs.delete_run(tx, run, now_ms=80)) is False
    assert store.read(lambda tx: runs.load_run(tx, run.id)) is None
    assert store.read(lambda tx: tasks.tasks_of_run(tx, run.id)) == []
    assert store.read(lambda tx: tasks.tasks_of_run(tx, neighbour.id)) == [kept]
    assert store.read(runs.runs_to_delete) == []
    assert told(store, "run", run.id)[-1] == ("DELETED", run.revision + 1, 70)


def test_nothing_is_deleted_that_nobody_wished_away_or_that_is_open(store: Store) -> None:
    unwished = ended(store)
    assert store.write(lambda tx: runs.delete_run(tx, unwished, now_ms=70)) is False
    running = start(store)
    store.write(lambda tx: runs.wish_delete(tx, ACCOUNT, running.id, 60))
    assert store.write(lambda tx: runs.delete_run(tx, running, now_ms=70)) is False
    assert store.read(lambda tx: [loaded(tx, run.id).id for run in (unwished, running)]) == [unwished.id, running.id]


def test_a_run_with_many_tasks_is_deleted_in_several_units_that_wake_for_the_next(store: Store) -> None:
    run = ended(store)

    def fill(tx: Tx) -> None:
        first = next_ids(tx, "task", 2 * TASKS_PER_DELETE + 1)[0]
        made = [
            tasks.NewTask(
                id=first + number,
                account=ACCOUNT,
                run_id=run.id,
                uuid=f"u{number}",
                incarnation=1,
                key=f"k{number}",
                attempt=1,
                name="n",
                cpus=1,
                memory_gib=1,
                created_ms=1,
            )
            for number in range(2 * TASKS_PER_DELETE + 1)
        ]
        tasks.insert_tasks(tx, made)

    store.write(fill)
    store.write(lambda tx: runs.wish_delete(tx, ACCOUNT, run.id, 60))
    woken: list[tuple[str, int]] = []
    store.set_on_wake(woken.extend)
    assert [store.write(lambda tx: runs.delete_run(tx, run, now_ms=70)) for _ in range(3)] == [False, False, True]
    store.write(lambda tx: None)
    assert woken == [("run", run.id)] * 2
    assert store.read(lambda tx: tasks.tasks_of_run(tx, run.id)) == []


def test_pending_runs_come_by_priority_then_age(store: Store) -> None:
    priorities = [None, 5, 0, 100, 5, None]
    made = [start(store, priority=priority, account=OTHER_ACCOUNT).id for priority in priorities]
    started = start(store, priority=1000)
    move(store, started, advance(started.state, Admitted()))
    order = [made[3], made[1], made[4], made[0], made[2], made[5]]
    assert [run.run_id for run in store.read(lambda tx: runs.pending_runs(tx, 100))] == order
    assert [run.run_id for run in store.read(lambda tx: runs.pending_runs(tx, 2))] == order[:2]


def test_active_is_every_run_that_is_neither_pending_nor_ended(store: Store) -> None:
    made = {status: start(store).id for status in RunStatus}
    for status, run_id in made.items():
        values = {"status": str(status), "id": run_id}
        store.write(lambda tx, v=values: tx.change("update run set status = :status where id = :id", v))
    active = [run_id for status, run_id in made.items() if status not in run_life.ENDED | {RunStatus.PENDING}]
    assert store.read(runs.active_run_ids) == active
    assert store.read(runs.active_run_uuids) == [f"uuid-{run_id}" for run_id in active]
    assert store.read(runs.count_active) == len(active) == 3


def test_a_cancel_wish_is_to_be_followed_in_every_status_that_has_not_ended(store: Store) -> None:
    made = {status: start(store).id for status in RunStatus}
    for status, run_id in made.items():
        values = {"status": str(status), "id": run_id}
        store.write(
            lambda tx, v=values: tx.change("update run set status = :status, cancel_wished_ms = 1 where id = :id", v)
        )
    still_open = [run_id for status, run_id in made.items() if status not in run_life.ENDED]
    assert store.read(runs.runs_to_cancel) == still_open


def test_a_sandbox_slot_belongs_to_one_run_until_it_lets_go(store: Store) -> None:
    first, second, third = start(store), start(store), start(store)

    def take(run: RunRow) -> RunRow:
        def unit(tx: Tx) -> RunRow:
            slot = runs.free_sandbox_slot(tx)
            assert runs.apply_run(tx, run, advance(run.state, Admitted()), now_ms=1, sandbox_slot=slot)
            return loaded(tx, run.id)

        return store.write(unit)

    first, second = take(first), take(second)
    assert (first.sandbox_slot, second.sandbox_slot) == (0, 1)
    assert store.read(runs.used_sandbox_slots) == {0, 1}
    with pytest.raises(Duplicate):
        store.write(lambda tx: runs.apply_run(tx, third, third.state, now_ms=1, sandbox_slot=1))
    move(store, first, first.state, sandbox_slot=None)
    assert take(third).sandbox_slot == 0


# ---- tasks -------------------------------------------------------------------------------------------------------


def test_a_task_goes_its_way_with_a_time_and_an_event_for_each_status(store: Store) -> None:
    run = start(store)
    task = submit_task(store, run.id, "call-align")
    assert task == store.read(lambda tx: tasks.load_task(tx, task.id))
    assert (task.status, task.revision, task.try_) == (TaskStatus.PENDING, 1, 1)

    def step(row: TaskRow, event: TaskEvent, now_ms: int, **columns: Any) -> TaskRow:
        def unit(tx: Tx) -> TaskRow:
            assert tasks.apply_task(tx, row, task_life.advance(row.status, event), now_ms=now_ms, **columns)
            found = tasks.load_task(tx, row.id)
            assert found is not None
            return found

        return store.write(unit)

    task = step(task, TaskEvent.ADMITTED, 2000)
    task = step(task, TaskEvent.STARTED, 3000)
    assert (task.started_ms, task.stopped_ms) == (3000, None)
    task = step(task, TaskEvent.FAILED, 9000, exit_code=3, reason="EXIT", cpu_seconds=1.5, has_log=1, stopped_ms=8000)
    assert (task.status, task.started_ms, task.stopped_ms, task.exit_code) == (TaskStatus.FAILED, 3000, 8000, 3)
    assert (task.cpu_seconds, task.has_log, task.revision) == (1.5, 1, 4)
    assert told(store, "task", task.id) == [
        ("PENDING", 1, 1500),
        ("STARTING", 2, 2000),
        ("RUNNING", 3, 3000),
        ("FAILED", 4, 9000),
    ]


def test_a_stale_apply_of_a_task_changes_nothing_and_says_so(store: Store) -> None:
    task = submit_task(store, start(store).id, "call")
    assert store.write(lambda tx: tasks.apply_task(tx, task, TaskStatus.STARTING, now_ms=2)) is True
    fresh = store.read(lambda tx: tasks.load_task(tx, task.id))
    assert store.write(lambda tx: tasks.apply_task(tx, task, TaskStatus.CANCELLED, now_ms=3, exit_code=1)) is False
    assert store.read(lambda tx: tasks.load_task(tx, task.id)) == fresh
    assert [status for status, _, _ in told(store, "task", task.id)] == ["PENDING", "STARTING"]
    with pytest.raises(ValueError, match="apply_task cannot set run_id"):
        store.write(lambda tx: tasks.apply_task(tx, task, TaskStatus.FAILED, now_ms=3, run_id=1))


def test_a_repeated_submit_is_the_same_task_and_the_latest_try_counts(store: Store) -> None:
    run = start(store)
    submit_task(store, run.id, "call")
    with pytest.raises(Duplicate) as caught:
        submit_task(store, run.id, "call")
    assert caught.value.columns == tuple(f"task.{name}" for name in ("run_id", "incarnation", "key", "attempt", "try"))
    second = submit_task(store, run.id, "call", try_=2)
    other_attempt = submit_task(store, run.id, "call", attempt=2)
    other_incarnation = submit_task(store, run.id, "call", incarnation=2)

    def found(incarnation: int, attempt: int) -> TaskRow | None:
        return store.read(lambda tx: tasks.find_task_by_key(tx, run.id, incarnation, "call", attempt))

    assert [found(1, 1), found(1, 2), found(2, 1), found(2, 2)] == [second, other_attempt, other_incarnation, None]


def test_open_tasks_are_those_of_every_status_that_has_not_ended(store: Store) -> None:
    run, other = start(store), start(store)
    made = {status: submit_task(store, run.id, str(status)).id for status in TaskStatus}
    for status, task_id in made.items():
        values = {"status": str(status), "id": task_id}
        store.write(lambda tx, v=values: tx.change("update task set status = :status where id = :id", v))
    foreign = submit_task(store, other.id, "call").id
    still_open = [task_id for status, task_id in made.items() if status not in task_life.ENDED]
    assert [task.id for task in store.read(lambda tx: tasks.open_tasks(tx, run.id))] == still_open
    assert [task.id for task in store.read(tasks.open_tasks)] == [*still_open, foreign]
    assert [task.id for task in store.read(lambda tx: tasks.tasks_of_run(tx, run.id))] == list(made.values())


def test_a_task_is_found_only_by_its_account_in_its_run_while_the_run_is_there(store: Store) -> None:
    run, other = ended(store), start(store)
    task = submit_task(store, run.id, "call")

    def found(account: str, run_id: int) -> TaskRow | None:
        return store.read(lambda tx: tasks.find_task(tx, account, run_id, task.id))

    assert [found(ACCOUNT, run.id), found(OTHER_ACCOUNT, run.id), found(ACCOUNT, other.id)] == [task, None, None]
    store.write(lambda tx: runs.wish_delete(tx, ACCOUNT, run.id, 5))
    assert found(ACCOUNT, run.id) is None


# ---- workflows ---------------------------------------------------------------------------------------------------


def test_a_workflow_is_registered_changed_and_removed(store: Store) -> None:
    woken: list[tuple[str, int]] = []
    store.set_on_wake(woken.extend)
    workflow_id = create_workflow(store, name="w", definition_sha256="b" * 64, readme="# w")

    def found() -> WorkflowRow:
        row = store.read(lambda tx: catalog.find_workflow(tx, ACCOUNT, workflow_id))
        assert row is not None
        return row

    created = found()
    assert (created.status, created.revision, created.readme) == ("CREATING", 1, "# w")
    assert store.read(catalog.creating_workflows) == [created.id]
    assert store.write(lambda tx: catalog.apply_workflow(tx, created, "ACTIVE", now_ms=5, engine="WDL", main="m.wdl"))
    active = found()
    assert active == replace(created, status="ACTIVE", engine="WDL", main="m.wdl", revision=2)
    assert store.read(catalog.creating_workflows) == []
    assert store.write(lambda tx: catalog.apply_workflow(tx, created, "FAILED", now_ms=6)) is False
    assert store.write(lambda tx: catalog.update_workflow(tx, active, name="x", description=None))
    assert store.write(lambda tx: catalog.update_workflow(tx, active, name="y")) is False
    renamed = found()
    assert renamed == replace(active, name="x", revision=3)
    assert store.write(lambda tx: catalog.delete_workflow(tx, active, now_ms=7)) is False
    assert store.write(lambda tx: catalog.delete_workflow(tx, renamed, now_ms=8))
    assert store.read(lambda tx: catalog.load_workflow(tx, workflow_id)) is None
    assert told(store, "workflow", workflow_id) == [("CREATING", 1, 1000), ("ACTIVE", 2, 5), ("DELETED", 4, 8)]
    assert woken == [("workflow", workflow_id)]


def test_a_foreign_workflow_is_not_found(store: Store) -> None:
    workflow_id = create_workflow(store)
    assert store.read(lambda tx: catalog.find_workflow(tx, OTHER_ACCOUNT, workflow_id)) is None
    assert store.read(lambda tx: catalog.load_workflow(tx, workflow_id)) is not None


def test_a_client_changes_only_what_is_its_own(store: Store) -> None:
    workflow = store.read(lambda tx: catalog.load_workflow(tx, create_workflow(store)))
    assert workflow is not None
    with pytest.raises(ValueError, match="update_workflow cannot set account"):
        store.write(lambda tx: catalog.update_workflow(tx, workflow, account=OTHER_ACCOUNT))
    with pytest.raises(ValueError, match="apply_workflow cannot set name"):
        store.write(lambda tx: catalog.apply_workflow(tx, workflow, "ACTIVE", now_ms=1, name="x"))


def test_a_definition_is_in_use_while_a_workflow_or_a_run_names_it(store: Store) -> None:
    sha256 = "c" * 64
    almost = "c" * 8 + "d" * 56

    def in_use(digest: str) -> bool:
        return store.read(lambda tx: catalog.definition_in_use(tx, digest))

    assert [in_use(sha256), in_use(almost)] == [False, False]
    workflow_id = create_workflow(store, definition_sha256=sha256)
    assert [in_use(sha256), in_use(almost)] == [True, False]
    run = ended(store, definition_sha256=sha256)
    workflow = store.read(lambda tx: catalog.load_workflow(tx, workflow_id))
    assert workflow is not None
    store.write(lambda tx: catalog.delete_workflow(tx, workflow, now_ms=1))
    assert [in_use(sha256), in_use(almost)] == [True, False]
    store.write(lambda tx: runs.wish_delete(tx, ACCOUNT, run.id, 1))
    store.write(lambda tx: runs.delete_run(tx, run, now_ms=1))
    assert [in_use(sha256), in_use(almost)] == [False, False]


# ---- accounts, tokens, events ------------------------------------------------------------------------------------


def test_accounts_and_their_keys_are_kept(store: Store) -> None:
    key = AccessKeyRow("AKIA1", ACCOUNT, "secret", f"arn:aws:iam::{ACCOUNT}:user/dev", 5)
    store.write(lambda tx: accounts.add_account(tx, ACCOUNT, "lab", 4))
    store.write(lambda tx: accounts.add_key(tx, key))
    assert store.read(lambda tx: accounts.find_account(tx, ACCOUNT)) == AccountRow(ACCOUNT, "lab", 4)
    assert store.read(lambda tx: accounts.find_account(tx, OTHER_ACCOUNT)) is None
    assert store.read(accounts.list_keys) == [key]
    assert store.write(lambda tx: accounts.disable_key(tx, "AKIA1")) is True
    assert store.write(lambda tx: accounts.disable_key(tx, "AKIA2")) is False
    assert store.read(lambda tx: accounts.find_key(tx, "AKIA1")) == replace(key, status="DISABLED")
    with pytest.raises(Duplicate):
        store.write(lambda tx: accounts.add_key(tx, key))


def test_a_token_is_of_one_account_and_operation_and_is_forgotten_when_old(store: Store) -> None:
    def keep(account: str, token: str, now_ms: int) -> None:
        store.write(
            lambda tx: tokens.keep_token(tx, account, "StartRun", token, body_hash="h", answer="{}", now_ms=now_ms)
        )

    def found(account: str, operation: str, token: str) -> TokenRow | None:
        return store.read(lambda tx: tokens.find_token(tx, account, operation, token))

    for number in range(5):
        keep(ACCOUNT, f"t{number}", number)
    assert found(ACCOUNT, "StartRun", "t1") == TokenRow("h", "{}")
    assert [found(OTHER_ACCOUNT, "StartRun", "t1"), found(ACCOUNT, "CreateWorkflow", "t1")] == [None, None]
    with pytest.raises(Duplicate):
        keep(ACCOUNT, "t1", 9)
    keep(OTHER_ACCOUNT, "t1", 9)
    assert store.write(lambda tx: tokens.forget_tokens(tx, 3, 2)) == 2
    assert store.write(lambda tx: tokens.forget_tokens(tx, 3, 2)) == 1
    assert store.write(lambda tx: tokens.forget_tokens(tx, 3, 2)) == 0
    assert [found(ACCOUNT, "StartRun", f"t{number}") is None for number in range(5)] == [True] * 3 + [False] * 2


def test_an_event_stays_until_it_stands_in_queues(store: Store) -> None:
    made = [start(store).id for _ in range(4)]
    first, second, third, fourth = store.read(lambda tx: events.undelivered(tx, 10))
    assert [int(event.resource_id) for event in (first, second, third, fourth)] == made
    assert store.read(lambda tx: events.undelivered(tx, 2)) == [first, second]

    store.write(lambda tx: events.drop_events(tx, [first, third]))
    store.write(lambda tx: events.drop_events(tx, [first, replace(second, seq=7)]))
    store.write(lambda tx: events.drop_events(tx, []))
    assert store.read(lambda tx: events.undelivered(tx, 10)) == [second, fourth]


def test_events_are_forgotten_where_there_is_no_webhook_and_only_there(store: Store) -> None:
    for _ in range(3):
        start(store)
    topics = frozenset({Topic.RUN})
    hook = store.write(
        lambda tx: webhooks.add_webhook(tx, url="http://h/", account=None, topics=topics, secret="s", now_ms=1)
    )
    assert store.write(lambda tx: events.forget_events(tx, 10)) == 0
    store.write(lambda tx: webhooks.remove_webhook(tx, hook.id))
    assert [store.write(lambda tx: events.forget_events(tx, 2)) for _ in range(3)] == [2, 1, 0]
