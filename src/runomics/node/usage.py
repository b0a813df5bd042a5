"""What an attempt used, minute by minute, from counters read now and then. Kept by the supervisor, written into result.json."""

from __future__ import annotations

from .cgroups import Counters

FIRST_MINUTE_SECONDS = 60.0
EVERY_SECONDS_AT_FIRST = 1.0
EVERY_SECONDS_LATER = 10.0


class UsageRecord:
    """Sums per minute: `[minute_epoch_ms, cpu_seconds, peak_memory_bytes]`."""

    def __init__(self) -> None:
        self._minutes: dict[int, list[float]] = {}
        self._cpu_seconds = 0.0
        self._peak_bytes = 0

    def take(self, now_ms: int, counters: Counters) -> None:
        """Book what was used since the last reading on the minute of `now_ms`."""
        minute = self._minutes.setdefault(now_ms // 60_000 * 60_000, [0.0, 0.0])
        if counters.cpu_seconds is not None and counters.cpu_seconds > self._cpu_seconds:
            minute[0] += counters.cpu_seconds - self._cpu_seconds
            self._cpu_seconds = counters.cpu_seconds
        minute[1] = max(minute[1], counters.memory_bytes or 0)
        if counters.peak_bytes is not None and counters.peak_bytes > self._peak_bytes:
            minute[1] = max(minute[1], counters.peak_bytes)
        self._peak_bytes = max(self._peak_bytes, counters.peak_bytes or 0, counters.memory_bytes or 0)

    @property
    def peak_bytes(self) -> int:
        """The most ever seen."""
        return self._peak_bytes

    @property
    def cpu_seconds(self) -> float:
        """All that was booked."""
        return self._cpu_seconds

    def minutes(self) -> list[list[float]]:
        """The rows of result.json, in order of time."""
        return [[minute, round(cpu, 6), int(peak)] for minute, (cpu, peak) in sorted(self._minutes.items())]


def seconds_to_next_reading(running_seconds: float) -> float:
    """How long to wait before the counters are read again."""
    return EVERY_SECONDS_AT_FIRST if running_seconds < FIRST_MINUTE_SECONDS else EVERY_SECONDS_LATER
