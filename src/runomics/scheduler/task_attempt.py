"""One try of one submission, and the run it belongs to, as this server knows them. Kept by `Tasks`, changed under its lock.

Nothing here must survive the server: rows and the attempts' directories hold what matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from runomics.domain import resources
from runomics.domain.admission import GroupLimits, WaitingTask
from runomics.domain.network import Network
from runomics.domain.profile import Profile
from runomics.domain.task import Reason
from runomics.ports import TaskEnd
from runomics.scheduler.submission import Submission, beneath
from runomics.scheduler.task_image import TaskImage
from runomics.store.tasks import TaskRow


@dataclass(frozen=True, slots=True)
class RunPlace:
    """What its tasks must know of a run that executes. Paths are the host's. `network` None: no interface but loopback.

    `has_local_scratch`: each task has a /tmp of its own size, off the run's storage.
    """

    run_id: int
    run_uuid: str
    account: str
    incarnation: int
    priority: int
    run_directory: Path
    definition: Path
    rootless: bool
    storage_capacity_gib: int | None
    environment: Mapping[str, str]
    keeps_logs: bool
    group: GroupLimits | None = None
    registry_map: Mapping[str, Any] | None = None
    network: Network | None = None
    has_local_scratch: bool = False

    @property
    def volume(self) -> Path:
        return self.run_directory / "volume"


@dataclass(slots=True, eq=False)
class OpenRun:
    """A run whose tasks may start here. `unsettled` counts the attempts whose end is not written."""

    place: RunPlace
    attempts: dict[tuple[str, int], Attempt] = field(default_factory=dict)
    unsettled: int = 0
    stopping: bool = False
    told_of_network: bool = False

    def is_in(self, group_id: int) -> bool:
        """Whether the run belongs to that group."""
        return self.place.group is not None and self.place.group.group_id == group_id


@dataclass(slots=True, eq=False)
class Attempt:
    """One try of one submission. `row` mirrors the database's; `profile`: how it is run, one of the submission's.

    `outputs`: where it prints, relative to the volume.
    """

    run: OpenRun
    row: TaskRow
    submission: Submission | None
    directory: Path
    cpus: float
    memory_bytes: int
    since_ms: int
    profile: Profile = field(default_factory=Profile)
    image: TaskImage | None = None
    awaits_image: bool = False
    status_is_running: bool = False
    holds_room: bool = False
    end: TaskEnd | None = None
    settled: bool = False
    outputs: tuple[str, str] | None = None

    @property
    def place(self) -> RunPlace:
        return self.run.place

    @property
    def group_id(self) -> int | None:
        return None if self.place.group is None else self.place.group.group_id

    @property
    def waiting(self) -> WaitingTask:
        return WaitingTask(
            task_id=self.row.id,
            run_id=self.place.run_id,
            priority=self.place.priority,
            cpus=self.cpus,
            memory_bytes=self.memory_bytes,
            since_ms=self.since_ms,
            requested_cpus=self.row.cpus,
            gpus=self.row.gpus,
        )

    @property
    def stream(self) -> str:
        """The name of its log stream."""
        return f"run/{self.place.run_id}/task/{self.row.id}"


def name_of(row: TaskRow) -> str:
    """The name of the attempt's directory among those of its run."""
    return f"{row.id}.{row.try_}"


def scratch_of(attempt: Attempt) -> int | None:
    """GiB of the attempt's own /tmp; None where it lies on the run's storage."""
    if not attempt.place.has_local_scratch or attempt.place.rootless or attempt.submission is None:
        return None
    return resources.scratch_gib(attempt.submission.disk_bytes)


def outputs_of(submission: Submission) -> tuple[str, str] | None:
    """Where the attempt prints, relative to the volume."""
    if submission.stdout is None or submission.stderr is None:
        return None
    return beneath(submission.stdout), beneath(submission.stderr)


def left_spec(directory: Path) -> Mapping[str, Any]:
    """The spec.json that an earlier server wrote; empty when there is none that can be read."""
    try:
        spec = orjson.loads((directory / "spec.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return spec if isinstance(spec, dict) else {}


def outputs_of_spec(spec: Mapping[str, Any]) -> tuple[str, str] | None:
    """Where the attempt of a spec.json prints."""
    stdout, stderr = spec.get("stdout"), spec.get("stderr")
    return (stdout, stderr) if stdout and stderr else None


def end_of_row(row: TaskRow) -> TaskEnd:
    """How the attempt of an ended row ended, for an engine that asks again."""
    return TaskEnd(
        reason=Reason(row.reason) if row.reason else Reason.CANCELLED,
        exit_code=row.exit_code,
        message=row.status_message or "",
        started_ms=row.started_ms,
        stopped_ms=row.stopped_ms,
    )
