"""Owns the slow rounds over all volumes: giving freed space back, exact readings, the host's reserve; runs in the server, one thread.

It sleeps while there is no volume.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog

from runomics.ports import Pool
from runomics.run_storage.reserve import HostReserve

log = structlog.get_logger()

T = TypeVar("T")

GUARD_SECONDS = 1.0
RECLAIM_SECONDS = 45.0
LOW_RECLAIM_SECONDS = 10.0
LOW_REPEAT_SECONDS = 5.0


class Upkeep:
    """Calls `reclaim(run_uuid)` for each of `volumes()` every `reclaim_seconds`, `exact(run_uuid)` when asked for.

    Below the reserve everything is reclaimed at once; while it stays below, `on_host_low(pool)` is called every second.
    """

    def __init__(
        self,
        *,
        volumes: Callable[[], Iterable[str]],
        reclaim: Callable[[str], None],
        exact: Callable[[str], None],
        reserve: HostReserve,
        on_host_low: Callable[[Pool], None],
        reclaim_seconds: float = RECLAIM_SECONDS,
    ) -> None:
        self._volumes = volumes
        self._reclaim = reclaim
        self._exact = exact
        self._reserve = reserve
        self._on_host_low = on_host_low
        self._reclaim_seconds = reclaim_seconds
        self._wanted: set[str] = set()
        self._changed = threading.Condition()
        self._is_closed = False
        self._reclaim_at = time.monotonic() + reclaim_seconds
        self._low_reclaim_at = self._tell_at = 0.0
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There is a volume now."""
        with self._changed:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="storage-upkeep", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def want_exact(self, run_uuid: str) -> None:
        """Read this volume exactly as soon as possible."""
        with self._changed:
            self._wanted.add(run_uuid)
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._wanted or any(self._volumes()))
                self._changed.wait_for(lambda: self._is_closed or self._wanted, GUARD_SECONDS)
                if self._is_closed:
                    return
                wanted, self._wanted = self._wanted, set()
            self._each(self._exact, wanted)
            now = time.monotonic()
            if now >= self._reclaim_at:
                self._reclaim_at = now + self._reclaim_seconds
                self._each(self._reclaim, self._volumes())
            self._guarded(self._guard, now)

    def _guard(self, now: float) -> None:
        if not self._reserve.is_low(self._reserve.pool()):
            return
        if now >= self._low_reclaim_at:
            self._low_reclaim_at = now + LOW_RECLAIM_SECONDS
            self._each(self._reclaim, self._volumes())
        pool = self._reserve.pool()
        if not self._reserve.is_low(pool):
            return
        if now >= self._tell_at:
            self._tell_at = now + LOW_REPEAT_SECONDS
            log.warning("run_storage.host_low", free_bytes=pool.free_bytes, reserve_bytes=pool.reserve_bytes)
        self._guarded(self._on_host_low, pool)

    def _each(self, act: Callable[[str], None], run_uuids: Iterable[str]) -> None:
        for run_uuid in list(run_uuids):
            self._guarded(act, run_uuid)

    def _guarded(self, act: Callable[[T], None], argument: T) -> None:
        try:
            act(argument)
        except Exception:
            log.exception("run_storage.upkeep_failed", about=str(argument))
