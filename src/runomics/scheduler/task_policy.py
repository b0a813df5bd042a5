"""What an operator decides about tasks, and what follows for one that asks for more than there is. Pure; runs in the server."""

from __future__ import annotations

from dataclasses import dataclass

from runomics.domain.task import Reason
from runomics.ports import TaskEnd
from runomics.scheduler.submission import Submission
from runomics.store.tasks import TaskRow

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """`host_*`: what tasks may use at once; `oversize`: clamp, fail; `unknown_images`: fail, host."""

    host_cpus: float
    host_memory_bytes: int
    oversize: str = "clamp"
    unknown_images: str = "fail"
    retries: int = 2
    grace_seconds: float = 2.0

    def share(self, row: TaskRow) -> tuple[float, int]:
        """CPUs and bytes of memory that the task gets: what it was rounded to, and no more than the host gives."""
        return min(float(row.cpus), self.host_cpus), min(row.memory_gib * GIB, self.host_memory_bytes)

    def is_short(self, row: TaskRow) -> bool:
        """Whether the task gets less than it asks for."""
        return self.share(row) != (float(row.cpus), row.memory_gib * GIB)


def no_instance_type(row: TaskRow) -> TaskEnd | None:
    """The end of a task that is larger than any instance type; None for any other."""
    if row.instance_type is not None:
        return None
    wanted = f"{row.cpus} CPUs, {row.memory_gib} GiB" + (f", {row.gpus} GPUs" if row.gpus else "")
    return TaskEnd(Reason.REFUSED, None, f"No instance type has {wanted}.")


def refusal(row: TaskRow, submission: Submission, policy: TaskPolicy) -> TaskEnd | None:
    """Why this server can never run the task, None when it can."""
    if submission.image is not None and policy.unknown_images != "host":
        return TaskEnd(
            Reason.IMAGE,
            None,
            f"The image {submission.image} cannot be had: this server runs tasks on its own root. "
            "Set unknown_images to host to run such tasks there.",
        )
    if submission.accelerator_count:
        return TaskEnd(Reason.REFUSED, None, "This server has no accelerators.")
    if policy.oversize == "clamp" or not policy.is_short(row):
        return None
    return TaskEnd(
        Reason.REFUSED,
        None,
        f"It asks for {row.cpus} CPUs and {row.memory_gib} GiB; this host gives at most {policy.host_cpus:g} CPUs and "
        f"{policy.host_memory_bytes // GIB} GiB, and oversize_tasks is fail.",
    )
