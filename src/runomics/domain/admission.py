"""Which waiting runs and tasks may start now: order, fit and the limits of run groups. Pure; used by the scheduler.

Runs go by priority (higher first), then age. Tasks inherit their run's priority. Those of one run group stand in a line of their own,
those of none in another; the lines are merged by rank, and a line whose group is full is left without looking at who else stands in it.
A task that does not fit lets smaller ones pass for `PATIENCE_MS`; after that what it needs is put by for it, so a large task cannot be
starved by a stream of small ones: those behind it share what the host has beyond its need, and in a group that is too full for it
nothing of the group starts before it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

PATIENCE_MS = 30_000


class _Ranked(Protocol):
    @property
    def rank(self) -> tuple[int, ...]: ...


R = TypeVar("R", bound=_Ranked)


# ---- values ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PendingRun:
    """A run that waits. `priority` as the client gave it, 0 when it gave none."""

    run_id: int
    priority: int
    storage_type: str
    storage_capacity_gib: int | None
    account: str = ""

    @property
    def quota(self) -> tuple[str, str]:
        """What it counts for: an account's runs of one storage type."""
        return (self.account, self.storage_type)

    @property
    def rank(self) -> tuple[int, int]:
        """Smaller starts earlier."""
        return (-self.priority, self.run_id)


@dataclass(frozen=True, slots=True)
class StorageQuotas:
    """How many runs of each storage type an account may have active at once; None is no limit.

    Source: general reference, quotas (concurrent active runs, one quota for each storage type).
    """

    static: int | None = None
    dynamic: int | None = None

    def __bool__(self) -> bool:
        return self.static is not None or self.dynamic is not None

    def of(self, storage_type: str) -> int | None:
        return self.static if storage_type == "STATIC" else self.dynamic

    def places(self, active: Mapping[tuple[str, str], int], quota: tuple[str, str]) -> int | None:
        """How many more runs may become active that count for `quota`, when so many of each are."""
        most = self.of(quota[1])
        return None if most is None else most - active.get(quota, 0)

    def full(self, active: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
        """The accounts and storage types of which no more runs may become active."""
        return [quota for quota in active if (places := self.places(active, quota)) is not None and places <= 0]


@dataclass(frozen=True, slots=True)
class RunLine:
    """PENDING runs of one group, or of none, by rank. `places`: how many more of them may be active; None: as many as the host allows."""

    pending: Iterable[PendingRun]
    places: int | None = None


@dataclass(frozen=True, slots=True)
class RunsAdmitted:
    """`chosen` start now, in this order. `without_storage` were passed over. `is_everybody`: nobody else could have been chosen."""

    chosen: tuple[PendingRun, ...]
    without_storage: int
    is_everybody: bool


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """A task that waits for cpu and memory: `cpus` and `memory_bytes` of the host, `requested_cpus` and `gpus` of its group."""

    task_id: int
    run_id: int
    priority: int
    cpus: float
    memory_bytes: int
    since_ms: int
    requested_cpus: int = 0
    gpus: int = 0

    @property
    def rank(self) -> tuple[int, int, int]:
        """Smaller starts earlier."""
        return (-self.priority, self.run_id, self.task_id)


@dataclass(frozen=True, slots=True)
class Room:
    """What is free of the host's cpu, memory and GPUs."""

    cpus: float
    memory_bytes: int
    gpus: int = 0

    def holds(self, task: WaitingTask) -> bool:
        return task.cpus <= self.cpus + 1e-9 and task.memory_bytes <= self.memory_bytes and task.gpus <= self.gpus

    @property
    def is_used_up(self) -> bool:
        """Whether nothing can start: every task takes some of both."""
        return self.cpus <= 1e-9 or self.memory_bytes <= 0

    def less(self, task: WaitingTask) -> Room:
        return Room(self.cpus - task.cpus, self.memory_bytes - task.memory_bytes, self.gpus - task.gpus)

    def more(self, task: WaitingTask) -> Room:
        return Room(self.cpus + task.cpus, self.memory_bytes + task.memory_bytes, self.gpus + task.gpus)

    def without_need_of(self, task: WaitingTask) -> Room:
        """What is left to others when as much of the task's need as there is is put by for it."""
        return Room(
            max(0.0, self.cpus - task.cpus),
            max(0, self.memory_bytes - task.memory_bytes),
            max(0, self.gpus - task.gpus),
        )

    def missing(self, task: WaitingTask) -> str:
        """What the task waits for, in words for its owner."""
        wanted = [
            f"{task.cpus:g} CPUs ({max(0.0, self.cpus):g} are free)" if task.cpus > self.cpus + 1e-9 else "",
            f"{task.memory_bytes / (1 << 30):.1f} GiB of memory ({max(0, self.memory_bytes) / (1 << 30):.1f} GiB are free)"
            if task.memory_bytes > self.memory_bytes
            else "",
            f"{task.gpus} GPUs ({self.gpus} are free)" if task.gpus > self.gpus else "",
        ]
        needs = " and ".join(part for part in wanted if part)
        return f"Waiting for {needs} on this server." if needs else "Waiting for tasks before it on this server."


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """What a run group allows its runs and tasks at once; None is no limit. A higher `revision` is newer.

    Source: model; guide, creating-run-groups (over all active runs of the group); assumed: CPUs count as they were asked for, and
    they and GPUs hold back tasks, not runs: a run that was let in can use what others leave, by its priority.
    """

    group_id: int
    revision: int
    max_runs: int | None = None
    max_cpus: int | None = None
    max_gpus: int | None = None

    def refusal(self, cpus: int, gpus: int) -> str | None:
        """Why a task that asks for so much can never start in this group; None when it can."""
        for asked, most, what, limit in (
            (cpus, self.max_cpus, "CPUs", "maxCpus"),
            (gpus, self.max_gpus, "GPUs", "maxGpus"),
        ):
            if most is not None and asked > most:
                return (
                    f"It asks for {asked} {what}, more than the {limit} of {most} of run group {self.group_id}. "
                    f"Ask for less, or raise {limit} with UpdateRunGroup."
                )
        return None


@dataclass(frozen=True, slots=True)
class GroupUse:
    """What the running tasks of a group have asked for."""

    cpus: int = 0
    gpus: int = 0

    def more(self, cpus: int, gpus: int) -> GroupUse:
        return GroupUse(self.cpus + cpus, self.gpus + gpus)

    def less(self, cpus: int, gpus: int) -> GroupUse:
        return GroupUse(self.cpus - cpus, self.gpus - gpus)


@dataclass(frozen=True, slots=True)
class GroupRoom:
    """What a group has left for tasks: its limits, less what its running tasks use."""

    limits: GroupLimits
    use: GroupUse

    def holds(self, task: WaitingTask) -> bool:
        return self.missing(task) is None

    def missing(self, task: WaitingTask) -> str | None:
        """Why the task must wait for others of its group, in words for its owner; None when it need not."""
        limits, use = self.limits, self.use
        if limits.max_cpus is not None and use.cpus + task.requested_cpus > limits.max_cpus:
            return (
                f"Waiting: the running tasks of run group {limits.group_id} use {use.cpus} of its {limits.max_cpus} CPUs (maxCpus), "
                f"and this task asks for {task.requested_cpus}."
            )
        if limits.max_gpus is not None and task.gpus and use.gpus + task.gpus > limits.max_gpus:
            return (
                f"Waiting: the running tasks of run group {limits.group_id} use {use.gpus} of its {limits.max_gpus} GPUs (maxGpus), "
                f"and this task asks for {task.gpus}."
            )
        return None

    @property
    def is_used_up(self) -> bool:
        """Whether nothing of the group can start: every task asks for at least one CPU."""
        return self.limits.max_cpus is not None and self.use.cpus >= self.limits.max_cpus

    def after(self, task: WaitingTask) -> GroupRoom:
        return GroupRoom(self.limits, self.use.more(task.requested_cpus, task.gpus))


@dataclass(frozen=True, slots=True)
class TaskLine:
    """Waiting tasks of one group, or of none, by rank. `room` is None when only the host limits them."""

    waiting: Iterable[WaitingTask]
    room: GroupRoom | None = None


NOTHING_STARTED: Mapping[int, int] = {}


# ---- decisions ---------------------------------------------------------------------------------------------------


def admit_runs(
    lines: Iterable[RunLine],
    *,
    active: int,
    max_active: int,
    has_storage: Callable[[PendingRun], bool],
    places_of: Callable[[tuple[str, str]], int | None] = lambda quota: None,
    look_at: int | None = None,
) -> RunsAdmitted:
    """The runs to start now. A run without storage room waits and lets others pass. At most `look_at` runs are looked at.

    `places_of` says how many more runs may become active that count for a quota (`PendingRun.quota`); None: any number.

    Source: guide, monitoring-runs: PENDING runs are ordered by priority, then by age; creating-run-groups: maxRuns.
    """
    free = max_active - active
    standing = [line for line in lines if line.places is None or line.places > 0]
    places = [line.places for line in standing]
    merged = _Merged([line.pending for line in standing])
    chosen: list[PendingRun] = []
    taken: Counter[tuple[str, str]] = Counter()
    without_storage = passed = 0
    while merged and len(chosen) < free and (look_at is None or len(chosen) + without_storage + passed < look_at):
        number, run = merged.pop()
        left = places[number]
        quota_places = places_of(run.quota)
        if quota_places is not None and taken[run.quota] >= quota_places:
            passed += 1
        elif not has_storage(run):
            without_storage += 1
        else:
            chosen.append(run)
            taken[run.quota] += 1
            if left is not None:
                places[number] = left = left - 1
        if left != 0:
            merged.advance(number)
    return RunsAdmitted(tuple(chosen), without_storage, is_everybody=not merged)


def waiting_reason(
    *,
    active: int,
    max_active: int,
    no_storage: str,
    limits: GroupLimits | None = None,
    active_in_group: int = 0,
    no_place: str = "",
) -> str:
    """Why a PENDING run has not started, in words for its owner: the limit that stands in its way.

    `no_place` says which quota of its account is used up, "" when none is.

    `no_storage` says why its storage cannot be had, "" when it can. `limits` and `active_in_group` are its group's, if it is in one.
    """
    if active >= max_active:
        return f"Waiting: {active} of at most {max_active} runs are active."
    if no_place:
        return f"Waiting: {no_place}"
    if limits is not None and limits.max_runs is not None and active_in_group >= limits.max_runs:
        return f"Waiting: {active_in_group} of at most {limits.max_runs} runs of run group {limits.group_id} are active (maxRuns)."
    if no_storage:
        return f"Waiting for run storage: {no_storage}"
    return "Waiting to be started."


def admit_tasks(
    lines: Iterable[TaskLine],
    room: Room,
    *,
    now_ms: int,
    started: Mapping[int, int] = NOTHING_STARTED,
    most_of_a_run: int | None = None,
) -> list[WaitingTask]:
    """The tasks to start now, in order. They are looked at no further than there is room.

    `started`: how many tasks of a run (by id) have been started and not ended; no run has more than `most_of_a_run`.
    """
    of_run: dict[int, int] = {}
    standing = [line for line in lines if line.room is None or not line.room.is_used_up]
    group_rooms = [line.room for line in standing]
    merged = _Merged([line.waiting for line in standing])
    chosen: list[WaitingTask] = []
    while merged and not room.is_used_up:
        number, task = merged.pop()
        group_room = group_rooms[number]
        is_impatient = now_ms - task.since_ms > PATIENCE_MS
        of_this_run = started.get(task.run_id, 0) + of_run.get(task.run_id, 0)
        if most_of_a_run is not None and of_this_run >= most_of_a_run:
            pass
        elif group_room is not None and not group_room.holds(task):
            if is_impatient:
                continue
        elif room.holds(task):
            chosen.append(task)
            of_run[task.run_id] = of_run.get(task.run_id, 0) + 1
            room = room.less(task)
            if group_room is not None:
                group_rooms[number] = group_room = group_room.after(task)
        elif is_impatient:
            room = room.without_need_of(task)
        if group_room is None or not group_room.is_used_up:
            merged.advance(number)
    return chosen


class _Merged(Generic[R]):
    """Several lines as one, by rank. What is popped holds up the rest of its line until `advance`."""

    def __init__(self, lines: Iterable[Iterable[R]]) -> None:
        self._lines: list[Iterator[R]] = [iter(line) for line in lines]
        self._heads: list[tuple[tuple[int, ...], int, R]] = []
        for number in range(len(self._lines)):
            self.advance(number)

    def __bool__(self) -> bool:
        return bool(self._heads)

    def pop(self) -> tuple[int, R]:
        """The number of a line and the first in it, of all the one with the smallest rank."""
        _, number, first = heapq.heappop(self._heads)
        return number, first

    def advance(self, number: int) -> None:
        """Let the next of that line step forward."""
        head = next(self._lines[number], None)
        if head is not None:
            heapq.heappush(self._heads, (head.rank, number, head))
