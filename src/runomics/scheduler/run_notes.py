"""The lines that the service itself writes into runs' logs. In the server, called from several threads."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from runomics.domain.run import Failed, Prepared, RunEvent, RunState
from runomics.ports import Clock, LogStore
from runomics.scheduler.task_attempt import RunPlace
from runomics.store.runs import RunRow

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RunNotes:
    """A run with log level OFF gets none."""

    logs: LogStore
    clock: Clock

    def note(self, run: RunRow, *texts: str) -> None:
        """Lines for the run's log."""
        if run.log_level != "OFF":
            now_ms = self.clock.now_ms()
            self.logs.append(run.account, f"run/{run.id}", [(now_ms, text) for text in texts])

    def of_task(self, place: RunPlace, text: str) -> None:
        """A line about a task for the run's log."""
        if place.keeps_logs:
            self.logs.append(place.account, f"run/{place.run_id}", [(self.clock.now_ms(), text)])

    def moved(self, run: RunRow, to: RunState, event: RunEvent) -> None:
        """Say that the run moved, and why when there is more to say."""
        log.info("run.moved", run_id=run.id, by=type(event).__name__, status=str(to.status), phase=to.phase)
        if isinstance(event, Failed):
            self.note(run, f"Run failed: {event.reason}: {event.message}")
        if isinstance(event, Prepared) and run.run_cache_id is not None:
            self.note(
                run,
                f"The run names run cache {run.run_cache_id}, but this server does not cache yet: every task runs, and nothing is kept "
                "for later runs.",
            )
        if to.status is not run.status:
            self.note(run, f"Run is {to.status}.")
