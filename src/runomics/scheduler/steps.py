"""One step of a run: look at its row, do or look at the next act, say what happened. Runs on the scheduler's threads.

Acts are repeatable and happen outside transactions; the row moves only by `advance()` and a guarded apply. What a step starts (an import,
an engine, an export) is looked at by later steps; what is kept here in memory can be found again after a crash by doing the act again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from runomics.domain import failures
from runomics.domain.run import (
    ENDED,
    CancelRequested,
    DeleteRequested,
    Failed,
    RunEvent,
    RunPhase,
    RunStatus,
    accepts,
    advance,
)
from runomics.ports import Clock, EngineHost, LogStore, RunStorage
from runomics.scheduler.gateway import Gateway
from runomics.scheduler.networks import NONE, Networks
from runomics.scheduler.run_acts import NOTHING_YET, ActsOfRuns, Happened
from runomics.scheduler.run_end import RunEnd
from runomics.scheduler.run_execution import RunExecution
from runomics.scheduler.run_export import RunExport
from runomics.scheduler.run_notes import RunNotes
from runomics.scheduler.run_plan import RunPlans
from runomics.scheduler.run_preparation import RunPreparation
from runomics.scheduler.tasks import Tasks
from runomics.scheduler.transfer import Transfers
from runomics.store import runs as run_rows
from runomics.store.database import Store
from runomics.store.runs import RunRow

log = structlog.get_logger()


class Steps:
    """Everything a run does between PENDING and its end, one step at a time."""

    def __init__(
        self,
        *,
        store: Store,
        plans: RunPlans,
        notes: RunNotes,
        storage: RunStorage,
        engines: EngineHost,
        transfers: Transfers,
        tasks: Tasks,
        gateway: Gateway,
        logs: LogStore,
        clock: Clock,
        wake: Callable[[int], None],
        wake_at: Callable[[int, int], None],
        on_ended: Callable[[], None],
        networks: Networks = NONE,
    ) -> None:
        """`wake(run id)` and `wake_at(run id, UTC epoch ms)` have the run stepped; `on_ended()` hears that one has ended."""
        self._store = store
        self._notes = notes
        self._clock = clock
        self._wake = wake
        self._on_ended = on_ended
        self._acts = ActsOfRuns()
        self._preparation = RunPreparation(
            plans=plans, storage=storage, transfers=transfers, networks=networks, notes=notes, wake=wake
        )
        self._execution = RunExecution(
            plans=plans,
            storage=storage,
            engines=engines,
            tasks=tasks,
            gateway=gateway,
            logs=logs,
            networks=networks,
            clock=clock,
            wake=wake,
            wake_at=wake_at,
        )
        self._export = RunExport(
            plans=plans,
            storage=storage,
            engines=engines,
            transfers=transfers,
            logs=logs,
            notes=notes,
            clock=clock,
            wake=wake,
            wake_at=wake_at,
        )
        self._end = RunEnd(
            plans=plans,
            export=self._export,
            storage=storage,
            engines=engines,
            transfers=transfers,
            tasks=tasks,
            gateway=gateway,
            logs=logs,
            clock=clock,
            wake_at=wake_at,
        )

    def step(self, run_id: int) -> None:
        """Move the run as far as it goes without waiting. Safe to call at any time; never for one run on two threads at once."""
        while True:
            run = self._store.read(lambda tx: run_rows.load_run(tx, run_id))
            if run is None:
                self._acts.forget(run_id)
                return
            event, columns = self._next(run)
            if event is None or not self._apply(run, event, columns):
                return

    def volume_full(self, run_uuid: str) -> None:
        """A STATIC volume that nothing limits is over its capacity: its run ends."""
        self._execution.volume_full(run_uuid)

    def fail(self, run_id: int, failure: failures.Failure) -> None:
        """End a live run with a failure that comes from elsewhere."""
        self._acts.of(run_id).failing = Failed(failure.reason, failure.message)
        self._wake(run_id)

    def sweep_directories(self, keep: frozenset[str]) -> None:
        """Remove the directories of runs that are not among the uuids in `keep`."""
        self._end.sweep_directories(keep)

    def _next(self, run: RunRow) -> Happened:
        """What happened to the run since its row was written."""
        state = run.state
        if state.status in ENDED:
            return self._after_end(run)
        if (
            run.cancel_wished_ms is not None
            and state.outcome is not RunStatus.CANCELLED
            and accepts(state, CancelRequested)
        ):
            return CancelRequested(), {}
        acts = self._acts.of(run.id)
        if state.status is RunStatus.STOPPING:
            return self._end.stopping(run, acts)
        if acts.failing is not None:
            return acts.failing, {}
        if state.status is RunStatus.STARTING:
            return self._preparation.starting(run, acts)
        if state.phase is RunPhase.IMPORTING:
            return self._preparation.importing(run, acts)
        if state.phase is RunPhase.EXECUTING:
            return self._execution.executing(run, acts)
        if state.phase is RunPhase.EXPORTING:
            return self._export.exporting(run, acts)
        return NOTHING_YET

    def _after_end(self, run: RunRow) -> Happened:
        self._acts.forget(run.id)
        if run.delete_wished_ms is not None:
            return DeleteRequested(), {}
        return NOTHING_YET

    def _apply(self, run: RunRow, event: RunEvent, columns: Mapping[str, Any]) -> bool:
        """Move the row; whether to go on stepping at once."""
        to = advance(run.state, event)
        if to.status is RunStatus.DELETED:
            self._end.delete(run)
            return False
        changes = dict(columns)
        if isinstance(event, Failed):
            changes |= {"failure_reason": event.reason, "status_message": event.message}
        if to.outcome is RunStatus.CANCELLED and run.failure_reason is not None:
            changes |= {"failure_reason": None, "status_message": None}
        if to.status in ENDED:
            self._end.write_manifest(run, to, changes)
        now_ms = self._clock.now_ms()
        if not self._store.write(lambda tx: run_rows.apply_run(tx, run, to, now_ms=now_ms, **changes)):
            log.info("run.apply_refused", run_id=run.id, revision=run.revision)
            return True
        self._notes.moved(run, to, event)
        if to.status in ENDED:
            self._on_ended()
            self._clean_up(run)
            return run.delete_wished_ms is not None
        return True

    def _clean_up(self, run: RunRow) -> None:
        self._execution.forget(run)
        if run.delete_wished_ms is None:
            self._acts.forget(run.id)
        self._end.clean_up(run)
