"""What a run does when its engine has said its outputs: deliver them, and the engine's log at the end. On the scheduler's threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from runomics.domain import failures
from runomics.domain.run import Failed, OutputsExported, RunStatus
from runomics.ports import Clock, EngineHost, LogStore, RunStorage, VolumeLost
from runomics.scheduler.run_acts import CANCEL_GRACE_MS, NOTHING_YET, RETRY_MS, Acts, Happened
from runomics.scheduler.run_execution import engine_lives
from runomics.scheduler.run_notes import RunNotes
from runomics.scheduler.run_plan import RunPlans
from runomics.scheduler.transfer import Exported, ExportJob, Transfers
from runomics.store.runs import RunRow

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RunExport:
    """The exporting phase, and engine.log."""

    plans: RunPlans
    storage: RunStorage
    engines: EngineHost
    transfers: Transfers
    logs: LogStore
    notes: RunNotes
    clock: Clock
    wake: Callable[[int], None]
    wake_at: Callable[[int, int], None]

    def exporting(self, run: RunRow, acts: Acts) -> Happened:
        """Deliver what the engine named; of a run whose time is up once its engine has left."""
        if acts.exported is None:
            if run.outcome is not None and not acts.exporting and self._engine_is_leaving(run, acts):
                return NOTHING_YET
            if not acts.exporting:
                acts.exporting = True
                self._begin_export(run, acts)
            if acts.exported is None:
                return NOTHING_YET
        if acts.exported.failure is not None:
            return Failed(*acts.exported.failure), {}
        least_seconds = self.plans.policy.min_running_seconds
        until = (run.started_ms or 0) + int(least_seconds * 1000)
        if least_seconds and self.clock.now_ms() < until:
            self.wake_at(run.id, until)
            return NOTHING_YET
        return OutputsExported(), {}

    def log_delivered(self, run: RunRow, acts: Acts) -> bool:
        """Whether engine.log is where it belongs: it goes to the outputs of every run but a cancelled one."""
        if run.log_level != "OFF":
            self.logs.end_engine(run.account, f"run/{run.id}/engine")
        log_file = self.plans.directory(run) / "engine.log"
        if run.outcome == RunStatus.CANCELLED or acts.log_exported or not log_file.exists():
            return True
        if acts.log_exporting:
            return False

        def done(exported: Exported) -> None:
            acts.log_exported = True
            if exported.failure is not None:
                log.warning("run.engine_log_not_delivered", run_id=run.id, why=exported.failure[1])
            self.wake(run.id)

        acts.log_exporting = True
        uri = f"{run.run_output_uri.rstrip('/')}/logs/engine.log"
        self.transfers.export_log(log_file, uri, done, objects=self.plans.objects(run))
        return acts.log_exported

    def _engine_is_leaving(self, run: RunRow, acts: Acts) -> bool:
        """Whether the engine of a run whose time is up is still there; after a grace it is killed."""
        directory = self.plans.directory(run)
        if not engine_lives(self.engines, run, acts, directory):
            return False
        now_ms = self.clock.now_ms()
        if acts.leaving_since_ms is None:
            acts.leaving_since_ms = now_ms
        if now_ms - acts.leaving_since_ms > CANCEL_GRACE_MS:
            self.engines.stop(directory, kill=True)
        self.wake_at(run.id, now_ms + RETRY_MS)
        return True

    def _begin_export(self, run: RunRow, acts: Acts) -> None:
        directory = self.plans.directory(run)
        result = self.engines.result(directory, run.incarnation)

        def done(exported: Exported) -> None:
            self.notes.note(run, *exported.messages)
            acts.exported = exported
            self.wake(run.id)

        def check() -> tuple[str, str] | None:
            """Nothing is delivered from a volume that lost writes."""
            try:
                self.storage.flush(run.uuid)
            except VolumeLost as error:
                failure = failures.of_storage(str(error))
                return failure.reason, failure.message
            return None

        succeeded = result is not None and result.succeeded
        job = ExportJob(
            run_directory=directory,
            run_output_uri=run.run_output_uri,
            # Of a run that timed out: what its finished tasks leave.
            exports=() if result is None else result.exports,
            outputs=result.outputs if result is not None and succeeded else None,
        )
        self.notes.note(run, f"Exporting {len(job.exports)} outputs.")
        self.transfers.export(job, done, check=check, objects=self.plans.objects(run))
