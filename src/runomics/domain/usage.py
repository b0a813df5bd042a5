"""What a task used, from what its supervisor noted minute by minute. Pure; used by the server.

Source: guide, getinfo-about-runs (averages and maxima); observed (a maximum is that of one-minute intervals).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Minute:
    """One interval: when it began (UTC epoch ms), CPU seconds used in it, most and mean bytes of memory."""

    began_ms: int
    cpu_seconds: float
    peak_bytes: int
    average_bytes: int


@dataclass(frozen=True, slots=True)
class TaskUsage:
    """`cpus_*`: CPUs in use; memory in bytes."""

    running_seconds: float
    cpus_average: float
    cpus_maximum: float
    memory_average_bytes: int
    memory_maximum_bytes: int


def task_usage(minutes: Iterable[Minute], *, started_ms: int, stopped_ms: int) -> TaskUsage:
    """Averages over the task's whole time, maxima of its intervals. An interval counts for as long as the task ran in it."""
    running_ms = max(1, stopped_ms - started_ms)
    cpu_seconds = weighted_bytes = busiest = 0.0
    known_ms = peak_bytes = 0
    for minute in minutes:
        began_ms = max(started_ms, minute.began_ms)
        in_it_ms = max(1, min(stopped_ms, minute.began_ms + MINUTE_MS) - began_ms)
        cpu_seconds += minute.cpu_seconds
        busiest = max(busiest, minute.cpu_seconds * 1000 / in_it_ms)
        known_ms += in_it_ms
        weighted_bytes += minute.average_bytes * in_it_ms
        peak_bytes = max(peak_bytes, minute.peak_bytes)
    return TaskUsage(
        running_seconds=(stopped_ms - started_ms) / 1000,
        cpus_average=cpu_seconds * 1000 / running_ms,
        cpus_maximum=busiest,
        memory_average_bytes=round(weighted_bytes / known_ms) if known_ms else 0,
        memory_maximum_bytes=peak_bytes,
    )
