"""STATIC on XFS images: exactly the capacity, whatever a task tries; DYNAMIC: the disk's room."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from volume_world import FILL, GIB, MIB, UID, run_python, wait_until

from runomics.ports import StorageType, StorageUnavailable, Usage, Volume
from runomics.run_storage.xfs_image import XfsImageStorage

pytestmark = [pytest.mark.needs("root", "loop", "xfs")]
Open = Callable[..., XfsImageStorage]

TRY_TO_GAIN = """
import fcntl, os, struct, sys
root = os.open(sys.argv[1], os.O_RDONLY)
for request, argument in ((0x40105872 | 0xC0000000, struct.pack("<QQ", 0, 0)), (0x4010586E, struct.pack("<QIx3x", 1 << 30, 25))):
    try:
        fcntl.ioctl(root, request, bytearray(argument), True)
        print("allowed", hex(request))
    except PermissionError:
        pass
for directory, names, files in os.walk(sys.argv[1], topdown=False):
    for name in files:
        os.unlink(os.path.join(directory, name))
    for name in names:
        os.rmdir(os.path.join(directory, name))
"""


def available(volume: Volume) -> int:
    status = os.statvfs(volume.path)
    return status.f_bavail * status.f_frsize


@pytest.mark.parametrize("capacity_gib", [1, 5, 1200, 9600])
@pytest.mark.source("assumed")
def test_a_static_volume_offers_exactly_its_capacity(open_images: Open, capacity_gib: int) -> None:
    storage = open_images()
    volume = storage.create("run", StorageType.STATIC, capacity_gib, UID)
    assert available(volume) == capacity_gib * GIB
    assert storage.usage("run") == Usage(0, 0, capacity_gib * GIB, capacity_gib * GIB, was_full=False)


def test_a_static_volume_larger_than_any_file_is_limited_by_a_smaller_disk(open_images: Open, data: Path) -> None:
    storage = open_images()
    volume = storage.create("run", StorageType.STATIC, 100_000, UID)
    usage = storage.usage("run")
    assert usage is not None
    assert usage.limit_bytes == 100_000 * GIB
    assert available(volume) >= storage.pool().size_bytes


def test_a_static_volume_takes_its_capacity_then_no_more_and_was_full(open_images: Open) -> None:
    told: list[str] = []
    storage = open_images(on_full=told.append)
    volume = storage.create("run", StorageType.STATIC, 1, UID)
    taken, code = map(int, run_python(FILL, volume.path, MIB).split())
    assert code == errno.ENOSPC
    assert 0.999 * GIB <= taken <= GIB
    usage = storage.usage("run")
    assert usage is not None
    assert usage.was_full
    assert abs(usage.peak_bytes - taken) < 0.01 * taken
    assert wait_until(lambda: told == ["run"])


def test_a_full_volume_is_known_as_full_after_everything_is_deleted(open_images: Open) -> None:
    storage = open_images()
    volume = storage.create("run", StorageType.STATIC, 1, UID)
    run_python(FILL + "os.close(file); os.unlink(sys.argv[1] + '/filled')", volume.path, MIB)
    usage = storage.destroy("run")
    assert usage is not None
    assert usage.was_full


def test_a_task_with_all_its_capabilities_gains_no_space(open_images: Open) -> None:
    storage = open_images()
    volume = storage.create("run", StorageType.STATIC, 1, UID)
    rights = "-all,+chown,+dac_override,+fowner"
    as_task = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", f"--inh-caps={rights}"]
    as_task += [f"--ambient-caps={rights}", f"--bounding-set={rights}", "/usr/bin/python3", "-c"]
    tried = subprocess.run([*as_task, TRY_TO_GAIN, volume.path], capture_output=True, text=True, check=True)
    assert tried.stdout == ""
    filled = subprocess.run([*as_task, FILL, volume.path, str(MIB)], capture_output=True, text=True, check=True)
    taken, code = map(int, filled.stdout.split())
    assert (code, taken <= GIB) == (errno.ENOSPC, True)


def test_a_fresh_volume_is_empty_and_belongs_to_the_runs_user(open_images: Open) -> None:
    volume = open_images().create("run", StorageType.STATIC, 1, UID)
    status = volume.path.stat()
    assert (os.listdir(volume.path), status.st_uid, status.st_gid, status.st_mode) == ([], UID, UID, 0o40755)


def test_the_limit_holds_after_the_volume_was_detached_by_a_reboot(open_images: Open) -> None:
    volume = open_images().create("run", StorageType.STATIC, 1, UID)
    (volume.path / "kept").write_bytes(b"x" * 300 * MIB)
    subprocess.run(["sync", "-f", volume.path], check=True)
    again = open_images()
    subprocess.run(["umount", volume.path], check=True)
    assert again.find("run") == volume
    usage = again.usage("run")
    assert usage is not None
    assert usage.used_bytes + available(volume) == GIB
    assert (volume.path / "kept").stat().st_size == 300 * MIB
    assert 300 * MIB <= usage.peak_bytes < 303 * MIB


def test_a_dynamic_volume_is_larger_than_the_disk_and_offers_what_the_disk_has(open_images: Open) -> None:
    storage = open_images(reserve_bytes=GIB)
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    pool, usage = storage.pool(), storage.usage("run")
    assert usage is not None
    assert available(volume) >= pool.size_bytes
    assert usage.limit_bytes is None
    assert abs(usage.available_bytes - (pool.free_bytes - GIB)) < GIB


def test_static_without_a_capacity_is_refused(open_images: Open) -> None:
    with pytest.raises(ValueError, match="at least 1 GiB"):
        open_images().create("run", StorageType.STATIC, None, UID)


def test_no_volume_is_made_when_the_disk_is_below_its_reserve(open_images: Open) -> None:
    storage = open_images(reserve_bytes=1 << 60)
    with pytest.raises(StorageUnavailable, match="storage_reserve_gib"):
        storage.create("run", StorageType.DYNAMIC, None, UID)


def test_static_runs_that_reserve_the_pool_wait_for_room(open_images: Open) -> None:
    storage = open_images(static_reserves_pool=True)
    room_gib = (storage.pool().free_bytes >> 30) - 4
    storage.create("run", StorageType.STATIC, room_gib, UID)
    assert storage.has_room(StorageType.DYNAMIC, None) == (True, "")
    has_room, why = storage.has_room(StorageType.STATIC, 10)
    assert not has_room
    assert "static_reserves_pool" in why
