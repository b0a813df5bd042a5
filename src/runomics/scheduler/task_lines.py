"""Who waits for room, in a line for each run group, and what the running tasks of each group use. Kept by `Tasks`, under its lock.

Nothing here must survive the server: the next one counts what it adopts and is told again who waits.
"""

from __future__ import annotations

import bisect
from typing import Generic, Protocol, TypeVar

from runomics.domain.admission import GroupLimits, GroupRoom, GroupUse, Room, TaskLine, WaitingTask, admit_tasks


class Waiter(Protocol):
    """An attempt as far as lines know it. Neither property changes while it waits."""

    @property
    def waiting(self) -> WaitingTask: ...

    @property
    def group_id(self) -> int | None: ...


W = TypeVar("W", bound=Waiter)
Entry = tuple[tuple[int, int, int], WaitingTask, W]


class TaskLines(Generic[W]):
    """Lines by group, None for those in no group; limits and use of the groups that are known."""

    def __init__(self) -> None:
        self._lines: dict[int | None, list[Entry[W]]] = {}
        self._waiting: dict[int, W] = {}
        self._limits: dict[int, GroupLimits] = {}
        self._use: dict[int, GroupUse] = {}
        self._started: dict[int, int] = {}

    # ---- lines ---------------------------------------------------------------------------------------------------

    def join(self, waiter: W) -> None:
        """Stand in the line of its group, by rank."""
        task = waiter.waiting
        self._waiting[task.task_id] = waiter
        bisect.insort(self._lines.setdefault(waiter.group_id, []), (task.rank, task, waiter), key=_rank)

    def leave(self, waiter: W) -> bool:
        """Wait no longer; False when it did not."""
        if not self.has(waiter):
            return False
        task = waiter.waiting
        del self._waiting[task.task_id]
        line = self._lines[waiter.group_id]
        del line[bisect.bisect_left(line, task.rank, key=_rank)]
        if not line:
            del self._lines[waiter.group_id]
        return True

    def has(self, waiter: W) -> bool:
        """Whether it waits."""
        return self._waiting.get(waiter.waiting.task_id) is waiter

    def count(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def find(self, task_id: int) -> W | None:
        """Who waits under that id."""
        return self._waiting.get(task_id)

    def of_run(self, run_id: int, group_id: int | None) -> list[W]:
        """Those of a run that wait, in order."""
        return [waiter for _, task, waiter in self._lines.get(group_id, []) if task.run_id == run_id]

    def admit(self, room: Room, *, now_ms: int, most_of_a_run: int | None = None) -> list[W]:
        """Those that start now, in order. They wait no longer."""
        lines = [
            TaskLine((task for _, task, _ in line), self._room(group_id)) for group_id, line in self._lines.items()
        ]
        chosen = admit_tasks(lines, room, now_ms=now_ms, started=self._started, most_of_a_run=most_of_a_run)
        admitted = [self._waiting[task.task_id] for task in chosen]
        for waiter in admitted:
            self.leave(waiter)
        return admitted

    # ---- groups --------------------------------------------------------------------------------------------------

    def know(self, limits: GroupLimits) -> None:
        """Go by these limits from now on, unless newer ones are known."""
        known = self._limits.get(limits.group_id)
        if known is None or known.revision < limits.revision:
            self._limits[limits.group_id] = limits

    def forget(self, group_id: int) -> None:
        """Nothing of the group is open here any more."""
        self._limits.pop(group_id, None)
        self._use.pop(group_id, None)

    def hold(self, waiter: W) -> None:
        """Count it as started, and what it asked for as used by its group."""
        task = waiter.waiting
        self._started[task.run_id] = self._started.get(task.run_id, 0) + 1
        if waiter.group_id is not None:
            self._use[waiter.group_id] = self._used(waiter.group_id).more(task.requested_cpus, task.gpus)

    def release(self, waiter: W) -> None:
        """Give back what `hold` counted."""
        task = waiter.waiting
        left = self._started.pop(task.run_id) - 1
        if left:
            self._started[task.run_id] = left
        if waiter.group_id is not None:
            self._use[waiter.group_id] = self._used(waiter.group_id).less(task.requested_cpus, task.gpus)

    def refusal(self, waiter: W) -> str | None:
        """Why its group can never let it start; None when it can."""
        limits = None if waiter.group_id is None else self._limits.get(waiter.group_id)
        if limits is None:
            return None
        task = waiter.waiting
        return limits.refusal(task.requested_cpus, task.gpus)

    def refused(self, group_id: int) -> list[tuple[W, str]]:
        """Those who wait in a group that can never let them start, with why."""
        found = [(waiter, self.refusal(waiter)) for _, _, waiter in self._lines.get(group_id, [])]
        return [(waiter, why) for waiter, why in found if why is not None]

    def missing(self, waiter: W) -> str | None:
        """Which limit of its group it waits for; None when that is not what it waits for."""
        room = self._room(waiter.group_id)
        return None if room is None else room.missing(waiter.waiting)

    def started_of(self, run_id: int) -> int:
        """How many tasks of the run are started and have not ended."""
        return self._started.get(run_id, 0)

    def _room(self, group_id: int | None) -> GroupRoom | None:
        limits = None if group_id is None else self._limits.get(group_id)
        return None if limits is None else GroupRoom(limits, self._used(limits.group_id))

    def _used(self, group_id: int) -> GroupUse:
        return self._use.get(group_id, GroupUse())


def _rank(entry: Entry[W]) -> tuple[int, int, int]:
    return entry[0]
