"""Kinds and lanes of the scheduler: what is woken is stepped, once at a time for one id, again when it broke down, also after a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from databases import open_store
from runomics.domain.share import ShareStatus
from runomics.scheduler import loop
from runomics.scheduler.loop import Kind, Lane, LoopPolicy, Scheduler
from runomics.scheduler.shares import Shares
from runomics.store import shares
from runomics.store.database import Store, Tx, next_id

OWNER, SUBSCRIBER = "123456789012", "210987654321"
DEADLINE_SECONDS = 10


class Clock:
    """A time that stands, so that nothing grows old."""

    def now_ms(self) -> int:
        return 1_764_000_000_000


@pytest.fixture
def store(tmp_path: Path, database_kind: str) -> Iterator[Store]:
    store = open_store(tmp_path / "database.sqlite")
    yield store
    store.close()


@pytest.fixture
def started(store: Store) -> Iterator[Callable[[dict[str, Kind]], Scheduler]]:
    """Starts a scheduler that is told of commits, and stops it."""
    running: list[Scheduler] = []

    def start(kinds: dict[str, Kind]) -> Scheduler:
        scheduler = Scheduler(
            store=store, clock=Clock(), policy=LoopPolicy(max_active_runs=1), has_room=lambda kind, size: (True, "")
        )
        store.set_on_wake(scheduler.woken)
        scheduler.start(kinds)
        running.append(scheduler)
        return scheduler

    yield start
    store.set_on_wake(None)
    for scheduler in running:
        scheduler.stop()


def none(tx: Tx) -> list[int]:
    return []


def wake(store: Store, kind: str, number: int) -> None:
    store.write(lambda tx: tx.wake(kind, number))


class Seen:
    """A step that notes its ids and can be waited for."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._changed = threading.Condition()

    def step(self, number: int) -> None:
        with self._changed:
            self.ids.append(number)
            self._changed.notify_all()

    def wait(self, count: int) -> list[int]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.ids) >= count, DEADLINE_SECONDS)
            return self.ids[:count]


def test_what_the_last_server_left_is_stepped_and_what_a_commit_wakes(
    store: Store, started: Callable[[dict[str, Kind]], Scheduler]
) -> None:
    colours, shapes = Seen(), Seen()
    started({"colour": Kind(colours.step, lambda tx: [3, 1]), "shape": Kind(shapes.step, none, Lane.REGISTER)})
    assert colours.wait(2) == [3, 1]
    wake(store, "shape", 7)
    wake(store, "colour", 7)
    assert (colours.wait(3)[2], shapes.wait(1)) == (7, [7])


def test_a_wake_of_no_known_kind_is_nobodys(store: Store, started: Callable[[dict[str, Kind]], Scheduler]) -> None:
    seen = Seen()
    started({"colour": Kind(seen.step, none)})
    wake(store, "taste", 1)
    wake(store, "colour", 2)
    assert seen.wait(1) == [2]


def test_a_wake_during_a_step_makes_it_be_stepped_once_more_and_never_twice_at_once(
    store: Store, started: Callable[[dict[str, Kind]], Scheduler]
) -> None:
    entered, leave, seen = threading.Semaphore(0), threading.Semaphore(0), Seen()
    inside = threading.Lock()

    def step(number: int) -> None:
        assert inside.acquire(blocking=False), "two threads step one id"
        entered.release()
        assert leave.acquire(timeout=DEADLINE_SECONDS)
        inside.release()
        seen.step(number)

    started({"colour": Kind(step, none, Lane.RUNS)})
    wake(store, "colour", 1)
    assert entered.acquire(timeout=DEADLINE_SECONDS)
    for _ in range(3):
        wake(store, "colour", 1)
    leave.release(4)
    assert seen.wait(2) == [1, 1]
    wake(store, "colour", 2)
    assert seen.wait(3) == [1, 1, 2]


def test_a_lane_that_is_busy_holds_up_no_other(store: Store, started: Callable[[dict[str, Kind]], Scheduler]) -> None:
    release, quick = threading.Event(), Seen()

    def slow(number: int) -> None:
        assert release.wait(DEADLINE_SECONDS)

    started({"slow": Kind(slow, none, Lane.REGISTER), "quick": Kind(quick.step, none)})
    for number in range(10):
        wake(store, "slow", number)
    wake(store, "quick", 1)
    assert quick.wait(1) == [1]
    release.set()


def test_a_step_that_breaks_down_is_done_again(
    store: Store, started: Callable[[dict[str, Kind]], Scheduler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "AGAIN_MS", 0)
    seen = Seen()

    def step(number: int) -> None:
        seen.step(number)
        if len(seen.ids) < 3:
            raise OSError("the disk hiccups")

    started({"colour": Kind(step, none)})
    wake(store, "colour", 5)
    assert seen.wait(3) == [5, 5, 5]


def test_a_share_is_moved_by_the_scheduler_of_this_server_or_of_the_next(
    store: Store, started: Callable[[dict[str, Kind]], Scheduler]
) -> None:
    moved = Seen()
    steps = Shares(store, now_ms=Clock().now_ms)

    def step(number: int) -> None:
        steps.step(number)
        moved.step(number)

    def offer(tx: Tx) -> shares.ShareRow:
        row_id = next_id(tx, shares.KIND)
        new = shares.NewShare(
            id=row_id,
            account=OWNER,
            share_id=f"share-{row_id}",
            workflow_id=row_id,
            resource_arn="arn",
            principal_subscriber=SUBSCRIBER,
            created_ms=1,
        )
        shares.insert_share(tx, new)
        found = shares.load_share(tx, row_id)
        assert found is not None
        return found

    before, after = store.write(offer), store.write(offer)
    store.write(lambda tx: shares.wish_delete(tx, before, 2))
    started({shares.KIND: Kind(step, shares.moving_shares)})
    assert moved.wait(1) == [before.id]
    store.write(lambda tx: shares.wish_delete(tx, after, 3))
    assert moved.wait(2) == [before.id, after.id]
    rows = [store.read(lambda tx, i=row.id: shares.load_share(tx, i)) for row in (before, after)]
    assert [row.status for row in rows if row] == [ShareStatus.DELETED] * 2
