"""Owns the choice between the back ends of run storage, and the volumes of earlier choices; runs in the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import structlog

from runomics.ports import Pool, RunStorage, StorageCaps, StorageType, StorageUnavailable, Usage, Volume, VolumeLost
from runomics.run_storage import directory, xfs_image
from runomics.run_storage.directory import DirectoryStorage
from runomics.run_storage.probe import probe_directory, probe_xfs_image
from runomics.run_storage.records import VolumeRecords
from runomics.run_storage.upkeep import RECLAIM_SECONDS
from runomics.run_storage.xfs_image import XfsImageStorage

log = structlog.get_logger()

Choice = Literal["auto", "xfs-image", "directory"]


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What an operator may set. `reserve_bytes` None: 5 % of the disk, at least 10 GiB."""

    backend: Choice = "auto"
    reserve_bytes: int | None = None
    static_reserves_pool: bool = False
    ready_volumes: int = 2
    ready_static_gib: tuple[int, ...] = (1200,)
    reclaim_seconds: float = RECLAIM_SECONDS


class ManagedStorage(RunStorage, Protocol):
    """A RunStorage with what the composition root needs besides."""

    caps: StorageCaps

    def has_room(self, storage_type: StorageType, capacity_gib: int | None) -> tuple[bool, str]:
        """Whether a run with this storage may be admitted, and why not in words for an operator."""
        ...

    def wait_until_removed(self, timeout_seconds: float) -> bool:
        """Whether everything destroyed so far is gone from the disk in time."""
        ...

    def close(self) -> None:
        """End the threads; volumes stay."""
        ...


class ChosenStorage:
    """Makes volumes in the chosen back end, and serves those that an earlier server made in another one until they are gone."""

    def __init__(self, records: VolumeRecords, chosen: str, storages: Mapping[str, ManagedStorage]) -> None:
        self._records = records
        self._storages = storages
        self._chosen = storages[chosen]
        self.caps = self._chosen.caps

    def create(self, run_uuid: str, storage_type: StorageType, capacity_gib: int | None, uid: int) -> Volume:
        """See `RunStorage.create`."""
        try:
            storage = self._of(run_uuid)
        except VolumeLost as error:
            raise StorageUnavailable(str(error)) from error
        return storage.create(run_uuid, storage_type, capacity_gib, uid)

    def find(self, run_uuid: str) -> Volume | None:
        """See `RunStorage.find`."""
        storage = self._usable(run_uuid)
        return None if storage is None else storage.find(run_uuid)

    def usage(self, run_uuid: str) -> Usage | None:
        """See `RunStorage.usage`."""
        storage = self._usable(run_uuid)
        return None if storage is None else storage.usage(run_uuid)

    def flush(self, run_uuid: str) -> Usage:
        """See `RunStorage.flush`."""
        return self._of(run_uuid).flush(run_uuid)

    def destroy(self, run_uuid: str) -> Usage | None:
        """See `RunStorage.destroy`."""
        try:
            return self._of(run_uuid).destroy(run_uuid)
        except VolumeLost as error:
            raise OSError(str(error)) from error

    def sweep(self, keep: frozenset[str]) -> list[str]:
        """See `RunStorage.sweep`."""
        return sorted(run_uuid for storage in self._storages.values() for run_uuid in storage.sweep(keep))

    def pool(self) -> Pool:
        """See `RunStorage.pool`."""
        return self._chosen.pool()

    def has_room(self, storage_type: StorageType, capacity_gib: int | None) -> tuple[bool, str]:
        """See `ManagedStorage.has_room`."""
        return self._chosen.has_room(storage_type, capacity_gib)

    def wait_until_removed(self, timeout_seconds: float) -> bool:
        """See `ManagedStorage.wait_until_removed`."""
        return all(storage.wait_until_removed(timeout_seconds) for storage in self._storages.values())

    def close(self) -> None:
        """See `ManagedStorage.close`."""
        for storage in self._storages.values():
            storage.close()

    def _usable(self, run_uuid: str) -> ManagedStorage | None:
        try:
            return self._of(run_uuid)
        except VolumeLost as error:
            log.error("run_storage.volume_lost", run_uuid=run_uuid, error=str(error))
            return None

    def _of(self, run_uuid: str) -> ManagedStorage:
        record = self._records.read(run_uuid)
        if record is None:
            return self._chosen
        storage = self._storages.get(record.backend)
        if storage is None:
            raise VolumeLost(
                f"storage of run {run_uuid} is of the back end {record.backend}, which does not work now: see runomics doctor"
            )
        return storage


def open_storage(
    volumes: Path,
    runs: Path,
    settings: StorageSettings,
    *,
    on_full: Callable[[str], None] = lambda run_uuid: None,
    on_host_low: Callable[[Pool], None] = lambda pool: None,
) -> ManagedStorage:
    """The run storage of a data directory, by the setting, or (`auto`) the best back end that works here, found by doing it.

    `on_full(run_uuid)`: a STATIC volume that nothing limits is full: end its run. Where the kernel enforces the limit, a task gets
    ENOSPC and may live with it; its volume's `Usage.was_full` tells what a failure came from.
    `on_host_low(pool)`: running runs have eaten into the reserve and nothing more can be given back.

    Raises:
        StorageUnavailable: the back end that was set does not work here; the message says why and what to do.
    """
    records = VolumeRecords(volumes)
    wants_images = settings.backend in ("auto", xfs_image.BACKEND)
    old = {record.backend for run_uuid in records.uuids() if (record := records.read(run_uuid)) is not None}
    images = probe_xfs_image(volumes) if wants_images or xfs_image.BACKEND in old else None
    if settings.backend == xfs_image.BACKEND and images is not None and not images.works:
        raise StorageUnavailable(f"run storage xfs-image does not work here: {images.why_not}. {images.remedy}")
    chosen = xfs_image.BACKEND if wants_images and images is not None and images.works else directory.BACKEND
    storages: dict[str, ManagedStorage] = {}
    if images is not None and images.works:
        is_chosen = chosen == xfs_image.BACKEND
        storages[xfs_image.BACKEND] = XfsImageStorage(
            volumes,
            runs,
            reserve_bytes=settings.reserve_bytes,
            static_reserves_pool=settings.static_reserves_pool,
            ready_volumes=settings.ready_volumes if is_chosen else 0,
            ready_static_gib=settings.ready_static_gib,
            reclaim_seconds=settings.reclaim_seconds,
            on_host_low=on_host_low,
        )
    if chosen == directory.BACKEND or directory.BACKEND in old:
        plain = probe_directory(runs)
        if not plain.works:
            raise StorageUnavailable(f"run storage directory does not work here: {plain.why_not}. {plain.remedy}")
        storages[directory.BACKEND] = DirectoryStorage(
            volumes,
            runs,
            reserve_bytes=settings.reserve_bytes,
            static_reserves_pool=settings.static_reserves_pool,
            on_full=on_full,
            on_host_low=on_host_low,
        )
    if settings.backend == "auto" and images is not None and not images.works:
        log.warning("run_storage.no_hard_limits", backend=chosen, why=images.why_not, remedy=images.remedy)
    else:
        log.info("run_storage.opened", backend=chosen)
    return ChosenStorage(records, chosen, storages)
