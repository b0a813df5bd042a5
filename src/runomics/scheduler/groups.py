"""Brings a run group's changed limits to those who go by them. A worker thread of the server."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from runomics.domain.admission import GroupLimits
from runomics.store import groups
from runomics.store.database import Store

log = structlog.get_logger()


class Groups:
    """What UpdateRunGroup has in its wake. Nothing is lost when a step is: a new server reads all limits anew."""

    def __init__(
        self,
        store: Store,
        *,
        set_limits: Callable[[GroupLimits], None],
        wake: Callable[[int], None],
        admit: Callable[[], None],
    ) -> None:
        """`set_limits` tells the waiting tasks, `wake` has a run look at its clock, `admit` looks for runs that may start."""
        self._store = store
        self._set_limits = set_limits
        self._wake = wake
        self._admit = admit

    def step(self, group_id: int) -> None:
        """Have the group's tasks, its active runs and its waiting runs go by its present limits. Idempotent."""
        group = self._store.read(lambda tx: groups.load_group(tx, group_id))
        if group is None:
            return
        self._set_limits(group.limits)
        for run_id in self._store.read(lambda tx: groups.active_runs_of_group(tx, group_id)):
            self._wake(run_id)
        self._admit()
        log.info("group.limits_taken_over", run_group_id=group_id, revision=group.revision)
