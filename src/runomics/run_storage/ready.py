"""Owns the volumes made ahead of time, so that a run need not wait for mkfs and mount; runs in the server, on a thread of its own.

A ready volume is mounted where no path shows it and held by a descriptor only: when the server dies, nothing of it is left but its
file, which the next start drops. Kinds: DYNAMIC (None), and the STATIC capacities used last.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from runomics.run_storage.image import Attached
from runomics.run_storage.records import VolumeRecord

log = structlog.get_logger()

STATIC_KINDS = 2
RETRY_SECONDS = 30.0
QUIET_SECONDS = 0.05
"""Between a run's taking of a volume and the making of the next: the run's own start goes first."""

Kind = int | None
"""The capacity in GiB of a STATIC volume; None for DYNAMIC."""


@dataclass(frozen=True, slots=True)
class MadeVolume:
    """A volume that belongs to no run yet."""

    directory: Path
    record: VolumeRecord
    attached: Attached


class ReadyVolumes:
    """Keeps `count` volumes of each kind ready. `make(kind)` makes one, `drop(made)` removes one; both may be slow."""

    def __init__(
        self,
        *,
        count: int,
        static_gib: Sequence[int],
        make: Callable[[Kind], MadeVolume],
        drop: Callable[[MadeVolume], None],
    ) -> None:
        self._count = count
        self._make = make
        self._drop = drop
        self._static = deque(static_gib, maxlen=STATIC_KINDS)
        self._made: dict[Kind, deque[MadeVolume]] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="storage-ready", daemon=True)
        if count > 0:
            self._thread.start()

    def take(self, kind: Kind) -> MadeVolume | None:
        """A ready volume, None when there is none just now. Either way more of the kind will be made."""
        with self._changed:
            if kind is not None:
                if kind in self._static:
                    self._static.remove(kind)
                self._static.append(kind)
            self._changed.notify_all()
            waiting = self._made.get(kind)
            return waiting.popleft() if waiting else None

    def wait_until_ready(self, kind: Kind, timeout_seconds: float) -> bool:
        """Whether all the volumes of a kind are made in time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._made.get(kind, ())) >= self._count, timeout_seconds)

    def close(self) -> None:
        """End the thread and let go of every ready volume."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        for waiting in self._made.values():
            for made in waiting:
                made.attached.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._lacking() or self._outdated())
                if self._is_closed:
                    return
                if self._changed.wait_for(lambda: self._is_closed, QUIET_SECONDS):
                    return
                outdated, lacking = self._outdated(), self._lacking()
                old = self._made[outdated[0]].pop() if outdated else None
            if old is not None:
                self._drop(old)
            elif not self._add(lacking[0]):
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed, RETRY_SECONDS)

    def _lacking(self) -> list[Kind]:
        return [kind for kind in (None, *self._static) if len(self._made.get(kind, ())) < self._count]

    def _outdated(self) -> list[Kind]:
        return [
            kind for kind, waiting in self._made.items() if waiting and kind is not None and kind not in self._static
        ]

    def _add(self, kind: Kind) -> bool:
        try:
            made = self._make(kind)
        except Exception as error:
            log.warning("run_storage.cannot_make_ready", capacity_gib=kind, error=str(error))
            return False
        with self._changed:
            self._made.setdefault(kind, deque()).append(made)
            self._changed.notify_all()
        return True
