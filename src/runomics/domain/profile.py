"""What a task asks to run with: one profile of cpu, memory and accelerators, or several that are tried in order. Pure; server side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runomics.domain import resources

MOST_PROFILES = 10
CPU_ONLY = "cpu"
"""The resource type of a profile without accelerators, as AWS_HEALTHOMICS_RESOURCE_TYPE has it."""
ANY_ACCELERATOR = "any"

INVALID = "INVALID_TASK_RESOURCE_VALUE"
NO_SUCH_GPU = "UNSUPPORTED_GPU_INSTANCE_TYPE"
EXHAUSTED = "ALL_PROFILES_INSTANCE_RESERVATION_FAILED"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a task cannot run: a failureReason of the API and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Profile:
    """One way to run a task. 0 means not asked for; `wait_seconds`: how long to wait for its turn before the next profile is tried.

    Source: guide, task-resources, task-accelerators, advanced-resource-configuration.
    """

    cpus: float = 0.0
    memory_bytes: int = 0
    accelerator_type: str | None = None
    accelerator_count: int = 0
    wait_seconds: int | None = None

    @property
    def rounded(self) -> tuple[int, int]:
        """vCPUs and GiB that the task is shown with and gets."""
        return resources.round_resources(self.cpus, self.memory_bytes)

    @property
    def gpus(self) -> int:
        return self.accelerator_count

    @property
    def instance_type(self) -> str | None:
        """The smallest type that holds it; None when none does."""
        cpus, memory_gib = self.rounded
        return resources.instance_type(cpus, memory_gib, self.accelerator_type, self.accelerator_count)

    @property
    def resource_type(self) -> str:
        """What the task's environment calls it."""
        return CPU_ONLY if not self.gpus else self.accelerator_type or ANY_ACCELERATOR

    @property
    def text(self) -> str:
        """The profile in words."""
        cpus, memory_gib = self.rounded
        gpus = f", {self.gpus} GPUs ({self.accelerator_type or ANY_ACCELERATOR})" if self.gpus else ""
        return f"{cpus} CPUs, {memory_gib} GiB{gpus}"

    def refusal(self) -> Refusal | None:
        """Why no instance type has it; None when one has."""
        if self.instance_type is not None:
            return None
        known = resources.ACCELERATORS
        if self.gpus and self.accelerator_type is not None and self.accelerator_type not in known:
            return Refusal(
                NO_SUCH_GPU,
                f"There is no accelerator {self.accelerator_type}; the types are {', '.join(sorted(known))}.",
            )
        return Refusal(INVALID, f"No instance type has {self.text}.")


def refused_order(profiles: Sequence[Profile]) -> str | None:
    """Why a fallback list is not one; None when it is.

    Source: guide, advanced-resource-configuration (at most 10, at most one without accelerators, and that one last).
    """
    if len(profiles) > MOST_PROFILES:
        return f"{len(profiles)} fallback profiles were given; at most {MOST_PROFILES} may be"
    without = [number for number, profile in enumerate(profiles) if not profile.gpus]
    if len(without) > 1:
        return "only one fallback profile may be without accelerators"
    if without and without[0] != len(profiles) - 1:
        return "the fallback profile without accelerators must be the last"
    return None
