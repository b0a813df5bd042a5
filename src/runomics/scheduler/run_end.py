"""How a run ends: its processes, its log, its volume, its manifest, its directory, its row. On the scheduler's threads."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from runomics.domain.run import ReleaseAbandoned, RunState, StorageReleased
from runomics.ports import Clock, EngineHost, LogStore, RunStorage
from runomics.scheduler.gateway import Gateway
from runomics.scheduler.manifest import manifest_lines
from runomics.scheduler.run_acts import CANCEL_GRACE_MS, NOTHING_YET, RETRY_MS, Acts, Happened
from runomics.scheduler.run_execution import engine_lives
from runomics.scheduler.run_export import RunExport
from runomics.scheduler.run_plan import RunPlans
from runomics.scheduler.tasks import Tasks
from runomics.scheduler.transfer import Transfers
from runomics.store import runs as run_rows
from runomics.store import tasks as task_rows
from runomics.store.runs import RunRow

log = structlog.get_logger()

RELEASE_PATIENCE_MS = 60_000


@dataclass(frozen=True, slots=True)
class RunEnd:
    """STOPPING, and what comes after it."""

    plans: RunPlans
    export: RunExport
    storage: RunStorage
    engines: EngineHost
    transfers: Transfers
    tasks: Tasks
    gateway: Gateway
    logs: LogStore
    clock: Clock
    wake_at: Callable[[int, int], None]

    def stopping(self, run: RunRow, acts: Acts) -> Happened:
        """End what is left of the run and give back what it holds of the host."""
        directory = self.plans.directory(run)
        now_ms = self.clock.now_ms()
        if acts.stopping_since_ms is None:
            acts.stopping_since_ms = now_ms
            self.transfers.forget(directory)
            self._adopt_for_stop(run)
            self.tasks.stop_run(run.id)
            if run.incarnation > 0:
                self.engines.stop(directory, kill=True)
        waited_ms = now_ms - acts.stopping_since_ms
        if not self.tasks.is_quiet(run.id) or engine_lives(self.engines, run, acts, directory):
            if waited_ms > CANCEL_GRACE_MS:
                self.tasks.kill_run(run.id)
            self.wake_at(run.id, now_ms + RETRY_MS)
            return NOTHING_YET
        self.gateway.close(run.id)
        if not self.export.log_delivered(run, acts):
            return NOTHING_YET
        return self._release(run, waited_ms)

    def write_manifest(self, run: RunRow, to: RunState, changes: Mapping[str, Any]) -> None:
        """The run and its tasks as one JSON object a line, once."""
        if run.log_level == "OFF":
            return
        stream = f"manifest/run/{run.id}/{run.uuid}"
        written, _ = self.logs.read(run.account, stream, 0, 1)
        if written:
            return
        rows = self.plans.store.read(lambda tx: task_rows.tasks_of_run(tx, run.id))
        now_ms = self.clock.now_ms()
        lines = manifest_lines(run, to, changes, rows, region=self.plans.policy.region, now_ms=now_ms)
        self.logs.append(run.account, stream, [(now_ms, line) for line in lines])

    def clean_up(self, run: RunRow) -> None:
        """After the end is durable: close the run and remove its directory. A crash before this leaves it to the sweep at start."""
        self.tasks.close_run(run.id)
        self.gateway.close(run.id)
        shutil.rmtree(self.plans.directory(run), ignore_errors=True)

    def delete(self, run: RunRow) -> None:
        """Remove the row of an ended run."""
        now_ms = self.clock.now_ms()
        if self.plans.store.write(lambda tx: run_rows.delete_run(tx, run, now_ms=now_ms)):
            log.info("run.deleted", run_id=run.id)

    def sweep_directories(self, keep: frozenset[str]) -> None:
        """Remove the directories of runs that are not among the uuids in `keep`: a crash came between their end and their removal.

        What begins with a dot belongs to the run storage.
        """
        for directory in self.plans.policy.runs_directory.iterdir():
            if directory.name not in keep and not directory.name.startswith("."):
                shutil.rmtree(directory, ignore_errors=True)

    def _adopt_for_stop(self, run: RunRow) -> None:
        """After a restart: what still runs of this run must be known before it can be ended."""
        if run.incarnation == 0:
            return
        open_rows = self.plans.store.read(lambda tx: task_rows.open_tasks(tx, run.id))
        if open_rows:
            self.tasks.open_run(self.plans.place(run), open_rows)
            self.tasks.close_orphans(run.id, open_rows)

    def _release(self, run: RunRow, waited_ms: int) -> Happened:
        try:
            usage = self.storage.destroy(run.uuid)
        except OSError as error:
            if waited_ms < RELEASE_PATIENCE_MS:
                self.wake_at(run.id, self.clock.now_ms() + RETRY_MS)
                return NOTHING_YET
            log.error("run.release_abandoned", run_id=run.id, error=str(error))
            return ReleaseAbandoned(), {}
        if usage is None:
            return StorageReleased(), {}
        return StorageReleased(), {"storage_peak_bytes": usage.peak_bytes}
