"""Run storage on plain directories, as root and as a plain user."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from volume_world import GIB, MIB, UID, as_user, wait_until

from runomics.ports import StorageType, Usage, VolumeLost
from runomics.run_storage.directory import DirectoryStorage

Open = Callable[..., DirectoryStorage]


@pytest.fixture
def open_directories(data: Path) -> Iterator[Open]:
    opened: list[DirectoryStorage] = []

    def open_one(**options: Any) -> DirectoryStorage:
        for storage in opened:
            storage.close()
        opened[:] = [DirectoryStorage(data / "volumes", data / "runs", **{"reserve_bytes": 0, **options})]
        return opened[0]

    yield open_one
    for storage in opened:
        storage.close()


def test_usage_is_what_the_files_take(open_directories: Open) -> None:
    storage = open_directories()
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    below = volume.path / "a/b"
    below.mkdir(parents=True)
    (below / "file").write_bytes(os.urandom(8 * MIB))
    os.link(below / "file", volume.path / "same")
    (volume.path / "away").symlink_to("/usr")
    usage = storage.flush("run")
    assert 8 * MIB <= usage.used_bytes < 8 * MIB + 64 * 1024
    assert usage.limit_bytes is None


def test_the_peak_is_seen_while_the_files_are_there(open_directories: Open) -> None:
    storage = open_directories()
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    (volume.path / "file").write_bytes(os.urandom(20 * MIB))

    def peak() -> int:
        usage = storage.usage("run")
        return 0 if usage is None else usage.peak_bytes

    assert wait_until(lambda: peak() >= 20 * MIB)
    (volume.path / "file").unlink()
    last = storage.destroy("run")
    assert last is not None
    assert (last.used_bytes, 20 * MIB <= last.peak_bytes < 21 * MIB) == (0, True)


def test_a_static_run_at_its_limit_is_reported_once_as_full(open_directories: Open) -> None:
    told: list[str] = []
    storage = open_directories(on_full=told.append)
    volume = storage.create("run", StorageType.STATIC, 1, UID)
    assert storage.caps.enforces_static is False
    with (volume.path / "file").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, GIB)
    assert wait_until(lambda: told == ["run"])
    usage = storage.usage("run")
    assert usage == Usage(usage.used_bytes if usage else 0, usage.peak_bytes if usage else 0, 0, GIB, was_full=True)
    assert told == ["run"]


def test_a_crash_keeps_the_volume_and_a_sweep_removes_what_no_run_needs(open_directories: Open, data: Path) -> None:
    storage = open_directories()
    kept = storage.create("kept", StorageType.DYNAMIC, None, UID)
    (kept.path / "file").touch()
    storage.create("gone", StorageType.DYNAMIC, None, UID)
    (data / "runs/half-made/volume").mkdir(parents=True)
    again = open_directories()
    assert again.sweep(frozenset({"kept"})) == ["gone"]
    assert again.find("kept") == kept
    assert again.create("kept", StorageType.DYNAMIC, None, UID) == kept
    assert os.listdir(kept.path) == ["file"]
    assert again.wait_until_removed(30)
    assert not (data / "runs/half-made/volume").exists()
    assert list((data / "runs/.trash").iterdir()) == []


def test_destroy_is_repeatable(open_directories: Open) -> None:
    storage = open_directories()
    storage.create("run", StorageType.DYNAMIC, None, UID)
    first = storage.destroy("run")
    assert first is not None
    assert storage.destroy("run") == first
    assert storage.find("run") is None
    with pytest.raises(VolumeLost, match="no storage any more"):
        storage.flush("run")


def test_a_tree_deeper_than_any_path_is_measured_and_removed(open_directories: Open) -> None:
    storage = open_directories()
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    here = os.open(volume.path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(60):
        name = "d" * 200
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    file = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.write(file, b"x" * MIB)
    os.close(file)
    os.close(here)
    usage = storage.destroy("run")
    assert usage is not None
    assert usage.used_bytes >= MIB
    assert storage.wait_until_removed(30)


def test_a_link_in_place_of_a_directory_is_not_followed(open_directories: Open, data: Path) -> None:
    storage = open_directories()
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    (data / "outside").mkdir()
    (data / "outside/secret").write_bytes(b"x" * MIB)
    (volume.path / "link").symlink_to(data / "outside")
    usage = storage.destroy("run")
    assert usage is not None
    assert usage.used_bytes < MIB
    assert storage.wait_until_removed(30)
    assert (data / "outside/secret").exists()


@pytest.mark.needs("root")
def test_a_plain_user_has_volumes_too_and_removes_closed_directories(data: Path) -> None:
    data.chmod(0o777)

    def use() -> None:
        storage = DirectoryStorage(data / "volumes", data / "runs", reserve_bytes=0)
        volume = storage.create("run", StorageType.DYNAMIC, None, UID)
        (volume.path / "closed").mkdir()
        (volume.path / "closed/file").write_bytes(b"x" * MIB)
        assert storage.flush("run").used_bytes >= MIB
        (volume.path / "closed").chmod(0)
        assert storage.destroy("run") is not None
        assert storage.wait_until_removed(30)
        assert list((data / "runs/.trash").iterdir()) == []
        storage.close()

    as_user(UID, use)
