"""The rows of submissions: found after a restart, or made; durable before anything starts. In the server, called from several threads."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runomics.domain.profile import Profile
from runomics.domain.task import RETRIED_BY_SERVICE, Reason, TaskStatus
from runomics.scheduler.submission import Submission
from runomics.scheduler.task_attempt import OpenRun, RunPlace
from runomics.scheduler.task_moves import AGAIN_SECONDS
from runomics.scheduler.task_policy import TaskPolicy
from runomics.store import tasks as task_rows
from runomics.store.database import Store, StoreUnavailable, Tx, next_id
from runomics.store.tasks import NewTask, TaskRow


@dataclass(frozen=True, slots=True)
class TaskRows:
    """`closing` is set when the server stops."""

    store: Store
    policy: TaskPolicy
    closing: threading.Event

    def of(self, fresh: Sequence[tuple[OpenRun, Submission]], now_ms: int) -> list[TaskRow]:
        """The rows of new submissions in one unit: durable when this returns."""

        def unit(tx: Tx) -> list[TaskRow]:
            rows: list[TaskRow] = []
            for run, submission in fresh:
                place = run.place
                row = task_rows.find_task_by_key(
                    tx, place.run_id, place.incarnation, submission.key, submission.attempt
                )
                if row is None:
                    row = self._insert(tx, place, submission, 1, now_ms)
                elif row.status is TaskStatus.FAILED and self._may_retry(row, submission):
                    row = self._insert(tx, place, submission, row.try_ + 1, now_ms)
                rows.append(row)
            return rows

        return self.store.write(unit)

    def next_try(self, place: RunPlace, submission: Submission, row: TaskRow, now_ms: int) -> TaskRow:
        """A row for the next try after `row`. Waits until the store takes it: an engine waits for this task.

        Raises:
            StoreUnavailable: the server is closing.
        """
        while True:
            try:
                return self.store.write(lambda tx: self._insert(tx, place, submission, row.try_ + 1, now_ms))
            except StoreUnavailable:
                if self.closing.wait(AGAIN_SECONDS):
                    raise

    def _may_retry(self, row: TaskRow, submission: Submission) -> bool:
        return (
            row.reason is not None
            and Reason(row.reason) in RETRIED_BY_SERVICE
            and row.try_ <= self.policy.retries_of(submission)
        )

    def _insert(self, tx: Tx, place: RunPlace, submission: Submission, try_: int, now_ms: int) -> TaskRow:
        profile = self.policy.profiles_here(submission)[0]
        new = NewTask(
            id=next_id(tx, "task"),
            account=place.account,
            run_id=place.run_id,
            uuid=str(uuid.uuid4()),
            incarnation=place.incarnation,
            key=submission.key,
            attempt=submission.attempt,
            try_=try_,
            name=submission.name,
            **shown(profile),
            image=submission.image,
            created_ms=now_ms,
        )
        return task_rows.insert_tasks(tx, [new])[0]


def shown(profile: Profile) -> dict[str, Any]:
    """The columns of a task's row that say what it runs with."""
    cpus, memory_gib = profile.rounded
    return {"cpus": cpus, "memory_gib": memory_gib, "gpus": profile.gpus, "instance_type": profile.instance_type}


def profile_of(policy: TaskPolicy, submission: Submission, row: TaskRow) -> Profile:
    """The one that the row was made or changed with."""
    columns = (row.cpus, row.memory_gib, row.gpus, row.instance_type)
    same = (each for each in submission.profiles if tuple(shown(each).values()) == columns)
    return next(same, policy.profiles_here(submission)[0])
