"""What an attempt used, minute by minute, from counters read now and then. Kept by the supervisor, written into result.json."""

from __future__ import annotations

from .cgroups import Counters

FIRST_MINUTE_SECONDS = 60.0
EVERY_SECONDS_AT_FIRST = 1.0
EVERY_SECONDS_LATER = 10.0


class _Minute:
    """`weight_ms`: for how long there were readings of memory, each counted from the one before."""

    __slots__ = ("cpu_seconds", "memory_byte_ms", "peak_bytes", "weight_ms")

    def __init__(self) -> None:
        self.cpu_seconds = 0.0
        self.peak_bytes = 0
        self.memory_byte_ms = 0
        self.weight_ms = 0

    def row(self, began_ms: int) -> list[float]:
        average = self.memory_byte_ms // self.weight_ms if self.weight_ms else self.peak_bytes
        return [began_ms, round(self.cpu_seconds, 6), self.peak_bytes, average]


class UsageRecord:
    """Sums per minute: `[minute_epoch_ms, cpu_seconds, peak_memory_bytes, average_memory_bytes]`."""

    def __init__(self) -> None:
        self._minutes: dict[int, _Minute] = {}
        self._cpu_seconds = 0.0
        self._peak_bytes = 0
        self._last_ms: int | None = None

    def take(self, now_ms: int, counters: Counters) -> None:
        """Book what was used since the last reading on the minute of `now_ms`."""
        key = now_ms // 60_000 * 60_000
        minute = self._minutes.get(key)
        if minute is None:
            minute = self._minutes[key] = _Minute()
        if counters.cpu_seconds is not None and counters.cpu_seconds > self._cpu_seconds:
            minute.cpu_seconds += counters.cpu_seconds - self._cpu_seconds
            self._cpu_seconds = counters.cpu_seconds
        if counters.memory_bytes is not None:
            since_ms = 1 if self._last_ms is None else max(1, now_ms - self._last_ms)
            minute.memory_byte_ms += counters.memory_bytes * since_ms
            minute.weight_ms += since_ms
            minute.peak_bytes = max(minute.peak_bytes, counters.memory_bytes)
            self._last_ms = now_ms
        if counters.peak_bytes is not None and counters.peak_bytes > self._peak_bytes:
            minute.peak_bytes = max(minute.peak_bytes, counters.peak_bytes)
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
        return [minute.row(began_ms) for began_ms, minute in sorted(self._minutes.items())]


def seconds_to_next_reading(running_seconds: float) -> float:
    """How long to wait before the counters are read again."""
    return EVERY_SECONDS_AT_FIRST if running_seconds < FIRST_MINUTE_SECONDS else EVERY_SECONDS_LATER
