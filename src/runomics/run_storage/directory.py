"""Owns run storage as plain directories `runs/<run uuid>/volume`, for servers without root or loop devices; runs in the server.

Nothing limits a directory: usage is found by walking it, a STATIC run at its limit is reported as full (`on_full`) and must be
ended by whoever is told. So the limit may be overshot by what is written between two walks, and the peak is the largest walk: files
that come and go between two walks are not seen. `caps` says so.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from runomics.ports import Pool, StorageCaps, StorageType, StorageUnavailable, Usage, Volume, VolumeLost
from runomics.run_storage import linux
from runomics.run_storage.keyed_locks import KeyedLocks
from runomics.run_storage.records import VolumeRecord, VolumeRecords, checked_capacity
from runomics.run_storage.reserve import HostReserve
from runomics.run_storage.trash import Trash
from runomics.run_storage.upkeep import Upkeep
from runomics.run_storage.walk import measure_tree

log = structlog.get_logger()

BACKEND = "directory"
CAPS = StorageCaps(BACKEND, works=True, enforces_static=False, gives_back=True)

WALK_LEAST_SECONDS = 0.1
WALK_SHARE = 0.05
"""Of one core, for all volumes together: trees that take a second to walk are walked every 20 seconds."""
WALK_PAUSE_SECONDS = 0.005
PERSIST_SECONDS = 5.0


class _Ended(Exception):
    """The volume went while it was walked."""


@dataclass(slots=True, eq=False)
class _Live:
    volume: Volume
    record: VolumeRecord
    root: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)
    available_bytes: int = 0
    walk_seconds: float = 0.0
    persisted: VolumeRecord | None = None
    is_unreadable: bool = False
    told_full: bool = False

    def usage(self) -> Usage:
        return replace(self.record.last_usage(), available_bytes=self.available_bytes)


class DirectoryStorage:
    """RunStorage on plain directories. For root and for plain users (who own every file themselves)."""

    def __init__(
        self,
        volumes: Path,
        runs: Path,
        *,
        reserve_bytes: int | None = None,
        static_reserves_pool: bool = False,
        on_full: Callable[[str], None] = lambda run_uuid: None,
        on_host_low: Callable[[Pool], None] = lambda pool: None,
    ) -> None:
        self.caps = CAPS
        self._records = VolumeRecords(volumes)
        self._runs = runs
        self._trash_directory = runs / ".trash"  # beside the volumes: `runs` may be a mount of its own
        self._trash_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._reserve = HostReserve(
            volumes,
            reserve_bytes=reserve_bytes,
            static_reserves_pool=static_reserves_pool,
            promised_bytes=self._promised_bytes,
        )
        self._on_full = on_full
        self._live: dict[str, _Live] = {}
        self._locks = KeyedLocks()
        self._changed = threading.Condition()
        self._is_closed = False
        self._persist_at = 0.0
        self._thread: threading.Thread | None = None
        self._trash = Trash()
        self._trash.put_all(self._trash_directory)
        self._trash.put_all(self._records.trash)
        self._upkeep = Upkeep(
            volumes=lambda: list(self._live),
            reclaim=lambda run_uuid: None,
            exact=lambda run_uuid: None,
            reserve=self._reserve,
            on_host_low=on_host_low,
        )

    # ---- the port ------------------------------------------------------------------------------------------------

    def create(self, run_uuid: str, storage_type: StorageType, capacity_gib: int | None, uid: int) -> Volume:
        """See `RunStorage.create`."""
        capacity = checked_capacity(storage_type, capacity_gib)
        with self._locks.hold(run_uuid):
            found = self.find(run_uuid)
            if found is not None:
                return found
            has_room, why = self._reserve.has_room(storage_type, capacity)
            if not has_room:
                raise StorageUnavailable(why)
            point = self._point(run_uuid)
            try:
                self._throw_away(point)
                point.mkdir(parents=True)
                point.chmod(0o755)
                if os.geteuid() == 0:
                    os.chown(point, uid, uid, follow_symlinks=False)
                self._throw_away_record(run_uuid)
                self._records.add(run_uuid, VolumeRecord(BACKEND, storage_type, capacity))
            except OSError as error:
                raise StorageUnavailable(f"storage of run {run_uuid}: {error}") from error
            created = self.find(run_uuid)
            if created is None:
                raise StorageUnavailable(f"storage of run {run_uuid} vanished while it was made")
            return created

    def find(self, run_uuid: str) -> Volume | None:
        """See `RunStorage.find`."""
        live = self._find(run_uuid)
        return None if live is None else live.volume

    def usage(self, run_uuid: str) -> Usage | None:
        """See `RunStorage.usage`. Walks the tree now."""
        live = self._find(run_uuid)
        if live is None:
            return None
        self._walk(live, WALK_PAUSE_SECONDS)
        return live.usage()

    def flush(self, run_uuid: str) -> Usage:
        """See `RunStorage.flush`. Syncs the disk the directory is on: other data on it too."""
        live = self._find(run_uuid)
        if live is None:
            raise VolumeLost(f"run {run_uuid} has no storage any more")
        if self._records.is_lost(run_uuid):
            raise VolumeLost(f"storage of run {run_uuid} lost data that was written earlier")
        try:
            linux.syncfs(live.root)
        except OSError as error:
            self._records.lose(run_uuid)
            raise VolumeLost(f"storage of run {run_uuid} could not be written to {self._runs}: {error}") from error
        self._walk(live, 0)
        self._persist(live)
        return live.usage()

    def destroy(self, run_uuid: str) -> Usage | None:
        """See `RunStorage.destroy`. A last walk, then a rename; removing is left to a thread.

        A repeat answers with the same reading until the next `sweep` without the run.
        """
        with self._locks.hold(run_uuid):
            live = self._find(run_uuid)
            if live is None:
                record = self._records.last(run_uuid)
            else:
                self._walk(live, 0)
                del self._live[run_uuid]
                with live.lock:
                    live.ended.set()
                    os.close(live.root)
                record = live.record
                with contextlib.suppress(OSError):  # a full disk must not keep the volume from going
                    self._records.end(run_uuid, record)
            self._throw_away(self._point(run_uuid))
            self._throw_away_record(run_uuid)
            return None if record is None else record.last_usage()

    def sweep(self, keep: frozenset[str]) -> list[str]:
        """See `RunStorage.sweep`. Also removes directories whose making a crash ended."""
        known = self._records.uuids()
        destroyed = [run_uuid for run_uuid in known if run_uuid not in keep and self._is_mine(run_uuid)]
        for run_uuid in destroyed:
            self.destroy(run_uuid)
        for entry in os.scandir(self._runs):
            if entry.name not in keep and entry.name not in known and entry.is_dir(follow_symlinks=False):
                try:
                    self._throw_away(Path(entry.path) / "volume")
                except OSError as error:
                    log.warning("run_storage.cannot_sweep", run_uuid=entry.name, error=str(error))
        self._records.forget_all_but(keep)
        return destroyed

    def pool(self) -> Pool:
        """See `RunStorage.pool`."""
        return self._reserve.pool()

    # ---- beyond the port -----------------------------------------------------------------------------------------

    def has_room(self, storage_type: StorageType, capacity_gib: int | None) -> tuple[bool, str]:
        """Whether a run with this storage may be admitted, and why not."""
        return self._reserve.has_room(storage_type, capacity_gib)

    def wait_until_removed(self, timeout_seconds: float) -> bool:
        """Whether everything destroyed so far is gone from the disk in time."""
        return self._trash.wait_until_empty(timeout_seconds)

    def close(self) -> None:
        """End the threads. The directories stay: runs outlive the server."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for live in list(self._live.values()):
            live.ended.set()
        if self._thread is not None:
            self._thread.join()
        self._upkeep.close()
        self._trash.close()
        for live in list(self._live.values()):
            self._persist(live)
            os.close(live.root)

    # ---- measuring -----------------------------------------------------------------------------------------------

    def _find(self, run_uuid: str) -> _Live | None:
        live = self._live.get(run_uuid)
        if live is not None:
            return live
        with self._locks.hold(run_uuid):
            live = self._live.get(run_uuid)
            record = self._records.read(run_uuid)
            if live is not None or record is None or record.backend != BACKEND:
                return live
            point = self._point(run_uuid)
            try:
                root = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                return None
            volume = Volume(run_uuid, BACKEND, record.storage_type, record.capacity_gib, point)
            live = _Live(volume, record, root)
            with self._changed:
                self._live[run_uuid] = live
                if self._thread is None and not self._is_closed:
                    self._thread = threading.Thread(target=self._run, name="storage-walker", daemon=True)
                    self._thread.start()
                self._changed.notify_all()
        self._upkeep.wake()
        return live

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._live)
                rest = max(WALK_LEAST_SECONDS, sum(live.walk_seconds for live in self._live.values()) / WALK_SHARE)
                self._changed.wait_for(lambda: self._is_closed, rest)
                if self._is_closed:
                    return
            volumes = list(self._live.values())
            for live in volumes:
                self._walk(live, WALK_PAUSE_SECONDS)
            if time.monotonic() >= self._persist_at:
                self._persist_at = time.monotonic() + PERSIST_SECONDS
                for live in volumes:
                    self._persist(live)

    def _walk(self, live: _Live, pause_seconds: float) -> None:
        """Measure the tree into the record; tell once when a STATIC one is full."""

        def pause() -> None:
            if live.ended.wait(pause_seconds):
                raise _Ended

        began = time.thread_time()
        with live.lock:
            if live.ended.is_set():
                return
            root = os.dup(live.root)
        try:
            reading = measure_tree(root, pause)
        except _Ended:
            return
        except OSError as error:
            if not live.is_unreadable:
                log.error("run_storage.volume_unreadable", run_uuid=live.volume.run_uuid, error=str(error))
            live.is_unreadable = True
            return
        finally:
            os.close(root)
        live.walk_seconds = time.thread_time() - began
        live.available_bytes = self._available(live, reading.used_bytes, reading.available_bytes)
        limit = live.record.limit_bytes
        is_full = limit is not None and reading.used_bytes >= limit
        usage = Usage(reading.used_bytes, reading.used_bytes, live.available_bytes, limit, is_full)
        with live.lock:
            live.record = live.record.after(usage)
        if is_full and not live.told_full:
            live.told_full = True
            try:
                self._on_full(live.volume.run_uuid)
            except Exception:
                log.exception("run_storage.hook_failed", run_uuid=live.volume.run_uuid)

    def _available(self, live: _Live, used_bytes: int, disk_bytes: int) -> int:
        limit = live.record.limit_bytes
        room = max(0, disk_bytes - self._reserve.pool().reserve_bytes)
        return room if limit is None else max(0, min(room, limit - used_bytes))

    def _persist(self, live: _Live) -> None:
        if live.persisted == live.record:
            return
        live.persisted = live.record
        try:
            self._records.write(live.volume.run_uuid, live.record)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("run_storage.cannot_persist", run_uuid=live.volume.run_uuid, error=str(error))

    def _promised_bytes(self) -> int:
        records = [live.record for live in list(self._live.values())]
        return sum(
            max(0, record.limit_bytes - record.used_bytes) for record in records if record.limit_bytes is not None
        )

    # ---- files ---------------------------------------------------------------------------------------------------

    def _is_mine(self, run_uuid: str) -> bool:
        record = self._records.read(run_uuid)
        return record is None or record.backend == BACKEND

    def _throw_away(self, directory: Path) -> None:
        """Take a volume's directory from sight; a thread removes it."""
        target = self._trash_directory / f"{directory.parent.name}.{secrets.token_hex(4)}"
        try:
            directory.rename(target)
        except FileNotFoundError:
            return
        self._trash.put(target)

    def _throw_away_record(self, run_uuid: str) -> None:
        moved = self._records.discard(self._records.directory(run_uuid))
        if moved is not None:
            self._trash.put(moved)

    def _point(self, run_uuid: str) -> Path:
        return self._runs / run_uuid / "volume"
