"""kill -9 at every step of making and ending a volume: the next server finds the run's volume or nothing, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from volume_world import UID, images_below, loops_below, volume_mounts, wait_until

from runomics.ports import StorageType, StorageUnavailable, VolumeLost
from runomics.run_storage.xfs_image import XfsImageStorage

pytestmark = [pytest.mark.needs("root", "loop", "xfs")]
Open = Callable[..., XfsImageStorage]

DIE_AT = """
import os, signal, sys
from pathlib import Path
from runomics.ports import StorageType
from runomics.run_storage import image, linux, xfs_image
from runomics.run_storage.records import VolumeRecords

data, step, when, ready = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
armed = False
owner, name = {
    "format": (image, "format_image"), "attach": (image, "attach"), "adopt": (VolumeRecords, "adopt"),
    "place": (linux, "place_mount"), "end": (VolumeRecords, "end"), "detach": (linux, "detach"),
    "discard": (VolumeRecords, "discard"), "shut_down": (linux, "shut_down"),
}[step]
real = getattr(owner, name)

def deadly(*arguments, **options):
    if armed and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*arguments, **options)
    if armed:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, deadly)
storage = xfs_image.XfsImageStorage(data / "volumes", data / "runs", reserve_bytes=0, ready_volumes=ready)
if ready:
    assert storage.wait_until_ready(None, 30)
armed = step in ("format", "attach", "adopt", "place")
volume = storage.create("run", StorageType.DYNAMIC, None, 1879100000)
(volume.path / "file").write_bytes(b"x" * (10 << 20))
armed = True
storage.destroy("run")
storage.wait_until_removed(30)
print("survived")
"""

CHURN = """
import sys
from pathlib import Path
from runomics.ports import StorageType, StorageUnavailable, VolumeLost
from runomics.run_storage.xfs_image import XfsImageStorage

data = Path(sys.argv[1])
storage = XfsImageStorage(data / "volumes", data / "runs", reserve_bytes=0, ready_volumes=1)
print("ready", flush=True)
for number in range(10_000):
    storage.create(f"run{number}", StorageType.DYNAMIC, None, 1879100000)
    if number >= 2:
        storage.destroy(f"run{number - 2}")
"""


def assert_nothing_left(storage: XfsImageStorage, data: Path) -> None:
    storage.sweep(frozenset())
    assert storage.wait_until_removed(60)
    assert volume_mounts(data) == []
    assert wait_until(lambda: loops_below(data) == []), loops_below(data)
    assert images_below(data) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["format", "attach", "adopt", "place", "end", "detach", "discard", "shut_down"])
def test_a_kill_at_any_step_leaves_a_volume_or_nothing(open_images: Open, data: Path, step: str, when: str) -> None:
    ready = 1 if step in ("adopt", "place") and when == "after" else 0
    died = subprocess.run([sys.executable, "-c", DIE_AT, data, step, when, str(ready)], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stdout + died.stderr
    storage = open_images()
    if step in ("format", "attach", "adopt", "place"):
        assert storage.create("run", StorageType.DYNAMIC, None, UID).path.stat().st_uid == UID
        assert len(volume_mounts(data)) == 1
    else:
        usage = storage.destroy("run")
        assert usage is not None
        assert 10 << 20 <= usage.peak_bytes < 11 << 20
    assert_nothing_left(storage, data)


@pytest.mark.slow
def test_random_kills_leave_nothing(open_images: Open, data: Path) -> None:
    for delay_ms in range(5, 400, 33):
        churn = subprocess.Popen([sys.executable, "-c", CHURN, data], stdout=subprocess.PIPE)
        assert churn.stdout is not None
        churn.stdout.readline()
        with suppress(subprocess.TimeoutExpired):
            churn.wait(delay_ms / 1000)
        churn.kill()
        churn.wait()
        churn.stdout.close()
        assert_nothing_left(open_images(), data)


def test_a_volume_outlives_a_killed_server_with_its_files_and_peak(open_images: Open, data: Path) -> None:
    storage = open_images()
    volume = storage.create("run", StorageType.STATIC, 1, UID)
    (volume.path / "file").write_bytes(b"x" * (10 << 20))
    again = XfsImageStorage(data / "volumes", data / "runs", reserve_bytes=0, ready_volumes=0)
    assert again.find("run") == volume
    usage = again.usage("run")
    assert usage is not None
    assert 10 << 20 <= usage.peak_bytes < 11 << 20
    again.close()


def test_create_is_repeatable(open_images: Open, data: Path) -> None:
    storage = open_images()
    volume = storage.create("run", StorageType.STATIC, 1, UID)
    (volume.path / "file").touch()
    assert storage.create("run", StorageType.STATIC, 1, UID) == volume
    assert open_images().create("run", StorageType.STATIC, 1, UID) == volume
    assert os.listdir(volume.path) == ["file"]
    assert len(volume_mounts(data)) == 1


def test_destroy_is_repeatable_and_tells_the_same_until_the_run_is_swept(open_images: Open, data: Path) -> None:
    storage = open_images()
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    (volume.path / "file").write_bytes(b"x" * (10 << 20))
    first = storage.destroy("run")
    assert first is not None
    assert storage.find("run") is None
    assert not volume.path.exists()
    assert storage.destroy("run") == first
    again = open_images()
    assert again.sweep(frozenset({"run"})) == []
    assert again.destroy("run") == first
    again.sweep(frozenset())
    assert again.destroy("run") is None


def test_a_sweep_keeps_what_is_to_be_kept(open_images: Open) -> None:
    storage = open_images()
    kept = storage.create("kept", StorageType.DYNAMIC, None, UID)
    storage.create("gone", StorageType.DYNAMIC, None, UID)
    assert storage.sweep(frozenset({"kept", "unheard-of"})) == ["gone"]
    assert (storage.find("kept"), storage.find("gone")) == (kept, None)


def test_a_process_that_stays_in_the_volume_holds_up_nothing_and_writes_nothing_more(
    open_images: Open, data: Path
) -> None:
    storage = open_images()
    volume = storage.create("run", StorageType.DYNAMIC, None, UID)
    held = os.open(volume.path / "file", os.O_CREAT | os.O_WRONLY)
    try:
        os.write(held, b"x" * (10 << 20))
        assert storage.destroy("run") is not None
        assert volume_mounts(data) == []
        assert wait_until(lambda: _refuses(held))
        assert storage.wait_until_removed(60)
        assert images_below(data) == []
    finally:
        os.close(held)
    assert wait_until(lambda: loops_below(data) == [])


def _refuses(descriptor: int) -> bool:
    try:
        os.write(descriptor, b"x")
    except OSError:
        return True
    return False


def test_a_volume_that_cannot_be_mounted_any_more_is_none_and_goes(open_images: Open, data: Path) -> None:
    volume = open_images().create("run", StorageType.DYNAMIC, None, UID)
    storage = open_images()
    subprocess.run(["umount", volume.path], check=True)
    assert wait_until(lambda: loops_below(data) == [])
    os.truncate(data / "volumes/run/image", 1 << 20)
    assert (storage.find("run"), storage.usage("run")) == (None, None)
    with pytest.raises(VolumeLost, match="cannot be mounted"):
        storage.flush("run")
    with pytest.raises(StorageUnavailable, match="cannot be mounted"):
        storage.create("run", StorageType.DYNAMIC, None, UID)
    assert storage.destroy("run") is not None
    assert_nothing_left(storage, data)


def test_a_uuid_that_is_a_path_is_refused(open_images: Open) -> None:
    with pytest.raises(ValueError, match="not a run uuid"):
        open_images().create("../elsewhere", StorageType.DYNAMIC, None, UID)


def test_a_ready_volume_is_given_to_the_next_run_and_another_is_made(open_images: Open, data: Path) -> None:
    storage = open_images(ready_volumes=1, ready_static_gib=[1])
    assert storage.wait_until_ready(1, 30)
    (ready,) = (data / "volumes/.ready").glob("static-1.*/image")
    inode = ready.stat().st_ino
    storage.create("run", StorageType.STATIC, 1, UID)
    assert (data / "volumes/run/image").stat().st_ino == inode
    assert storage.wait_until_ready(1, 30)


def test_the_capacity_used_last_is_kept_ready_in_place_of_an_old_one(open_images: Open, data: Path) -> None:
    storage = open_images(ready_volumes=1, ready_static_gib=[1, 2])
    assert storage.wait_until_ready(1, 30)
    storage.create("run", StorageType.STATIC, 3, UID)

    def kinds() -> set[str]:
        return {entry.name.partition(".")[0] for entry in (data / "volumes/.ready").iterdir()}

    assert wait_until(lambda: kinds() == {"dynamic", "static-2", "static-3"})
    assert storage.wait_until_ready(3, 30)
