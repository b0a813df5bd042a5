"""RETAIN and REMOVE at the quota of stored runs, and what the clean-up removes: rows, files, and the room they took."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from server_in_a_box import ACCOUNT, NOW_MS, OTHER, Box

from runomics.domain.event import Topic
from runomics.domain.limits import Limits
from runomics.scheduler.retention import DAY_MS, FREE_PAGES_MIN, KEPT_DEFINITION_MS, Retention, RetentionPolicy
from runomics.store import account_use, runs, tokens, webhooks
from runomics.store.database import free_pages
from runomics.store.events import undelivered
from runomics.store.shares import find_share
from runomics.wire.errors import ResourceNotFoundException, ServiceQuotaExceededException


class BoxClock:
    """The box's time."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def now_ms(self) -> int:
        return self._box.now_ms


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "small", limits=Limits(stored_runs=3))
    yield made
    made.close()


@pytest.fixture
def retention(box: Box) -> Retention:
    return Retention(
        store=box.store,
        definitions=box.definitions,
        clock=BoxClock(box),
        policy=RetentionPolicy(token_days=30, event_days=7),
        collect_images=list,
    )


def listed(box: Box, account: str = ACCOUNT) -> list[str]:
    return [item["id"] for item in box.call("ListRuns", account=account)["items"]]


def delete_wished_away(box: Box) -> None:
    """What the scheduler does with runs that were wished away."""

    def unit(tx: Any) -> bool:
        left = runs.runs_to_delete(tx)
        for run_id in left:
            row = runs.load_run(tx, run_id)
            assert row is not None
            runs.delete_run(tx, row, now_ms=box.now_ms)
        return bool(left)

    while box.store.write(unit):
        pass


# ---- the quota of stored runs ------------------------------------------------------------------------------------


@pytest.mark.source("guide")
def test_at_the_quota_a_remove_run_takes_the_place_of_the_oldest_that_ended(small: Box) -> None:
    workflow = small.registered_workflow()
    first, second, third = (small.start_run(workflow, retentionMode="REMOVE")["id"] for _ in range(3))
    for run_id in (second, third):
        small.set_run(run_id, status="COMPLETED")
    small.woken.clear()
    fourth = small.start_run(workflow, retentionMode="REMOVE")["id"]
    assert listed(small) == [first, third, fourth], "the oldest has not ended"
    assert ("run", int(second)) in small.woken
    with pytest.raises(ResourceNotFoundException):
        small.call("GetRun", id=second)

    delete_wished_away(small)
    last = small.store.read(lambda tx: undelivered(tx, 100))[-1]
    assert (last.kind, last.resource_id, last.status) == ("run", second, "DELETED")
    assert small.store.read(lambda tx: account_use.stored_runs(tx, ACCOUNT)) == 3


@pytest.mark.source("guide", "assumed")
@pytest.mark.parametrize(("kept", "new"), [("RETAIN", "REMOVE"), ("REMOVE", "RETAIN"), ("RETAIN", "RETAIN")])
def test_a_run_that_may_take_nobody_s_place_is_refused_and_leaves_nothing(small: Box, kept: str, new: str) -> None:
    workflow = small.registered_workflow()
    ended = [small.start_run(workflow, retentionMode=kept)["id"] for _ in range(3)]
    for run_id in ended:
        small.set_run(run_id, status="FAILED")
    for _ in range(2):
        with pytest.raises(ServiceQuotaExceededException) as refused:
            small.start_run(workflow, retentionMode=new, requestId="one too many")
        assert "its quota of 3 runs (active or inactive)" in refused.value.message
    assert listed(small) == ended
    assert small.store.read(lambda tx: account_use.stored_runs(tx, ACCOUNT)) == 3
    assert small.start_run(small.registered_workflow(account=OTHER), account=OTHER)["id"]

    small.call("DeleteRun", id=ended[0])
    assert small.start_run(workflow, retentionMode=new, requestId="one too many")["id"] in listed(small)


@pytest.mark.source("assumed")
def test_a_run_that_has_not_ended_never_goes(small: Box) -> None:
    workflow = small.registered_workflow()
    started = [small.start_run(workflow, retentionMode="REMOVE")["id"] for _ in range(3)]
    small.set_run(started[0], status="STOPPING")
    small.set_run(started[1], status="RUNNING")
    with pytest.raises(ServiceQuotaExceededException):
        small.start_run(workflow, retentionMode="REMOVE")
    assert listed(small) == started


def test_another_account_s_runs_do_not_go(small: Box) -> None:
    theirs = small.registered_workflow(account=OTHER)
    kept = [small.start_run(theirs, account=OTHER, retentionMode="REMOVE")["id"] for _ in range(2)]
    for run_id in kept:
        small.set_run(run_id, status="COMPLETED")
    workflow = small.registered_workflow()
    for _ in range(3):
        small.start_run(workflow, retentionMode="REMOVE")
    with pytest.raises(ServiceQuotaExceededException):
        small.start_run(workflow, retentionMode="REMOVE")
    assert listed(small, OTHER) == kept


def test_an_account_comes_down_to_a_quota_that_was_lowered(box: Box) -> None:
    workflow = box.registered_workflow()
    for _ in range(30):
        run_id = box.start_run(workflow, retentionMode="REMOVE")["id"]
        box.set_run(run_id, status="COMPLETED")
    box.with_site(limits=Limits(stored_runs=5))
    counts = []
    for _ in range(4):
        run_id = box.start_run(workflow, retentionMode="REMOVE")["id"]
        box.set_run(run_id, status="COMPLETED")
        counts.append(len(listed(box)))
    assert counts == [21, 12, 5, 5]


# ---- the clean-up ------------------------------------------------------------------------------------------------


def test_tokens_events_and_shares_go_when_nobody_needs_them(box: Box, retention: Retention) -> None:
    workflow = box.registered_workflow(requestId="create")
    share = box.shared(workflow)
    box.call("DeleteShare", shareId=share)
    box.move_shares()

    def is_there() -> tuple[bool, bool, bool]:
        return (
            box.store.read(lambda tx: tokens.find_token(tx, ACCOUNT, "CreateWorkflow", "create")) is not None,
            box.store.read(lambda tx: find_share(tx, ACCOUNT, share)) is not None,
            bool(box.store.read(lambda tx: undelivered(tx, 1))),
        )

    assert is_there() == (True, True, True)
    retention.sweep()
    assert is_there() == (True, True, False), "there is no webhook to tell"
    box.now_ms = NOW_MS + 30 * DAY_MS
    retention.sweep()
    assert is_there() == (True, True, False)
    box.now_ms += 1
    retention.sweep()
    assert is_there() == (False, False, False)


def test_thousands_of_events_that_nobody_is_told_of_go_at_once(box: Box, retention: Retention) -> None:
    row = {"account": ACCOUNT, "kind": "run", "status": "PENDING", "seq": 1, "at_ms": 1, "detail": "{}"}
    columns = ", ".join([*row, "resource_id"])
    text = f"insert into event ({columns}) values ({', '.join(f':{name}' for name in [*row, 'resource_id'])})"  # noqa: S608

    def fill(tx: Any) -> None:
        for number in range(2_345):
            tx.change(text, {**row, "resource_id": str(number)})

    box.store.write(fill)
    retention.sweep()
    assert box.store.read(lambda tx: undelivered(tx, 1)) == []


def test_events_for_a_webhook_are_kept_for_a_week(box: Box, retention: Retention) -> None:
    hook = box.store.write(
        lambda tx: webhooks.add_webhook(
            tx, url="http://127.0.0.1:9/", account=None, topics=frozenset(Topic), secret="s", now_ms=NOW_MS
        )
    )
    box.registered_workflow()
    queues = webhooks.WebhookQueues(box.store, now_ms=lambda: box.now_ms)

    def waiting() -> int:
        return box.store.read(lambda tx: webhooks.count_waiting(tx, hook.id))[0]

    retention.sweep()
    assert len(box.store.read(lambda tx: undelivered(tx, 10))) == 2
    while queues.deal():
        pass
    box.now_ms = NOW_MS + 7 * DAY_MS
    retention.sweep()
    assert waiting() == 2
    box.now_ms += 1
    retention.sweep()
    assert waiting() == 0


def age(box: Box, sha256: str, ms: int) -> None:
    """Have the archive be stored `ms` before now."""
    seconds = (box.now_ms - ms) / 1000
    os.utime(box.definitions.archive(sha256), (seconds, seconds))


def digest_of(box: Box, workflow: str) -> str:
    found: str = box.workflow_row(workflow).definition_sha256
    return found


def test_a_definition_goes_when_no_workflow_version_or_run_names_it(box: Box, retention: Retention) -> None:
    other_wdl = "version 1.0\nworkflow W { input { File reads } }\n"
    workflow = box.registered_workflow()
    sha256 = digest_of(box, workflow)
    run_id = box.start_run(workflow)["id"]
    versioned = box.registered_workflow({"main.wdl": other_wdl})
    box.registered_version(versioned, "v1", {"main.wdl": other_wdl + "# v1\n"})
    everything = set(box.definitions.older_than(2**60))
    assert len(everything) == 3

    def left() -> set[str]:
        for digest in box.definitions.older_than(2**60):
            age(box, digest, KEPT_DEFINITION_MS + 1)
        retention.sweep()
        return set(box.definitions.older_than(2**60))

    assert left() == everything
    box.call("DeleteWorkflow", id=workflow)
    assert left() == everything, "the run names it"
    box.set_run(run_id, status="COMPLETED")
    box.call("DeleteRun", id=run_id)
    delete_wished_away(box)
    assert left() == everything - {sha256}
    assert not (box.definitions.root / sha256).exists()
    box.call("DeleteWorkflowVersion", workflowId=versioned, versionName="v1")
    assert left() == {digest_of(box, versioned)}


def test_a_definition_that_was_sent_a_moment_ago_stays(box: Box, retention: Retention) -> None:
    sha256 = box.definitions.keep(b"an archive whose row is not there yet")
    age(box, sha256, KEPT_DEFINITION_MS)
    retention.sweep()
    assert box.definitions.archive(sha256).exists()
    age(box, sha256, KEPT_DEFINITION_MS + 1)
    box.definitions.keep(b"an archive whose row is not there yet")
    retention.sweep()
    assert box.definitions.archive(sha256).exists(), "sent again, it is young again"


def test_an_archive_that_is_sent_again_while_it_is_forgotten_is_whole_afterwards(box: Box) -> None:
    data = b"archive" * 1000
    sha256 = box.definitions.keep(data)
    age(box, sha256, 10)
    sent_again = threading.Event()

    def is_named(digest: str) -> bool:
        """The moment between the look and the removal."""
        threading.Thread(target=lambda: (box.definitions.keep(data), sent_again.set())).start()
        assert not sent_again.wait(0.05), "who sends it waits for the decision"
        return False

    assert box.definitions.forget_unnamed(sha256, is_named, before_ms=box.now_ms)
    assert sent_again.wait(10)
    assert box.definitions.archive(sha256).read_bytes() == data


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
def test_the_database_file_shrinks_after_many_runs_were_deleted(box: Box, retention: Retention) -> None:
    workflow = box.registered_workflow()
    template = int(box.start_run(workflow)["id"])

    def many(tx: Any) -> None:
        names = [row[1] for row in tx.rows("pragma table_info(run)", {}) if row[1] not in ("id", "uuid", "extra")]
        columns = ", ".join(names)
        tx.change(
            f"insert into run (id, uuid, extra, {columns}) "  # noqa: S608
            "with recursive n (i) as (select 1 union all select i + 1 from n where i < 8000) "
            f"select :template + i, 'u' || i, :extra, {columns} from n, run where run.id = :template",
            {"template": template, "extra": "x" * 500},
        )

    box.store.write(many)
    box.store.write(
        lambda tx: tx.change("delete from run where id > :template and id % 50 > 0", {"template": template})
    )
    free, pages = box.store.read(free_pages)
    assert free > FREE_PAGES_MIN
    retention.sweep()
    left, smaller = box.store.read(free_pages)
    assert left <= max(FREE_PAGES_MIN // 2, smaller // 20)
    assert smaller <= pages - free + left
    box.store.close()
    assert (box.directory / "database.sqlite").stat().st_size == smaller * 4096


def test_a_sweep_that_meets_a_fault_does_the_rest(box: Box, retention: Retention, monkeypatch: Any) -> None:
    def broken(tx: Any, before_ms: int, limit: int) -> int:
        raise RuntimeError("a fault")

    monkeypatch.setattr(tokens, "forget_tokens", broken)
    box.registered_workflow()
    retention.sweep()
    assert box.store.read(lambda tx: undelivered(tx, 1)) == []


def test_the_thread_sweeps_by_itself_and_stops(box: Box, retention: Retention, monkeypatch: Any) -> None:
    monkeypatch.setattr("runomics.scheduler.retention.FIRST_SWEEP_SECONDS", 0.0)
    box.registered_workflow()
    retention.start()
    gone = _until(lambda: box.store.read(lambda tx: undelivered(tx, 1)) == [])
    retention.stop()
    assert gone


def _until(condition: Callable[[], bool]) -> bool:
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return True
        pause.wait(0.01)
    return False
