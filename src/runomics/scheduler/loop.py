"""The scheduler's threads: who is stepped when. Knows no state of a run; runs in the one server that holds the scheduler's lock.

A run is stepped by one thread at a time. A wake while it is being stepped makes it be stepped once more, so no report is ever lost.
Admission and timers have a thread of their own.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import chain

import structlog

from runomics.domain.admission import (
    GroupLimits,
    PendingRun,
    RunLine,
    RunsAdmitted,
    StorageQuotas,
    admit_runs,
    waiting_reason,
)
from runomics.domain.run import Admitted, RunStatus, advance
from runomics.ports import Clock, StorageType
from runomics.store import groups as group_rows
from runomics.store import runs as run_rows
from runomics.store.database import Store, StoreUnavailable, Tx
from runomics.store.runs import RunRow

log = structlog.get_logger()

PENDING_LOOKED_AT = 200
PENDING_PER_PLACE = 4
AGAIN_MS = 1_000
IDLE_SECONDS = 600.0
"""How long the clockwork sleeps when it is neither woken nor has a timer."""


@dataclass(frozen=True, slots=True)
class LoopPolicy:
    """How many runs may be active, all together and of one account's of a storage type; how many threads step them."""

    max_active_runs: int
    quotas: StorageQuotas = field(default_factory=StorageQuotas)
    step_threads: int = 4
    register_threads: int = 2
    fetch_threads: int = 2
    batch_threads: int = 2


class Lane(StrEnum):
    """Threads of their own, so that what takes long holds up nothing else."""

    RUNS = "runs"
    REGISTER = "register"
    FETCH = "fetch"
    BATCHES = "batches"
    QUICK = "quick"


@dataclass(frozen=True, slots=True)
class Kind:
    """Things that are stepped when they are woken.

    `step(id)` may be repeated; it runs on a thread of `lane`, never twice at once for one id, and again a second later when it
    raised. `left(tx)` are the ids that the last server left to do.
    """

    step: Callable[[int], None]
    left: Callable[[Tx], Sequence[int]]
    lane: Lane = Lane.QUICK


class Scheduler:
    """Moves runs, workflows and what else has a `Kind`. `wake` may be called from any thread, `woken` from the store's writer."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        policy: LoopPolicy,
        has_room: Callable[[StorageType, int | None], tuple[bool, str]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._policy = policy
        self._has_room = has_room
        self._kinds: Mapping[str, Kind] = {}
        self._lock = threading.Lock()
        self._clockwork = threading.Condition(self._lock)
        self._workers = {lane: threading.Condition(self._lock) for lane in Lane}
        self._ready: dict[Lane, deque[tuple[str, int]]] = {lane: deque() for lane in Lane}
        self._queued: set[tuple[str, int]] = set()
        self._busy: set[tuple[str, int]] = set()
        self._timers: list[tuple[int, str, int]] = []
        self._admission_wanted = False
        self._is_open = True
        self._is_quota_full = False
        self._look_again_at_ms: int | None = None
        self._active = 0
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def start(self, kinds: Mapping[str, Kind]) -> None:
        """Take up everything the database says is open, and begin. `kinds`: the name it is woken by → how it is stepped.

        `woken` has to be told of commits before this is called: what came earlier is found in the database.
        """
        with self._lock:
            self._kinds = kinds
        threads = {
            Lane.RUNS: self._policy.step_threads,
            Lane.REGISTER: self._policy.register_threads,
            Lane.FETCH: self._policy.fetch_threads,
            Lane.BATCHES: self._policy.batch_threads,
            Lane.QUICK: 1,
        }
        for lane, count in threads.items():
            for number in range(count):
                self._spawn(partial(self._work, lane), f"step-{lane}-{number}")
        self._spawn(self._keep_time, "scheduler")

    def stop(self) -> None:
        """Finish the steps under way and end the threads."""
        with self._lock:
            self._stopping = True
            self._clockwork.notify_all()
            for condition in self._workers.values():
                condition.notify_all()
        for thread in self._threads:
            thread.join()

    def woken(self, pairs: Sequence[tuple[str, int]]) -> None:
        """What committed units woke: called on the store's writer, so it only takes note."""
        with self._lock:
            for kind, number in pairs:
                if kind == "pending":
                    self._someone_waits()
                else:
                    self._enqueue(kind, number)

    def wake(self, run_id: int) -> None:
        """Have a run stepped soon."""
        with self._lock:
            self._enqueue("run", run_id)

    def wake_at(self, run_id: int, at_ms: int) -> None:
        """Have a run stepped at a time (UTC epoch ms)."""
        with self._lock:
            self._set_timer(at_ms, "run", run_id)

    def step_at(self, kind: str, number: int, at_ms: int) -> None:
        """The same for whatever has a `Kind`."""
        with self._lock:
            self._set_timer(at_ms, kind, number)

    def waiting_reason(self, run: RunRow) -> str:
        """Why a PENDING run waits, computed when it is asked for."""
        has_storage, why = self._has_room(StorageType(run.storage_type), run.storage_capacity_gib)
        limits, active_in_group = None, 0
        if run.run_group_id is not None:
            limits, active_in_group = self._store.read(partial(_group_use, group_id=run.run_group_id))
        return waiting_reason(
            active=self._active,
            max_active=self._policy.max_active_runs,
            no_storage="" if has_storage else why,
            limits=limits,
            active_in_group=active_in_group,
            no_place=self._used_up(run),
        )

    def _used_up(self, run: RunRow) -> str:
        """The quota of the run's account that leaves it no place, "" when there is a place."""
        most = self._policy.quotas.of(run.storage_type)
        if most is None:
            return ""
        active = self._store.read(run_rows.active_by_quota).get((run.account, run.storage_type), 0)
        if active < most:
            return ""
        return f"{active} of at most {most} {run.storage_type} runs of account {run.account} are active."

    # ---- threads -------------------------------------------------------------------------------------------------

    def _spawn(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _enqueue(self, kind: str, number: int) -> None:
        pair = (kind, number)
        if pair in self._queued or kind not in self._kinds:
            return
        self._queued.add(pair)
        if pair not in self._busy:
            self._make_ready(pair)

    def _make_ready(self, pair: tuple[str, int]) -> None:
        lane = self._kinds[pair[0]].lane
        self._ready[lane].append(pair)
        self._workers[lane].notify()

    def _want_admission(self) -> None:
        if not self._admission_wanted:
            self._admission_wanted = True
            self._clockwork.notify()

    def _someone_waits(self) -> None:
        """A new run. While nobody could be let in, the next look is a timer's or a run's end, not every newcomer's."""
        if self._is_open:
            self._want_admission()

    def _set_timer(self, at_ms: int, kind: str, number: int) -> None:
        timer = (at_ms, kind, number)
        if timer in self._timers:
            return
        heapq.heappush(self._timers, timer)
        if self._timers[0] == timer:
            self._clockwork.notify()

    def _take(self, lane: Lane) -> tuple[str, int] | None:
        """The next thing of this lane that is ready; None when stopping. The lock is held."""
        while not self._stopping:
            if self._ready[lane]:
                pair = self._ready[lane].popleft()
                self._queued.discard(pair)
                self._busy.add(pair)
                return pair
            self._workers[lane].wait()
        return None

    def _work(self, lane: Lane) -> None:
        while True:
            with self._lock:
                pair = self._take(lane)
            if pair is None:
                return
            failed = not self._stepped(pair)
            with self._lock:
                self._busy.discard(pair)
                if pair in self._queued:
                    self._make_ready(pair)
                if failed:
                    self._set_timer(self._clock.now_ms() + AGAIN_MS, *pair)

    def _stepped(self, pair: tuple[str, int]) -> bool:
        """Step one thing; False when the step broke down and must be tried again."""
        kind, number = pair
        try:
            self._kinds[kind].step(number)
            return True
        except StoreUnavailable as error:
            log.error("scheduler.store_unavailable", kind=kind, id=number, error=str(error))
        except Exception:
            log.exception("scheduler.step_failed", kind=kind, id=number)
        return False

    def _keep_time(self) -> None:
        """Admission and timers."""
        self._take_up()
        while True:
            now_ms = self._clock.now_ms()
            with self._lock:
                if self._stopping:
                    return
                while self._timers and self._timers[0][0] <= now_ms:
                    self._enqueue(*heapq.heappop(self._timers)[1:])
                if self._look_again_at_ms is not None and self._look_again_at_ms <= now_ms:
                    self._look_again_at_ms = None
                    self._admission_wanted = True
                wanted, self._admission_wanted = self._admission_wanted, False
            if wanted:
                self._guard(self._admit)
            with self._lock:
                if self._stopping or self._admission_wanted:
                    continue
                due = [self._timers[0][0]] if self._timers else []
                if self._look_again_at_ms is not None:
                    due.append(self._look_again_at_ms)
                seconds = (min(due) - self._clock.now_ms()) / 1000 if due else IDLE_SECONDS
                self._clockwork.wait(max(0.0, seconds))

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.exception("scheduler.round_failed")
            with self._lock:
                self._admission_wanted = True
                self._clockwork.wait(AGAIN_MS / 1000)

    def _take_up(self) -> None:
        """What was open when the last server ended."""
        left = self._left()
        with self._lock:
            for name, ids in left.items():
                for number in ids:
                    self._enqueue(name, number)
            self._want_admission()

    def _left(self) -> dict[str, Sequence[int]]:
        while True:
            try:
                return {name: self._store.read(kind.left) for name, kind in self._kinds.items()}
            except StoreUnavailable as error:
                log.error("scheduler.store_unavailable", kind="take-up", error=str(error))
            with self._lock:
                if self._stopping:
                    return {}
                self._clockwork.wait(AGAIN_MS / 1000)

    def _admit(self) -> None:
        """Start the pending runs that fit."""
        self._is_open = True
        admitted = self._store.read(self._chosen)
        if admitted is None:
            self._is_open = False
            return
        for run in admitted.chosen:
            self._start(run.run_id)
        if not admitted.chosen and (admitted.without_storage or self._is_quota_full):
            # Nobody's storage fits, and room may come back without a run of ours ending. Or a quota is full, and each look passes
            # all who wait for it.
            self._is_open = False
            self._look_again_at_ms = self._clock.now_ms() + AGAIN_MS
        if admitted.chosen and not admitted.is_everybody:
            with self._lock:
                self._admission_wanted = True

    def _chosen(self, tx: Tx) -> RunsAdmitted | None:
        """Who starts now; None when there is no place for anybody."""
        self._active = run_rows.count_active(tx)
        places = self._policy.max_active_runs - self._active
        if places <= 0:
            return None
        quotas = self._policy.quotas
        active = run_rows.active_by_quota(tx) if quotas else {}
        full = quotas.full(active)
        self._is_quota_full = bool(full)
        # Few rows for few places: with thousands of runs waiting, each end of a run lets one in.
        look_at = min(PENDING_LOOKED_AT, PENDING_PER_PLACE * places)
        return admit_runs(
            chain([RunLine(run_rows.pending_runs(tx, look_at, full))], _group_lines(tx, look_at, full)),
            active=self._active,
            max_active=self._policy.max_active_runs,
            has_storage=lambda run: self._has_room(StorageType(run.storage_type), run.storage_capacity_gib)[0],
            places_of=partial(quotas.places, active),
            look_at=look_at,
        )

    def _start(self, run_id: int) -> None:
        now_ms = self._clock.now_ms()

        def unit(tx: Tx) -> bool:
            run = run_rows.load_run(tx, run_id)
            if run is None or run.status is not RunStatus.PENDING or run.cancel_wished_ms is not None:
                return False
            slot = run_rows.free_sandbox_slot(tx)
            if slot is None:
                raise RuntimeError("all sandbox user ids are in use")
            return run_rows.apply_run(tx, run, advance(run.state, Admitted()), now_ms=now_ms, sandbox_slot=slot)

        if self._store.write(unit):
            self._active += 1
            self.wake(run_id)
            log.info("run.moved", run_id=run_id, by="Admitted", status=str(RunStatus.STARTING))

    def run_ended(self) -> None:
        """A run left the active ones: there may be room."""
        with self._lock:
            self._want_admission()


def _group_lines(tx: Tx, look_at: int, full: Sequence[tuple[str, str]]) -> Iterator[RunLine]:
    """The lines of the groups in which runs wait. Of a line only the head is read before somebody wants to see more of it."""
    active = group_rows.active_runs_of_groups(tx)
    for head in group_rows.heads_of_pending_runs(tx, full):
        places = None if head.max_runs is None else head.max_runs - active.get(head.group_id, 0)
        yield RunLine(chain([head.first], _after_head(tx, head.group_id, look_at, full)), places)


def _after_head(tx: Tx, group_id: int, look_at: int, full: Sequence[tuple[str, str]]) -> Iterator[PendingRun]:
    yield from group_rows.pending_runs(tx, group_id, limit=look_at, skip=1, full=full)


def _group_use(tx: Tx, group_id: int) -> tuple[GroupLimits | None, int]:
    """The limits of a group, and how many of its runs are active."""
    group = group_rows.load_group(tx, group_id)
    return (None, 0) if group is None else (group.limits, group_rows.count_active_runs(tx, group_id))


def runs_left(tx: Tx) -> list[int]:
    """The runs to take up at start: those at work, and those with a wish."""
    return [*run_rows.active_run_ids(tx), *run_rows.runs_to_cancel(tx), *run_rows.runs_to_delete(tx)]
