"""What the tasks that ended since this server started have used, in sums. Kept by `Tasks`, read by who asks for metrics. Server process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from runomics.ports import TaskEnd


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """Tasks as they are now, and sums since the server started.

    `waiting` and `running` count tasks; `cpus`, `memory_bytes`, `gpus` are the host's, with what running tasks hold of them. `ended`:
    attempts by reason.
    """

    waiting: int
    running: int
    cpus: float
    cpus_held: float
    memory_bytes: int
    memory_held_bytes: int
    gpus: int
    gpus_held: int
    ended: Mapping[str, int]
    cpu_seconds: float
    running_seconds: float


class TaskTotals:
    """Sums; `add` comes from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: Counter[str] = Counter()
        self.cpu_seconds = 0.0
        self.running_seconds = 0.0

    def add(self, end: TaskEnd) -> None:
        """Count an attempt that has ended."""
        with self._lock:
            self._ended[str(end.reason)] += 1
            self.cpu_seconds += end.cpu_seconds or 0.0
            if end.started_ms is not None and end.stopped_ms is not None:
                self.running_seconds += max(0, end.stopped_ms - end.started_ms) / 1000

    def ended(self) -> dict[str, int]:
        """Attempts by the reason of their end."""
        with self._lock:
            return dict(self._ended)
