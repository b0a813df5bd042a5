"""Owns run storage as one sparse XFS image per run, loop-mounted at `runs/<run uuid>/volume`; runs in the server as root.

Truth is `volumes/<run uuid>/{volume.json, image}` plus the mounts; what is in memory is found again from them after a crash.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from runomics.ports import Pool, StorageCaps, StorageType, StorageUnavailable, Usage, Volume, VolumeLost
from runomics.run_storage import image, linux
from runomics.run_storage.keyed_locks import KeyedLocks
from runomics.run_storage.meter import RESERVE_PER_FILE_BYTES, Meter
from runomics.run_storage.ready import Kind, MadeVolume, ReadyVolumes
from runomics.run_storage.records import VolumeRecord, VolumeRecords, checked_capacity
from runomics.run_storage.reserve import HostReserve
from runomics.run_storage.sampler import Sampler
from runomics.run_storage.trash import HeldImage, Trash
from runomics.run_storage.upkeep import RECLAIM_SECONDS, Upkeep

log = structlog.get_logger()

BACKEND = "xfs-image"
CAPS = StorageCaps(BACKEND, works=True, enforces_static=True, gives_back=True, needs_root=True)
LOG_BYTES = 64 << 20
RECLAIM_LEAST_BYTES = 64 << 20


@dataclass(slots=True, eq=False)
class _Live:
    volume: Volume
    record: VolumeRecord
    gauge: image.ImageGauge
    meter: Meter


class XfsImageStorage:
    """RunStorage on sparse XFS images. `runs` is made a shared mount. One instance per data directory and machine."""

    def __init__(
        self,
        volumes: Path,
        runs: Path,
        *,
        reserve_bytes: int | None = None,
        static_reserves_pool: bool = False,
        ready_volumes: int = 2,
        ready_static_gib: Sequence[int] = (),
        reclaim_seconds: float = RECLAIM_SECONDS,
        on_full: Callable[[str], None] = lambda run_uuid: None,
        on_host_low: Callable[[Pool], None] = lambda pool: None,
    ) -> None:
        self.caps = CAPS
        self._records = VolumeRecords(volumes)
        self._runs = runs
        runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        linux.prepare_shared_mount(runs)
        self._reserve = HostReserve(
            volumes,
            reserve_bytes=reserve_bytes,
            static_reserves_pool=static_reserves_pool,
            promised_bytes=self._promised_bytes,
        )
        self._largest_file_bytes = image.largest_file_bytes(volumes)
        self._live: dict[str, _Live] = {}
        self._recording = threading.Lock()
        self._locks = KeyedLocks()
        self._trash = Trash()
        self._upkeep = Upkeep(
            volumes=lambda: list(self._live),
            reclaim=self._reclaim,
            exact=self._read_exactly,
            reserve=self._reserve,
            on_host_low=on_host_low,
            reclaim_seconds=reclaim_seconds,
        )
        self._sampler = Sampler(
            persist=self._persist, want_exact=self._upkeep.want_exact, on_full=on_full, on_lost=self._lose
        )
        recent = self._clear_leftovers()
        self._ready = ReadyVolumes(
            count=ready_volumes, static_gib=recent or ready_static_gib, make=self._make, drop=self._drop
        )

    # ---- the port ------------------------------------------------------------------------------------------------

    def create(self, run_uuid: str, storage_type: StorageType, capacity_gib: int | None, uid: int) -> Volume:
        """See `RunStorage.create`. With a ready volume of the kind: a rename and a mount, under a millisecond."""
        kind = checked_capacity(storage_type, capacity_gib)
        with self._locks.hold(run_uuid):
            try:
                found = self._find(run_uuid)
            except VolumeLost as error:
                raise StorageUnavailable(str(error)) from error
            if found is not None:
                return found.volume
            has_room, why = self._reserve.has_room(storage_type, capacity_gib)
            if not has_room:
                raise StorageUnavailable(why)
            made = self._ready.take(kind) or self._make(kind)
            try:
                self._adopt(made, run_uuid, uid)
                return self._show(run_uuid, made.record, made.attached).volume
            except OSError as error:
                raise StorageUnavailable(f"storage of run {run_uuid}: {error}") from error

    def find(self, run_uuid: str) -> Volume | None:
        """See `RunStorage.find`. One that cannot be mounted is none; the log says why."""
        live = self._find_usable(run_uuid)
        return None if live is None else live.volume

    def usage(self, run_uuid: str) -> Usage | None:
        """See `RunStorage.usage`. Flushes first when the volume looks full and only that tells."""
        live = self._find_usable(run_uuid)
        if live is None:
            return None
        self._sampler.sample(run_uuid)
        if live.meter.needs_exact_now():
            self._read_exactly(run_uuid)
        return self._in_pool(live.meter.usage())

    def flush(self, run_uuid: str) -> Usage:
        """See `RunStorage.flush`. Once lost, always lost: the kernel tells of a failed write only once."""
        live = self._find(run_uuid)
        if live is None:
            raise VolumeLost(f"run {run_uuid} has no storage any more")
        if self._records.is_lost(run_uuid):
            raise VolumeLost(f"storage of run {run_uuid} lost data that was written earlier")
        try:
            usage = live.meter.sample_exactly()
        except OSError as error:
            self._lose(run_uuid)
            raise VolumeLost(
                f"storage of run {run_uuid} could not be written to {self._records.root}: {error}"
            ) from error
        self._persist(run_uuid, usage)
        return self._in_pool(usage)

    def destroy(self, run_uuid: str) -> Usage | None:
        """See `RunStorage.destroy`. Takes the volume from sight and leaves unmounting and removing to a thread.

        A repeat answers with the same reading until the next `sweep` without the run, so that a crash loses no peak.
        """
        with self._locks.hold(run_uuid):
            record = self._end(run_uuid)
            return None if record is None else record.last_usage()

    def sweep(self, keep: frozenset[str]) -> list[str]:
        """See `RunStorage.sweep`. Also unmounts what a crash left below `runs` without a volume."""
        destroyed = [run_uuid for run_uuid in self._records.uuids() if run_uuid not in keep and self._is_mine(run_uuid)]
        for run_uuid in destroyed:
            self.destroy(run_uuid)
        for run_uuid in self._mounted_uuids() - set(self._records.uuids()):
            with self._locks.hold(run_uuid):
                self._hide(run_uuid)
        self._records.forget_all_but(keep)
        return destroyed

    def pool(self) -> Pool:
        """See `RunStorage.pool`."""
        return self._reserve.pool()

    # ---- beyond the port -----------------------------------------------------------------------------------------

    def has_room(self, storage_type: StorageType, capacity_gib: int | None) -> tuple[bool, str]:
        """Whether a run with this storage may be admitted, and why not."""
        return self._reserve.has_room(storage_type, capacity_gib)

    def wait_until_ready(self, capacity_gib: int | None, timeout_seconds: float) -> bool:
        """Whether the ready volumes of a kind are all made in time."""
        return self._ready.wait_until_ready(capacity_gib, timeout_seconds)

    def wait_until_removed(self, timeout_seconds: float) -> bool:
        """Whether everything destroyed so far is gone from the disk in time."""
        return self._trash.wait_until_empty(timeout_seconds)

    def close(self) -> None:
        """End the threads. Volumes stay mounted: runs outlive the server."""
        self._ready.close()
        self._upkeep.close()
        self._sampler.close()
        for live in list(self._live.values()):
            live.meter.close()
            live.gauge.close()
        self._trash.close()

    # ---- making and showing --------------------------------------------------------------------------------------

    def _make(self, kind: Kind) -> MadeVolume:
        """A new volume that belongs to no run. Raises: StorageUnavailable."""
        storage_type = StorageType.DYNAMIC if kind is None else StorageType.STATIC
        size_bytes, exact_bytes = self._sizes(kind)
        attached = directory = None
        try:
            directory = self._records.make_directory("dynamic" if kind is None else f"static-{kind}")
            image.format_image(directory / "image", size_bytes)
            attached = image.attach(directory / "image", exact_bytes)
            record = VolumeRecord(
                BACKEND, storage_type, kind, empty_bytes=attached.empty_bytes, reserved_blocks=attached.reserved_blocks
            )
            self._records.write_durably(directory, record)
        except (OSError, StorageUnavailable) as error:
            if attached is not None:
                attached.close()
            if directory is not None:
                self._throw_away(directory)
            raise StorageUnavailable(f"an XFS image could not be made in {self._records.root}: {error}") from error
        return MadeVolume(directory, record, attached)

    def _sizes(self, kind: Kind) -> tuple[int, int | None]:
        """Image size and the exact capacity to leave. Raises: StorageUnavailable."""
        pool_bytes = self._reserve.pool().size_bytes
        if kind is None:
            return min(image.image_bytes(image.dynamic_bytes(pool_bytes)), self._largest_file_bytes), None
        size_bytes = image.image_bytes(kind << 30)
        if size_bytes <= self._largest_file_bytes:
            return size_bytes, kind << 30
        if self._largest_file_bytes >= pool_bytes:
            # More than the disk can ever hold: the disk is the limit, and the longest file is longer than the disk.
            return self._largest_file_bytes, None
        raise StorageUnavailable(
            f"STATIC storage of {kind} GiB needs a longer file than the file system of {self._records.root} allows "
            f"({self._largest_file_bytes >> 30} GiB): put the data directory on XFS"
        )

    def _drop(self, made: MadeVolume) -> None:
        made.attached.close()
        self._throw_away(made.directory)

    def _throw_away(self, directory: Path, held: HeldImage | None = None) -> None:
        moved = self._records.discard(directory)
        if moved is not None:
            self._trash.put(moved, held)

    def _adopt(self, made: MadeVolume, run_uuid: str, uid: int) -> None:
        """Give a volume to the run, whose uuid had none. Its directory's rename is what makes it the run's."""
        try:
            os.fchown(made.attached.root, uid, uid)
            os.fchmod(made.attached.root, 0o755)
            self._hide(run_uuid)
            self._throw_away(self._records.directory(run_uuid))
            self._records.adopt(made.directory, run_uuid)
        except OSError:
            self._drop(made)
            raise

    def _show(self, run_uuid: str, record: VolumeRecord, attached: image.Attached) -> _Live:
        """Mount at the run's path, and measure from now on."""
        point = self._point(run_uuid)
        try:
            point.mkdir(mode=0o700, parents=True, exist_ok=True)
            linux.place_mount(attached.mount, point)
        except OSError:
            os.close(attached.root)
            raise
        finally:
            os.close(attached.mount)
        return self._start(run_uuid, record, attached.root)

    def _start(self, run_uuid: str, record: VolumeRecord, root: int) -> _Live:
        gauge = image.ImageGauge(root, record.empty_bytes)
        meter = Meter(
            gauge,
            record.limit_bytes,
            peak_bytes=record.peak_bytes,
            was_full=record.was_full,
            reserve_per_file_bytes=RESERVE_PER_FILE_BYTES,
        )
        volume = Volume(run_uuid, BACKEND, record.storage_type, record.capacity_gib, self._point(run_uuid))
        live = self._live[run_uuid] = _Live(volume, record, gauge, meter)
        self._sampler.add(run_uuid, meter, root)
        self._upkeep.wake()
        return live

    def _find_usable(self, run_uuid: str) -> _Live | None:
        try:
            return self._find(run_uuid)
        except VolumeLost as error:
            log.error("run_storage.volume_lost", run_uuid=run_uuid, error=str(error))
            return None

    def _find(self, run_uuid: str) -> _Live | None:
        live = self._live.get(run_uuid)
        if live is not None:
            return live
        with self._locks.hold(run_uuid):
            live = self._live.get(run_uuid)
            if live is not None:
                return live
            record = self._records.read(run_uuid)
            file = self._records.directory(run_uuid) / "image"
            if record is None or record.backend != BACKEND or not file.exists():
                return None
            point = self._point(run_uuid)
            try:
                if image.is_image_mounted_at(point, file):
                    return self._start(run_uuid, record, os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                log.info("run_storage.attaching_again", run_uuid=run_uuid)
                attached = image.reattach(file, record.empty_bytes, record.reserved_blocks)
                return self._show(run_uuid, record, attached)
            except OSError as error:
                raise VolumeLost(f"storage of run {run_uuid} ({file}) cannot be mounted: {error}") from error

    # ---- measuring -----------------------------------------------------------------------------------------------

    def _persist(self, run_uuid: str, usage: Usage) -> None:
        with self._recording:
            live = self._live.get(run_uuid)
            if live is None:
                return
            live.record = live.record.after(usage)
            try:
                self._records.write(run_uuid, live.record)
            except FileNotFoundError:
                return
            except OSError as error:
                log.warning("run_storage.cannot_persist", run_uuid=run_uuid, error=str(error))

    def _lose(self, run_uuid: str) -> None:
        """Remember that data did not reach the disk."""
        self._records.lose(run_uuid)

    def _read_exactly(self, run_uuid: str) -> None:
        live = self._live.get(run_uuid)
        if live is None:
            return
        try:
            live.meter.sample_exactly()
        except OSError as error:
            if self._live.get(run_uuid) is live:
                log.error("run_storage.volume_lost", run_uuid=run_uuid, error=str(error))
                self._lose(run_uuid)

    def _reclaim(self, run_uuid: str) -> None:
        """Give back to the host what the run has deleted, when that is worth it."""
        live = self._live.get(run_uuid)
        if live is None:
            return
        if live.meter.changed_since_exact():
            self._read_exactly(run_uuid)
        taken = (self._records.directory(run_uuid) / "image").stat().st_blocks * 512
        if taken > live.meter.usage().used_bytes + LOG_BYTES + RECLAIM_LEAST_BYTES:
            live.gauge.trim()

    def _in_pool(self, usage: Usage) -> Usage:
        """A DYNAMIC volume is larger than the disk: what it may still take is the disk's room."""
        if usage.limit_bytes is not None:
            return usage
        pool = self._reserve.pool()
        room = max(0, pool.free_bytes - pool.reserve_bytes)
        return replace(usage, available_bytes=min(usage.available_bytes, room))

    def _promised_bytes(self) -> int:
        usages = [live.meter.usage() for live in list(self._live.values())]
        return sum(usage.limit_bytes - usage.used_bytes for usage in usages if usage.limit_bytes is not None)

    # ---- ending --------------------------------------------------------------------------------------------------

    def _end(self, run_uuid: str) -> VolumeRecord | None:
        if run_uuid not in self._live and self._is_shown(run_uuid):
            with contextlib.suppress(VolumeLost):
                self._find(run_uuid)
        live = self._live.pop(run_uuid, None)
        if live is None:
            record, held = self._records.last(run_uuid), None
        else:
            self._sampler.sample(run_uuid)
            self._sampler.remove(run_uuid)
            record, held = live.record.after(live.meter.usage()), _held(live)
            self._remember(run_uuid, record)
        self._hide(run_uuid)
        self._throw_away(self._records.directory(run_uuid), held)
        return record

    def _remember(self, run_uuid: str, record: VolumeRecord) -> None:
        """Keep the last reading for a repeat; a full disk must not keep the volume from going."""
        try:
            self._records.end(run_uuid, record)
        except OSError as error:
            log.warning("run_storage.cannot_persist", run_uuid=run_uuid, error=str(error))

    def _is_shown(self, run_uuid: str) -> bool:
        with contextlib.suppress(OSError):
            return image.is_image_mounted_at(self._point(run_uuid), self._records.directory(run_uuid) / "image")
        return False

    def _hide(self, run_uuid: str) -> None:
        """Take the mount from the run's path, and the path."""
        point = self._point(run_uuid)
        while _is_mount_point(point):
            linux.detach(point)
        with contextlib.suppress(OSError):
            point.rmdir()

    def _mounted_uuids(self) -> set[str]:
        runs = Path(os.path.realpath(self._runs))
        points = [Path(point) for point, _, device in linux.mounts() if linux.backing_file(device) is not None]
        return {point.parent.name for point in points if point.name == "volume" and point.parent.parent == runs}

    def _clear_leftovers(self) -> list[int]:
        """Drop ready volumes and trash of an earlier server; the STATIC kinds that were ready."""
        kinds: dict[int, None] = {}
        for entry in sorted(os.scandir(self._records.ready), key=lambda found: found.stat().st_mtime_ns):
            if entry.name.startswith("static-"):
                kinds[int(entry.name.removeprefix("static-").partition(".")[0])] = None
            self._throw_away(Path(entry.path))
        self._trash.put_all(self._records.trash)
        return list(kinds)

    def _is_mine(self, run_uuid: str) -> bool:
        record = self._records.read(run_uuid)
        return record is None or record.backend == BACKEND

    def _point(self, run_uuid: str) -> Path:
        return self._runs / run_uuid / "volume"


def _held(live: _Live) -> HeldImage:
    """Measure no more; the volume's last descriptor.

    What is unwritten is dropped: nobody will read it, and to write gigabytes takes seconds.
    """
    try:
        drop_unwritten = live.meter.changed_since_exact()
    except OSError:
        drop_unwritten = True
    live.meter.close()
    return HeldImage(live.gauge.release(), drop_unwritten)


def _is_mount_point(path: Path) -> bool:
    try:
        return os.lstat(path).st_dev != os.lstat(path.parent).st_dev
    except FileNotFoundError:
        return False
    except OSError as error:
        # An XFS that was shut down answers nothing else about its root.
        return error.errno == errno.EIO
