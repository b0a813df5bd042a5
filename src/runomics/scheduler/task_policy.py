"""What an operator decides about tasks, and what follows for one that asks for more than there is. Pure; runs in the server."""

from __future__ import annotations

from dataclasses import dataclass

from runomics.domain.profile import EXHAUSTED, NO_SUCH_GPU, Profile, Refusal
from runomics.domain.task import Reason
from runomics.ports import TaskEnd
from runomics.scheduler.submission import Submission

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """`host_*`: what tasks may use at once; `oversize`: clamp, fail; `most_of_a_run`: started at once."""

    host_cpus: float
    host_memory_bytes: int
    host_gpus: int = 0
    oversize: str = "clamp"
    retries: int = 2
    grace_seconds: float = 2.0
    most_of_a_run: int | None = None

    def share(self, profile: Profile) -> tuple[float, int]:
        """CPUs and bytes of memory that a task gets: what it was rounded to, and no more than the host gives."""
        cpus, memory_gib = profile.rounded
        return min(float(cpus), self.host_cpus), min(memory_gib * GIB, self.host_memory_bytes)

    def is_short(self, profile: Profile) -> bool:
        """Whether the task gets less than it asks for."""
        cpus, memory_gib = profile.rounded
        return self.share(profile) != (float(cpus), memory_gib * GIB)

    def retries_of(self, submission: Submission) -> int:
        """How often the service tries again after a loss of its own: what the task asks for, up to what the operator allows."""
        asked = submission.service_retries
        return self.retries if asked is None else min(asked, self.retries)

    def profiles_here(self, submission: Submission) -> tuple[Profile, ...]:
        """Those of its profiles that this host can give, in order; the first of all when there are none."""
        return tuple(each for each in submission.profiles if self.refusal_of(each) is None) or submission.profiles[:1]

    def following(self, submission: Submission, profile: Profile) -> Profile | None:
        """The next of its profiles that this host can give, None after the last."""
        here = self.profiles_here(submission)
        number = here.index(profile) + 1 if profile in here else 0
        return here[number] if number < len(here) else None

    def refusal_of(self, profile: Profile) -> Refusal | None:
        """Why this host can never give the profile, None when it can.

        Deviation: any GPU of the server stands for the accelerator that was asked for.
        """
        refusal = profile.refusal()
        if refusal is not None:
            return refusal
        if profile.gpus > self.host_gpus:
            has = f"this server has {self.host_gpus}" if self.host_gpus else "this server has none"
            return Refusal(NO_SUCH_GPU, f"It asks for {profile.text}; of GPUs {has}.")
        if self.oversize == "clamp" or not self.is_short(profile):
            return None
        return Refusal(
            "INVALID_TASK_RESOURCE_VALUE",
            f"It asks for {profile.text}; this host gives at most {self.host_cpus:g} CPUs and "
            f"{self.host_memory_bytes // GIB} GiB, and oversize_tasks is fail.",
        )

    def refusal(self, submission: Submission) -> TaskEnd | None:
        """Why this server can never run the task, None when it can."""
        whys = [self.refusal_of(profile) for profile in submission.profiles]
        found = [why for why in whys if why is not None]
        if len(found) == len(whys):
            if not submission.fallbacks:
                return TaskEnd(Reason.REFUSED, None, found[0].message, found[0].code)
            said = " ".join(dict.fromkeys(why.message for why in found))
            return TaskEnd(
                Reason.REFUSED, None, f"None of its {len(whys)} fallback profiles can be had. {said}", EXHAUSTED
            )
        return None


def exhausted(submission: Submission) -> TaskEnd:
    """The end of a task whose fallback profiles were all waited for in vain."""
    waits = ", ".join(f"{each.text} for {(each.wait_seconds or 0) // 60} minutes" for each in submission.profiles)
    return TaskEnd(Reason.REFUSED, None, f"It waited in vain for each of its fallback profiles: {waits}.", EXHAUSTED)
