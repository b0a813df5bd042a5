"""Owns what is known of one volume's usage: peak, fullness, what a reading really means; runs in the server. Knows no file system.

XFS reserves the worst case of metadata for every file whose data has not reached the disk yet, and `statvfs` counts that
reserve as used: `RESERVE_PER_FILE_BYTES` for a file of one extent. Until the next exact reading (right after a syncfs) a meter
takes it off for each new inode, but for no more files than were closed after writing: links and directories reserve nothing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from runomics.ports import Usage

RESERVE_PER_FILE_BYTES = 20 << 10
FULL_AVAILABLE_BYTES = 1 << 20
FULL_SHARE = 0.999
MATERIAL_BYTES = 1 << 20
MATERIAL_SHARE = 0.005
"""A correction above both is worth an exact reading (the share is of the peak)."""

UNCOUNTED = 1 << 40
"""More closes than there are inodes: every new inode may be a file."""

MOVED_BYTES = 64 << 20
MOVED_SHARE = 0.01
MOVED_LEAST_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Reading:
    """A look at a volume as its file system tells it, in bytes; `used_bytes` without what the empty volume took."""

    used_bytes: int
    available_bytes: int
    inodes: int = 0


class Gauge(Protocol):
    """How one volume is read. Calls raise OSError when the volume is lost."""

    def read(self) -> Reading:
        """A look, as cheap as there is."""
        ...

    def flush(self) -> None:
        """Everything to disk. Slow; other calls may come meanwhile."""
        ...


class Meter:
    """One volume's running account. Thread-safe; a closed one answers with its last usage and reads no more."""

    def __init__(
        self, gauge: Gauge, limit_bytes: int | None, *, peak_bytes: int, was_full: bool, reserve_per_file_bytes: int = 0
    ) -> None:
        self._gauge = gauge
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._limit_bytes = limit_bytes
        self._peak_bytes = peak_bytes
        self._was_full = was_full
        self._reserve_per_file_bytes = reserve_per_file_bytes
        self._inodes_when_exact: int | None = None
        self._closes_since_exact = 0
        self._correction_bytes = 0
        self._raw_available_bytes = 0
        self._mark_bytes = 0
        self._is_closed = False
        self._last = Usage(0, peak_bytes, 0, limit_bytes, was_full)
        self._seen_exactly: Reading | None = None

    def read(self) -> Reading | None:
        """A look that `take` has not taken in yet; None when closed. Raises: OSError."""
        with self._lock:
            return None if self._is_closed else self._gauge.read()

    def take(self, reading: Reading) -> bool:
        """Take a look in; whether usage has moved by more than 1 % or 64 MiB since it last did."""
        with self._lock:
            self._take(reading)
            used = self._last.used_bytes
            if abs(used - self._mark_bytes) <= min(MOVED_BYTES, max(MOVED_LEAST_BYTES, self._peak_bytes * MOVED_SHARE)):
                return False
            self._mark_bytes = used
            return True

    def sample_exactly(self) -> Usage:
        """Everything to disk, then a look that needs no correction. Samples go on meanwhile. Raises: OSError."""
        with self._flushing:
            with self._lock:
                if self._is_closed:
                    return self._last
                before = self._gauge.read()
                self._take(before)
                closes_before = self._closes_since_exact
            self._gauge.flush()
            with self._lock:
                if self._has_closed():
                    return self._last
                self._inodes_when_exact = before.inodes
                self._closes_since_exact -= closes_before
                self._seen_exactly = self._gauge.read()
                self._take(self._seen_exactly)
                return self._last

    def saw_closes(self, count: int) -> None:
        """`count` more files were closed after writing, `UNCOUNTED` when that is not known."""
        with self._lock:
            self._closes_since_exact += count

    def needs_exact(self) -> bool:
        """Whether the correction is so large that only an exact reading tells the usage within 1 %."""
        return self._correction_bytes > max(MATERIAL_BYTES, self._peak_bytes * MATERIAL_SHARE)

    def needs_exact_now(self) -> bool:
        """Whether the volume looks full, but for a correction that may no longer be due."""
        return self._correction_bytes > 0 and self._raw_available_bytes < FULL_AVAILABLE_BYTES and not self._was_full

    def changed_since_exact(self) -> bool:
        """Whether the volume's reading differs from that of the last exact one. Raises: OSError."""
        with self._lock:
            return self._is_closed or self._gauge.read() != self._seen_exactly

    def usage(self) -> Usage:
        """The last look, with the peak."""
        return self._last

    def close(self) -> None:
        """Read no more: the gauge may be let go then. The last usage stays."""
        with self._lock:
            self._is_closed = True

    def _has_closed(self) -> bool:
        return self._is_closed

    def _take(self, reading: Reading) -> None:
        if self._inodes_when_exact is None:
            self._inodes_when_exact = reading.inodes
        new_files = max(0, reading.inodes - self._inodes_when_exact)
        new_files = min(new_files, self._closes_since_exact)
        correction = min(new_files * self._reserve_per_file_bytes, max(0, reading.used_bytes))
        used = max(0, reading.used_bytes - correction)
        available = reading.available_bytes + correction
        self._correction_bytes = correction
        self._raw_available_bytes = reading.available_bytes
        self._peak_bytes = max(self._peak_bytes, used)
        if self._limit_bytes is not None:
            available = max(0, min(available, self._limit_bytes - used))
            is_full = available < FULL_AVAILABLE_BYTES or self._peak_bytes >= FULL_SHARE * self._limit_bytes
            self._was_full = self._was_full or is_full
        self._last = Usage(used, self._peak_bytes, available, self._limit_bytes, self._was_full)
