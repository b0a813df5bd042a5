"""Works off batches: reads and checks their settings, makes runs of them, waits for the runs, and does what clients wish. Scheduler.

A step does one small piece of a batch and has itself called again, so that no batch holds up another and no piece holds up the writer.
Whatever a step did stands in the rows; what is kept here in memory is read again after a crash.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import structlog

from runomics.domain import identity
from runomics.domain.batch import MAX_RUNS, BatchEvent, BatchStatus, SubmissionStatus, accepts, advance
from runomics.ports import Clock, ObjectStore
from runomics.scheduler.batch_settings import Closing, Refused, Settings, SettingsReader
from runomics.store import batch_runs, batches
from runomics.store.batch_runs import Refusal
from runomics.store.batches import BatchRow
from runomics.store.database import Store, Tx, next_ids
from runomics.store.runs import NewRun

log = structlog.get_logger()

LOADED_AT_ONCE = 500
STARTED_AT_ONCE = 200
WISHED_AT_ONCE = 100
REMOVED_AT_ONCE = 1000
"""Rows of one unit: what keeps it under 10 ms."""
BREATH_SECONDS = 0.005
"""Between two units of one batch, for everybody else's."""
WISHES_UNDER_WAY = 200
"""Runs that end or go at once because somebody wished it. More would stand before the steps of all other runs."""
AGAIN_MS = 200


class RunMaker(Protocol):
    """What makes a run of a setting, by the same rules as StartRun."""

    def name_of(self, setting: Mapping[str, Any]) -> str | None:
        """The runSettingId; None when it has none that could be one."""
        ...

    def look_up(self, tx: Tx, batch: BatchRow) -> Any:
        """What the settings of the batch name, as it is now: a `Refusal`, or something to compare and to give to `make`."""
        ...

    def make(self, batch: BatchRow, found: Any, setting: str, *, now_ms: int) -> NewRun | Refusal:
        """The run that the setting (JSON text) becomes; its id and what follows from it are not set yet."""
        ...

    def within_quota(
        self, tx: Tx, batch: BatchRow, outcomes: Sequence[NewRun | Refusal], *, now_ms: int
    ) -> Sequence[NewRun | Refusal]:
        """The same, with a refusal in the place of each run that the account has no room for. Makes room where it may."""
        ...


@dataclass(slots=True)
class _Place:
    """How far the settings of a batch were gone through, by outcome."""

    statuses: list[SubmissionStatus] = field(
        default_factory=lambda: [
            SubmissionStatus.SUCCESS,
            SubmissionStatus.CANCEL_SUCCESS,
            SubmissionStatus.CANCEL_FAILED,
        ]
    )
    after_id: int = 0


class Batches:
    """Moves batches. `objects_as(account, role ARN)` is what a role of that account may read; `scratch` is a directory.

    `step_at(id, time)` has a batch stepped then.
    """

    def __init__(
        self,
        *,
        store: Store,
        maker: RunMaker,
        objects_as: Callable[[str, str], ObjectStore],
        scratch: Path,
        clock: Clock,
        step_at: Callable[[int, int], None],
        max_runs: int = MAX_RUNS,
    ) -> None:
        self._store = store
        self._maker = maker
        self._clock = clock
        self._step_at = step_at
        self._settings: dict[int, Settings] = {}
        self._places: dict[int, _Place] = {}
        self._wrote_at: dict[int, float] = {}
        self._closing = threading.Event()
        self._reader = SettingsReader(
            name_of=maker.name_of, objects_as=objects_as, scratch=scratch, closing=self._closing, max_runs=max_runs
        )
        self._acts: Mapping[BatchStatus, Callable[[BatchRow], bool]] = {
            BatchStatus.CREATING: self._creating,
            BatchStatus.PENDING: self._pending,
            BatchStatus.SUBMITTING: self._submitting,
            BatchStatus.INPROGRESS: self._in_progress,
            BatchStatus.STOPPING: self._stopping,
            BatchStatus.RUNS_DELETING: self._runs_deleting,
        }

    def give_up(self) -> None:
        """Have the steps under way end soon; the next server does again what they leave."""
        self._closing.set()

    def close(self) -> None:
        """Let go of files. No step may be under way."""
        for batch_id in list(self._settings):
            self._forget(batch_id)

    def step(self, batch_id: int) -> None:
        """Move the batch on by one piece of work. Safe at any time; never for one batch on two threads at once.

        Raises:
            StoreUnavailable: nothing was written; to be tried again.
        """
        try:
            while not self._closing.is_set():
                batch = self._store.read(lambda tx: batches.load_batch(tx, batch_id))
                if batch is None:
                    self._forget(batch_id)
                    return
                if not self._act(batch):
                    return
        except Closing:
            self._forget(batch_id)
        except BaseException:
            # What was read ahead may not have been written: from the beginning, with what the rows say.
            self._forget(batch_id)
            raise

    def _act(self, batch: BatchRow) -> bool:
        """One piece; whether to look at the batch again at once."""
        if batch.delete_wished_ms is not None:
            return self._remove(batch)
        status = BatchStatus(batch.status)
        if batch.cancel_wished_ms is not None and accepts(status, BatchEvent.CANCEL_REQUESTED):
            self._forget(batch.id)
            total = batch.loaded_runs if batch.total_runs is None else batch.total_runs
            return self._move(batch, BatchEvent.CANCEL_REQUESTED, total_runs=total, inline_settings=None)
        if batch.delete_runs_wished_ms is not None and accepts(status, BatchEvent.RUNS_DELETE_REQUESTED):
            return self._move(batch, BatchEvent.RUNS_DELETE_REQUESTED)
        act = self._acts.get(status)
        if act is None:
            return False
        try:
            return act(batch)
        except Refused as refused:
            self._forget(batch.id)
            failure = refused.failure
            return self._move(
                batch,
                BatchEvent.REFUSED,
                failed_ms=self._clock.now_ms(),
                failure_category=failure.category,
                failure_reason=failure.text,
                inline_settings=None,
            )

    def _move(self, batch: BatchRow, event: BatchEvent, **columns: Any) -> bool:
        to = advance(BatchStatus(batch.status), event)
        now_ms = self._clock.now_ms()
        if self._store.write(lambda tx: batches.apply_batch(tx, batch, to, now_ms=now_ms, **columns)):
            log.info("batch.moved", batch_id=batch.id, by=str(event), status=str(to))
        return True

    def _write(self, batch: BatchRow, piece: Callable[[Tx], object]) -> None:
        """A unit of the batch's work, unless the batch changed meanwhile; the batch is stepped again after it."""

        def unit(tx: Tx) -> None:
            if batches.is_still(tx, batch):
                piece(tx)
            tx.wake(batches.KIND, batch.id)

        # Whatever this step prepared was time for others already.
        waited = time.monotonic() - self._wrote_at.get(batch.id, 0.0)
        if waited < BREATH_SECONDS:
            self._closing.wait(BREATH_SECONDS - waited)
        self._store.write(unit)
        self._wrote_at[batch.id] = time.monotonic()

    def _forget(self, batch_id: int) -> None:
        settings = self._settings.pop(batch_id, None)
        if settings is not None:
            settings.close()
        self._places.pop(batch_id, None)
        self._wrote_at.pop(batch_id, None)

    # ---- the settings ----------------------------------------------------------------------------------------------

    def _creating(self, batch: BatchRow) -> bool:
        """Fetch and look at all settings."""
        self._settings[batch.id] = self._reader.looked_at(batch)
        return self._move(batch, BatchEvent.FOUND)

    def _pending(self, batch: BatchRow) -> bool:
        """Make rows of the settings, a few at a time."""
        settings = self._settings.get(batch.id)
        if settings is None:
            settings = self._settings[batch.id] = self._reader.looked_at(batch)
        some = list(islice(settings.rest, LOADED_AT_ONCE))
        if some:
            self._write(batch, lambda tx: batch_runs.add_settings(tx, batch, some))
            return False
        self._forget(batch.id)
        return self._move(batch, BatchEvent.CHECKED, total_runs=settings.total, inline_settings=None)

    # ---- runs --------------------------------------------------------------------------------------------------------

    def _submitting(self, batch: BatchRow) -> bool:
        """Make runs of the next settings, or say that all had their turn."""

        def look(tx: Tx) -> tuple[list[tuple[int, str]], Any]:
            return batch_runs.waiting_settings(tx, batch, STARTED_AT_ONCE), self._maker.look_up(tx, batch)

        waiting, found = self._store.read(look)
        now_ms = self._clock.now_ms()
        if not waiting:
            return self._move(batch, BatchEvent.SUBMITTED, submitted_ms=now_ms)
        outcomes = [(row_id, self._make(batch, found, setting, now_ms)) for row_id, setting in waiting]

        def piece(tx: Tx) -> None:
            # What the settings name may have changed since it was read: then they have their turn in the next step.
            if self._maker.look_up(tx, batch) == found:
                within = self._maker.within_quota(tx, batch, [outcome for _, outcome in outcomes], now_ms=now_ms)
                rows = [row_id for row_id, _ in outcomes]
                batch_runs.note_submissions(tx, batch, list(zip(rows, _numbered(tx, within), strict=True)))

        self._write(batch, piece)
        return False

    def _make(self, batch: BatchRow, found: Any, setting: str, now_ms: int) -> NewRun | Refusal:
        return found if isinstance(found, Refusal) else self._maker.make(batch, found, setting, now_ms=now_ms)

    def _in_progress(self, batch: BatchRow) -> bool:
        """Every end of a run of the batch wakes it."""
        if self._store.read(lambda tx: batches.has_open_runs(tx, batch)):
            return False
        return self._move(batch, BatchEvent.RUNS_ENDED, processed_ms=self._clock.now_ms())

    def _stopping(self, batch: BatchRow) -> bool:
        """First no new runs, then the end of those there are."""
        if self._store.read(lambda tx: batch_runs.waiting_settings(tx, batch, 1)):
            self._write(batch, lambda tx: batch_runs.cancel_waiting(tx, batch, LOADED_AT_ONCE))
            return False
        rows = self._store.read(
            lambda tx: batch_runs.settings_of_status(
                tx, batch, SubmissionStatus.SUCCESS, after_id=0, limit=WISHED_AT_ONCE
            )
        )
        if rows:
            self._wish(batch, rows, batch_runs.cancel_runs)
            return False
        if self._store.read(lambda tx: batches.has_open_runs(tx, batch)):
            return False
        return self._move(batch, BatchEvent.STOPPED)

    def _runs_deleting(self, batch: BatchRow) -> bool:
        """Wish away every run that there is."""
        place = self._places.setdefault(batch.id, _Place())
        while place.statuses:
            rows = self._store.read(
                lambda tx: batch_runs.settings_of_status(
                    tx, batch, place.statuses[0], after_id=place.after_id, limit=WISHED_AT_ONCE
                )
            )
            if not rows:
                place.statuses.pop(0)
                place.after_id = 0
            elif any(run_id is not None for _, run_id in rows):
                if self._wish(batch, rows, batch_runs.delete_runs):
                    place.after_id = rows[-1][0]
                return False
            else:
                place.after_id = rows[-1][0]
        self._forget(batch.id)
        event = BatchEvent.RUNS_KEPT if batch.failed_deletes else BatchEvent.RUNS_DELETED
        return self._move(batch, event, delete_runs_wished_ms=None)

    def _wish(
        self,
        batch: BatchRow,
        rows: Sequence[tuple[int, int | None]],
        act: Callable[[Tx, BatchRow, Sequence[tuple[int, int]], int], None],
    ) -> bool:
        """Wish something of the runs of these settings; False, and asked again in a moment, while too many wishes are under way."""
        now_ms = self._clock.now_ms()
        if self._store.read(lambda tx: batch_runs.wishes_under_way(tx, WISHES_UNDER_WAY)) >= WISHES_UNDER_WAY:
            self._step_at(batch.id, now_ms + AGAIN_MS)
            return False
        with_run = [(row_id, run_id) for row_id, run_id in rows if run_id is not None]
        self._write(batch, lambda tx: act(tx, batch, with_run, now_ms))
        return True

    def _remove(self, batch: BatchRow) -> bool:
        """The client is told it is gone; now it goes."""

        def unit(tx: Tx) -> None:
            if batch_runs.delete_settings(tx, batch, REMOVED_AT_ONCE) == REMOVED_AT_ONCE:
                tx.wake(batches.KIND, batch.id)
            else:
                batches.delete_batch(tx, batch)

        self._store.write(unit)
        self._closing.wait(BREATH_SECONDS)
        return False


def _numbered(tx: Tx, outcomes: Sequence[NewRun | Refusal]) -> list[NewRun | Refusal]:
    """The runs with ids, in order, and what follows from them."""
    ids = iter(next_ids(tx, "run", sum(isinstance(outcome, NewRun) for outcome in outcomes)))
    return [_with_id(outcome, next(ids)) if isinstance(outcome, NewRun) else outcome for outcome in outcomes]


def _with_id(run: NewRun, run_id: int) -> NewRun:
    return replace(run, id=run_id, run_output_uri=identity.run_output_uri(run.output_uri, run_id, None))
