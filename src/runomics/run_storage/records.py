"""Owns `DATA/volumes`: one directory per volume with its record, the records of ended volumes, the trash; runs in the server.

    volumes/<run uuid>/                       a live volume; the directory's appearance by rename is its creation
        volume.json  image                    its record, its file system
        intact                                gone when data was lost: to remove a file needs no room, which lacks then
    volumes/.ready/<class>.<n>/…              made ahead of time; dropped at every start
    volumes/.trash/<name>.<n>                 no longer anyone's; removed in the background, and at every start
    volumes/.ended/<run uuid>.json            the last reading of a destroyed volume, so that `destroy` may be repeated

The directory back end keeps its record here too, but its files in `runs/<run uuid>/volume`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from runomics.ports import StorageType, Usage

FORMAT = 1
_RUN_UUID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,127}")


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """volume.json. `empty_bytes` is what the file system takes when it holds nothing, `reserved_blocks` what it holds back."""

    backend: str
    storage_type: StorageType
    capacity_gib: int | None
    empty_bytes: int = 0
    reserved_blocks: int = 0
    used_bytes: int = 0
    peak_bytes: int = 0
    was_full: bool = False
    format: int = FORMAT

    @property
    def limit_bytes(self) -> int | None:
        """The hard limit of a STATIC volume."""
        return None if self.capacity_gib is None else self.capacity_gib << 30

    def after(self, usage: Usage) -> VolumeRecord:
        """The record with this reading taken in."""
        return replace(
            self,
            used_bytes=usage.used_bytes,
            peak_bytes=max(self.peak_bytes, usage.peak_bytes),
            was_full=self.was_full or usage.was_full,
        )

    def last_usage(self) -> Usage:
        """The reading the record holds; nothing is available any more."""
        return Usage(self.used_bytes, self.peak_bytes, 0, self.limit_bytes, self.was_full)


def check_uuid(run_uuid: str) -> str:
    """The uuid, fit to be a file name.

    Raises:
        ValueError: it is not.
    """
    if not _RUN_UUID.fullmatch(run_uuid):
        raise ValueError(f"{run_uuid!r} is not a run uuid")
    return run_uuid


def checked_capacity(storage_type: StorageType, capacity_gib: int | None) -> int | None:
    """The capacity of a STATIC volume; None for DYNAMIC, whatever was asked for.

    Raises:
        ValueError: STATIC without a capacity.
    """
    if storage_type is StorageType.DYNAMIC:
        return None
    if capacity_gib is None or capacity_gib < 1:
        raise ValueError(f"STATIC storage needs a capacity of at least 1 GiB, not {capacity_gib}")
    return capacity_gib


class VolumeRecords:
    """The files below `DATA/volumes`. Each call is one step that a crash may follow."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ready = root / ".ready"
        self.trash = root / ".trash"
        self.ended = root / ".ended"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in (self.ready, self.trash, self.ended):
            directory.mkdir(mode=0o700, exist_ok=True)

    def directory(self, run_uuid: str) -> Path:
        """Where the volume's record (and image) is."""
        return self.root / check_uuid(run_uuid)

    def uuids(self) -> list[str]:
        """Every run that has a volume."""
        return sorted(entry.name for entry in os.scandir(self.root) if _RUN_UUID.fullmatch(entry.name))

    def read(self, run_uuid: str) -> VolumeRecord | None:
        """The volume's record; None when there is no volume, or one so broken that nothing is known of it."""
        return _read(self.directory(run_uuid) / "volume.json")

    def write(self, run_uuid: str, record: VolumeRecord) -> None:
        """Put `record` in place of the volume's. Atomic; not synced: it is a running maximum, the next one follows soon."""
        _replace(self.directory(run_uuid) / "volume.json", asdict(record), durable=False)

    def make_directory(self, name: str) -> Path:
        """A fresh directory for a volume that belongs to no run yet."""
        directory = self.ready / f"{name}.{secrets.token_hex(4)}"
        directory.mkdir(mode=0o700)
        return directory

    def write_durably(self, directory: Path, record: VolumeRecord) -> None:
        """Put the first record into a directory of `make_directory`, synced: `adopt` is a mere rename then."""
        (directory / "intact").touch()
        _replace(directory / "volume.json", asdict(record), durable=True)

    def adopt(self, made: Path, run_uuid: str) -> None:
        """Give the directory `made` to the run: from now on it has a volume."""
        self.forget(run_uuid)
        made.rename(self.directory(run_uuid))

    def discard(self, directory: Path) -> Path | None:
        """Move a directory to the trash; its place there, None when it was gone already."""
        target = self.trash / f"{directory.name}.{secrets.token_hex(4)}"
        try:
            directory.rename(target)
        except FileNotFoundError:
            return None
        return target

    def add(self, run_uuid: str, record: VolumeRecord) -> None:
        """Give the run a volume that is nothing but a record."""
        made = self.make_directory("record")
        self.write_durably(made, record)
        self.adopt(made, run_uuid)

    def lose(self, run_uuid: str) -> None:
        """Remember for good that data of the volume did not reach the disk."""
        (self.directory(run_uuid) / "intact").unlink(missing_ok=True)

    def is_lost(self, run_uuid: str) -> bool:
        """Whether `lose` was ever called for the volume."""
        return not (self.directory(run_uuid) / "intact").exists()

    def end(self, run_uuid: str, record: VolumeRecord) -> None:
        """Remember the last reading of a volume that is about to go."""
        _replace(self.ended / f"{check_uuid(run_uuid)}.json", asdict(record), durable=False)

    def last(self, run_uuid: str) -> VolumeRecord | None:
        """What is known of a volume that is not in use: what `end` remembered, else its record."""
        return _read(self.ended / f"{check_uuid(run_uuid)}.json") or self.read(run_uuid)

    def forget(self, run_uuid: str) -> None:
        """Drop what `end` remembered."""
        (self.ended / f"{check_uuid(run_uuid)}.json").unlink(missing_ok=True)

    def forget_all_but(self, keep: frozenset[str]) -> None:
        """Drop what `end` remembered of runs that are over."""
        for entry in os.scandir(self.ended):
            if entry.name.removesuffix(".json") not in keep:
                os.unlink(entry.path)


def _read(path: Path) -> VolumeRecord | None:
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
        values["storage_type"] = StorageType(values["storage_type"])
        return VolumeRecord(**values)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None


def _replace(path: Path, values: Mapping[str, Any], *, durable: bool) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, json.dumps(values).encode())
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
