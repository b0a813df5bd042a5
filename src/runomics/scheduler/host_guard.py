"""What is done when running runs have eaten into the disk's reserve; runs in the server, on the thread of the run storage's upkeep.

Their logs are told at once. Admission waits by itself. As the last resort, when a quarter of the reserve is left, the DYNAMIC run that
grows fastest is ended: a full disk would lose data of them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from runomics.domain import failures
from runomics.domain.failures import Failure
from runomics.ports import Clock, Pool, RunStorage, StorageType
from runomics.store import runs as run_rows
from runomics.store.database import Store, Tx
from runomics.store.runs import RunRow

log = structlog.get_logger()

LAST_RESORT_SHARE = 0.25
PERIOD_MS = 15_000
"""Without a call for this long the trouble is over; what comes then is new."""
RELEASE_MS = 30_000
SETTLE_MS = 3_000
"""How long an ended run may take to go, and its space to come back, before another one is ended."""


@dataclass(frozen=True, slots=True)
class _Look:
    used_bytes: int
    at_ms: int


class HostGuard:
    """`note(run, text)` writes to a run's log; `fail(run_id, failure)` ends a run."""

    def __init__(
        self,
        *,
        store: Store,
        storage: RunStorage,
        clock: Clock,
        note: Callable[[RunRow, str], None],
        fail: Callable[[int, Failure], None],
    ) -> None:
        self._store = store
        self._storage = storage
        self._clock = clock
        self._note = note
        self._fail = fail
        self._told: set[int] = set()
        self._looks: dict[str, _Look] = {}
        self._called_ms = 0
        self._victim: str | None = None
        self._wait_until_ms = 0

    def low(self, pool: Pool) -> None:
        """The disk has less free than its reserve, and nothing more can be given back. Called every second while that is so."""
        now_ms = self._clock.now_ms()
        if now_ms - self._called_ms > PERIOD_MS:
            self._told.clear()
            self._looks.clear()
            log.error("scheduler.host_low", free_bytes=pool.free_bytes, reserve_bytes=pool.reserve_bytes)
        self._called_ms = now_ms
        runs = self._store.read(_dynamic_runs)
        for run in runs:
            if run.id not in self._told:
                self._told.add(run.id)
                self._note(run, _warning(pool))
        growth = {run.id: self._growth(run, now_ms) for run in runs}
        if pool.free_bytes >= pool.reserve_bytes * LAST_RESORT_SHARE or self._is_waiting(now_ms):
            return
        fastest = max(runs, key=lambda run: growth[run.id], default=None)
        if fastest is None or growth[fastest.id] <= 0:
            return
        self._victim, self._wait_until_ms = fastest.uuid, now_ms + RELEASE_MS
        log.error(
            "scheduler.run_ended_for_space",
            run_id=fastest.id,
            bytes_a_second=round(growth[fastest.id]),
            free_bytes=pool.free_bytes,
        )
        self._fail(fastest.id, failures.of_full_host(self._looks[fastest.uuid].used_bytes))

    def _growth(self, run: RunRow, now_ms: int) -> float:
        """Bytes a second since the last call; 0 at the first look."""
        usage = self._storage.usage(run.uuid)
        if usage is None:
            return 0.0
        before = self._looks.get(run.uuid)
        self._looks[run.uuid] = _Look(usage.used_bytes, now_ms)
        if before is None or now_ms <= before.at_ms:
            return 0.0
        return (usage.used_bytes - before.used_bytes) * 1000 / (now_ms - before.at_ms)

    def _is_waiting(self, now_ms: int) -> bool:
        """Whether the space of the run that was ended last may still come back."""
        if self._victim is not None and self._storage.find(self._victim) is None:
            self._victim, self._wait_until_ms = None, now_ms + SETTLE_MS
        return now_ms < self._wait_until_ms


def _dynamic_runs(tx: Tx) -> list[RunRow]:
    found = (run_rows.load_run(tx, run_id) for run_id in run_rows.active_run_ids(tx))
    return [run for run in found if run is not None and run.storage_type == StorageType.DYNAMIC and run.outcome is None]


def _warning(pool: Pool) -> str:
    return (
        f"The server's disk is short of space: {pool.free_bytes / (1 << 30):.1f} GiB are free, {pool.reserve_bytes / (1 << 30):.1f} GiB "
        "should be. If less than a quarter of that is left, the DYNAMIC run that grows fastest is ended."
    )
