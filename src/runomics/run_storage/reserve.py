"""Owns the host's reserve: how much room the disk of the volumes must keep, and whether another run fits; runs in the server.

A full host is the one thing a run storage cannot mend: writes that were answered are lost. So runs are held back while the disk is
below its reserve, and `Upkeep` gives freed space back and then calls for help when running ones eat into it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from runomics.ports import Pool, StorageType

RESERVE_SHARE = 0.05
RESERVE_LEAST_BYTES = 10 << 30
NEW_VOLUME_BYTES = 80 << 20
"""What an empty volume takes of the host: the log of 64 MiB, and its directory."""


class HostReserve:
    """The disk that holds `directory`. `reserve_bytes` None: 5 % of it, at least 10 GiB.

    With `static_reserves_pool`, STATIC runs are promised all of their capacity: `promised_bytes()` is what the living ones may
    still write. Without it they share what there is (thin), like DYNAMIC ones.
    """

    def __init__(
        self,
        directory: Path,
        *,
        reserve_bytes: int | None = None,
        static_reserves_pool: bool = False,
        promised_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self._static_reserves_pool = static_reserves_pool
        self._promised_bytes = promised_bytes or (lambda: 0)

    def pool(self) -> Pool:
        """The host's room, now."""
        status = os.statvfs(self._directory)
        size = status.f_blocks * status.f_frsize
        reserve = self._reserve_bytes
        if reserve is None:
            reserve = max(int(size * RESERVE_SHARE), RESERVE_LEAST_BYTES)
        return Pool(size, status.f_bavail * status.f_frsize, reserve)

    def has_room(self, storage_type: StorageType, capacity_gib: int | None) -> tuple[bool, str]:
        """Whether a new volume may be made, and why not in words for an operator."""
        pool = self.pool()
        room = pool.free_bytes - pool.reserve_bytes
        if room < NEW_VOLUME_BYTES:
            return False, (
                f"the disk of {self._directory} has {_gib(pool.free_bytes)} GiB free and keeps {_gib(pool.reserve_bytes)} GiB "
                "in reserve: free some space, or lower storage_reserve_gib"
            )
        if not self._static_reserves_pool or storage_type is not StorageType.STATIC or capacity_gib is None:
            return True, ""
        promised = self._promised_bytes()
        if promised + (capacity_gib << 30) <= room:
            return True, ""
        return False, (
            f"STATIC storage of {capacity_gib} GiB does not fit: {_gib(room)} GiB above the reserve, of which {_gib(promised)} GiB are "
            "promised to running STATIC runs (static_reserves_pool is on)"
        )

    def is_low(self, pool: Pool) -> bool:
        """Whether running runs have eaten into the reserve."""
        return pool.free_bytes < pool.reserve_bytes


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):.1f}"
