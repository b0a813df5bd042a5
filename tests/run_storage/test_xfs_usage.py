"""What is measured on XFS images: peaks of short bursts, small files, what goes back to the disk, what is lost with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from volume_world import MIB, SMALL_FILES, UID, WRITE_AND_DELETE, run_python, wait_until

from runomics.ports import StorageType, Usage, VolumeLost
from runomics.run_storage.xfs_image import XfsImageStorage

pytestmark = [pytest.mark.needs("root", "loop", "xfs")]
Open = Callable[..., XfsImageStorage]


def usage_of(storage: XfsImageStorage) -> Usage:
    usage = storage.usage("run")
    assert usage is not None
    return usage


@pytest.mark.parametrize("how", ["unlink", "truncate", "replace"])
def test_the_peak_of_a_burst_that_is_gone_at_once_is_exact(open_images: Open, how: str) -> None:
    storage = open_images()
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    run_python(WRITE_AND_DELETE, volume.path, 300, how)
    usage = storage.destroy("run")
    assert usage is not None
    assert abs(usage.peak_bytes - 300 * MIB) < 3 * MIB


def test_small_files_count_what_they_take_before_they_are_written_out(open_images: Open) -> None:
    storage = open_images()
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    run_python(SMALL_FILES, volume.path, 20_000)
    before = usage_of(storage)
    after = storage.flush("run")
    assert after.used_bytes > 20_000 * 4096
    assert abs(before.used_bytes - after.used_bytes) < 0.01 * after.used_bytes
    assert abs(after.peak_bytes - after.used_bytes) < 0.01 * after.used_bytes


def test_links_and_directories_hide_nothing_of_a_burst(open_images: Open) -> None:
    storage = open_images()
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    for number in range(2000):
        (volume.path / f"link{number}").symlink_to("nowhere")
        (volume.path / f"directory{number}").mkdir()
    run_python(WRITE_AND_DELETE, volume.path, 300, "unlink")
    taken = usage_of(storage).used_bytes
    assert abs(usage_of(storage).peak_bytes - taken - 300 * MIB) < 3 * MIB


def test_a_streamed_file_counts_once_while_it_is_open(open_images: Open) -> None:
    storage = open_images()
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    with (volume.path / "stream").open("wb") as stream:
        for _ in range(200):
            stream.write(b"x" * MIB)
        stream.flush()
        assert abs(usage_of(storage).used_bytes - 200 * MIB) < 2 * MIB


def test_deleted_space_goes_back_to_the_disk_while_the_run_goes_on(open_images: Open, data: Path) -> None:
    storage = open_images(reclaim_seconds=0.5)
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    image = data / "volumes/run/image"
    (volume.path / "big").write_bytes(os.urandom(MIB) * 300)
    storage.flush("run")
    assert image.stat().st_blocks * 512 > 300 * MIB
    (volume.path / "big").unlink()
    assert wait_until(lambda: image.stat().st_blocks * 512 < 100 * MIB)


def test_the_peak_outlives_a_killed_server(open_images: Open) -> None:
    volume = open_images().create("run", StorageType.DYNAMIC, None, UID)
    run_python(WRITE_AND_DELETE, volume.path, 100, "unlink")
    usage = usage_of(open_images())
    assert usage.used_bytes < MIB
    assert abs(usage.peak_bytes - 100 * MIB) < MIB


@pytest.fixture
def small_disk(data: Path) -> Iterator[Path]:
    """A data directory on a disk of 400 MiB."""
    disk = data / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "small", disk], check=True)
    yield disk
    subprocess.run(["umount", "-R", disk], check=True)


def test_a_full_disk_loses_the_volume_for_good(small_disk: Path) -> None:
    storage = XfsImageStorage(small_disk / "volumes", small_disk / "runs", reserve_bytes=0, ready_volumes=0)
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    (volume.path / "big").write_bytes(os.urandom(MIB) * 500)
    with pytest.raises(VolumeLost, match="could not be written"):
        storage.flush("run")
    with pytest.raises(VolumeLost, match="lost data"):
        storage.flush("run")
    storage.close()
    again = XfsImageStorage(small_disk / "volumes", small_disk / "runs", reserve_bytes=0, ready_volumes=0)
    with pytest.raises(VolumeLost, match="lost data"):
        again.flush("run")
    assert again.destroy("run") is not None
    assert again.wait_until_removed(60)
    again.close()
    assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize > 390 * MIB


def test_help_is_called_for_when_runs_eat_into_the_reserve(small_disk: Path) -> None:
    told: list[int] = []
    storage = XfsImageStorage(
        small_disk / "volumes",
        small_disk / "runs",
        reserve_bytes=200 * MIB,
        ready_volumes=0,
        on_host_low=lambda pool: told.append(pool.free_bytes),
    )
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    (volume.path / "big").write_bytes(os.urandom(MIB) * 250)
    storage.flush("run")
    assert wait_until(lambda: bool(told))
    assert told[0] < 200 * MIB
    assert storage.has_room(StorageType.DYNAMIC, None)[0] is False
    storage.destroy("run")
    assert storage.wait_until_removed(60)
    storage.close()


def test_twenty_volumes_are_measured_each_for_itself(open_images: Open) -> None:
    storage = open_images()
    volumes = [storage.create(f"run{number}", StorageType.DYNAMIC, None, UID) for number in range(20)]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE_AND_DELETE, volume.path, str(number + 5), "unlink"])
        for number, volume in enumerate(volumes)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 20
    peaks = [usage.peak_bytes for volume in volumes if (usage := storage.destroy(volume.run_uuid)) is not None]
    assert [round(peak / MIB) for peak in peaks] == [number + 5 for number in range(20)]
