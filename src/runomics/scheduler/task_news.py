"""What engines are told of their submissions, and runs' logs of their tasks. In the server, called from several threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from runomics.domain.resources import MOST_SCRATCH_GIB
from runomics.domain.task import Reason
from runomics.scheduler.submission import Submission
from runomics.scheduler.task_attempt import Attempt, OpenRun, RunPlace
from runomics.scheduler.task_policy import GIB


class Listener(Protocol):
    """Hears what becomes of submissions; called from any thread, must not block."""

    def __call__(self, run_id: int, key: str, attempt: int, message: Mapping[str, Any]) -> None: ...


class TaskNews:
    """`run_note(place, text)` puts a line into a run's log."""

    def __init__(self, run_note: Callable[[RunPlace, str], None]) -> None:
        self._run_note = run_note
        self.listener: Listener = _nobody

    # ---- the engine ----------------------------------------------------------------------------------------------

    def tell(self, attempt: Attempt, message: Mapping[str, Any]) -> None:
        """Tell the engine of an attempt."""
        self.listener(attempt.place.run_id, attempt.row.key, attempt.row.attempt, message)

    def tell_state(self, attempt: Attempt) -> None:
        """Tell the engine how far an attempt is."""
        if attempt.end is None:
            self.tell(attempt, {"op": "running" if attempt.status_is_running else "queued"})
            return
        end = attempt.end
        self.tell(
            attempt,
            {"op": "exited", "exit_code": end.exit_code, "reason": str(end.reason), "message": end.message},
        )

    def tell_cancelled(self, run_id: int, submission: Submission, message: str) -> None:
        """Tell the engine that a submission is not taken."""
        self.listener(
            run_id,
            submission.key,
            submission.attempt,
            {"op": "exited", "exit_code": None, "reason": str(Reason.CANCELLED), "message": message},
        )

    # ---- the run's log -------------------------------------------------------------------------------------------

    def note(self, attempt: Attempt, text: str) -> None:
        """A line about a task."""
        self._run_note(attempt.place, f"Task {attempt.row.name} (task ID {attempt.row.id}) {text}")

    def note_soft_limits(self, place: RunPlace, why: str) -> None:
        """Its tasks may take more than they are given."""
        self._run_note(place, f"Limits of tasks are soft on this server: {why}")

    def note_no_network(self, run: OpenRun, submission: Submission) -> None:
        """Say once that a task asks for a network that its run has not."""
        if not submission.network or run.place.network is not None or run.told_of_network:
            return
        run.told_of_network = True
        self._run_note(
            run.place,
            f"Task {submission.name} asks for network access; tasks of this run have none: its networkingMode is RESTRICTED.",
        )

    def note_short_share(self, attempt: Attempt) -> None:
        """It gets less than it asks for."""
        self.note(
            attempt,
            f"asks for {attempt.row.cpus} CPUs and {attempt.row.memory_gib} GiB "
            f"and gets {attempt.cpus:g} CPUs and {attempt.memory_bytes // GIB} GiB, all that this host gives.",
        )

    def note_scratch(self, attempt: Attempt) -> None:
        """Say when its /tmp is not what was asked for."""
        place, submission = attempt.place, attempt.submission
        if submission is None or not place.has_local_scratch:
            return
        if place.rootless:
            self.note(
                attempt,
                "has its /tmp on the run's storage: this server is not root and cannot give it one of its own (LOCAL).",
            )
        elif submission.disk_bytes > MOST_SCRATCH_GIB * GIB:
            self.note(
                attempt, f"asks for more than {MOST_SCRATCH_GIB} GiB of disk and gets a /tmp of {MOST_SCRATCH_GIB} GiB."
            )


def _nobody(run_id: int, key: str, attempt: int, message: Mapping[str, Any]) -> None:
    """The listener before there is one."""
