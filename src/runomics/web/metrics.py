"""`/metrics` for Prometheus: runs, tasks and the host as they are now, and sums since the server started. Server process, pool threads.

prometheus-client is imported when somebody asks for the first time: nobody who does not ask pays for it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runomics.ports import Pool

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Figures:
    """One look. `tasks` has the members of scheduler.task_totals.TaskFigures; `live` a row for each running task (names as labels)."""

    runs_pending: int
    runs_active: int
    max_active_runs: int
    pool: Pool
    tasks: Any
    live: tuple[LiveTask, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveTask:
    """A running task; None: its use cannot be read now."""

    run_id: int
    task_id: int
    name: str
    cpus: float
    memory_limit_bytes: int
    cpu_seconds: float | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Answers scrapers. `token`: what they show as bearer; None: nobody need, for the server listens on loopback alone."""

    look: Callable[[], Figures]
    token: str | None
    is_open: bool

    def may_read(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these headers may read."""
        if self.token is None:
            return self.is_open
        given = next((value for name, value in headers if name == b"authorization"), b"")
        return hmac.compare_digest(given, b"Bearer " + self.token.encode())

    def text(self) -> bytes:
        """The figures in Prometheus' text format."""
        # 25 ms and 3 MB.
        from prometheus_client import CollectorRegistry, core, generate_latest  # noqa: PLC0415

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self.look(), core))
        return bytes(generate_latest(registry))


class _Collector:
    """One look as prometheus-client wants it. Not a value: the registry keeps it by identity."""

    def __init__(self, figures: Figures, core: Any) -> None:
        """`core`: the module of prometheus-client with the kinds of metrics."""
        self.figures = figures
        self.core = core

    def collect(self) -> Iterable[Metric]:
        figures, tasks = self.figures, self.figures.tasks
        gauges: Mapping[str, tuple[str, float]] = {
            "runomics_runs_pending": ("Runs that wait to be started.", figures.runs_pending),
            "runomics_runs_active": ("Runs between their start and their end.", figures.runs_active),
            "runomics_runs_active_limit": ("Runs that may be active at once.", figures.max_active_runs),
            "runomics_tasks_waiting": ("Tasks that wait for room.", tasks.waiting),
            "runomics_tasks_running": ("Tasks that were started and have not ended.", tasks.running),
            "runomics_host_cpus": ("CPUs that tasks share.", tasks.cpus),
            "runomics_host_cpus_held": ("CPUs that running tasks were given.", tasks.cpus_held),
            "runomics_host_memory_bytes": ("Memory that tasks share.", tasks.memory_bytes),
            "runomics_host_memory_held_bytes": ("Memory that running tasks were given.", tasks.memory_held_bytes),
            "runomics_host_gpus": ("GPUs that tasks share.", tasks.gpus),
            "runomics_host_gpus_held": ("GPUs that running tasks were given.", tasks.gpus_held),
            "runomics_storage_size_bytes": ("Size of the disk that holds run storage.", figures.pool.size_bytes),
            "runomics_storage_free_bytes": ("What is free of it.", figures.pool.free_bytes),
            "runomics_storage_reserve_bytes": ("What runs never get of it.", figures.pool.reserve_bytes),
        }
        for name, (text, value) in gauges.items():
            yield self.core.GaugeMetricFamily(name, text, value=value)
        ended = self.core.CounterMetricFamily(
            "runomics_task_attempts_ended", "Attempts of tasks that ended.", labels=["reason"]
        )
        for reason, count in sorted(tasks.ended.items()):
            ended.add_metric([reason], count)
        yield ended
        yield self.core.CounterMetricFamily(
            "runomics_task_cpu_seconds", "CPU seconds of ended attempts.", value=tasks.cpu_seconds
        )
        yield self.core.CounterMetricFamily(
            "runomics_task_running_seconds", "Wall seconds of ended attempts.", value=tasks.running_seconds
        )
        yield from self._live()

    def _live(self) -> Iterable[Metric]:
        labels = ["run_id", "task_id", "name"]
        families = {
            "cpus": self.core.GaugeMetricFamily(
                "runomics_live_task_cpus_limit", "CPUs of a running task.", labels=labels
            ),
            "memory_limit_bytes": self.core.GaugeMetricFamily(
                "runomics_live_task_memory_limit_bytes", "Its memory limit.", labels=labels
            ),
            "cpu_seconds": self.core.GaugeMetricFamily(
                "runomics_live_task_cpu_seconds", "CPU seconds it has used.", labels=labels
            ),
            "memory_bytes": self.core.GaugeMetricFamily(
                "runomics_live_task_memory_bytes", "Memory it uses.", labels=labels
            ),
        }
        for task in self.figures.live:
            for member, family in families.items():
                value = getattr(task, member)
                if value is not None:
                    family.add_metric([str(task.run_id), str(task.task_id), task.name], value)
        yield from families.values()
