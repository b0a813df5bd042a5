"""Owns one XFS in one sparse file: its size, its making, its mount and its exact capacity; runs in the server as root.

STATIC: the image is a little larger than the capacity, and the file system is told to hold back the difference (reserved blocks),
so that what is available is the capacity to the byte. No file stands for it: tasks may write anywhere in the volume, and only
CAP_SYS_ADMIN, which they never have, could change it. The reserve is the kernel's and lasts until the unmount, so it is made again
at each attach. Sparse: the host gives a block when it is written.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runomics.ports import StorageUnavailable
from runomics.run_storage import linux
from runomics.run_storage.meter import Reading

GIB = 1 << 30
BLOCK_BYTES = 4096
FIXED_OVERHEAD_BYTES = 192 << 20
OVERHEAD_SHARE = 0.0085
"""Measured: image = capacity × 1.0085 + 192 MiB leaves 100.1 to 109 % of 1 to 16,000 GiB available."""

SMALLEST_DYNAMIC_BYTES = 64 * GIB
MKFS_SECONDS = 60
MOUNT_OPTIONS: Mapping[str, str | None] = {"allocsize": "64k"}
"""Without allocsize a streamed file counts up to twice its size until it is closed."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A mounted image: `root` is an open descriptor of its root directory, `mount` of a mount no path shows yet (or -1)."""

    root: int
    mount: int
    empty_bytes: int
    reserved_blocks: int

    def close(self) -> None:
        """Let go; an image that no path shows is unmounted by that."""
        os.close(self.root)
        if self.mount >= 0:
            os.close(self.mount)


def mkfs_path() -> str | None:
    """Where mkfs.xfs is."""
    return shutil.which("mkfs.xfs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def image_bytes(usable_bytes: int) -> int:
    """The image size that leaves at least `usable_bytes` available."""
    size = usable_bytes + int(usable_bytes * OVERHEAD_SHARE) + FIXED_OVERHEAD_BYTES
    return size - size % (1 << 20)


def dynamic_bytes(pool_bytes: int) -> int:
    """What a DYNAMIC volume can hold: the size class (a power of two) above the whole pool, so that the pool ends first."""
    size = SMALLEST_DYNAMIC_BYTES
    while size < pool_bytes:
        size *= 2
    return size


def largest_file_bytes(directory: Path) -> int:
    """The longest file the file system of `directory` takes (16 TiB less a block on ext4), found by doing."""
    low, high = 0, (1 << 63) - (1 << 20)
    descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        while high - low > 1 << 20:
            middle = low + (high - low) // 2
            try:
                os.ftruncate(descriptor, middle)
                low = middle
            except OSError as error:
                if error.errno not in (errno.EFBIG, errno.EINVAL):
                    raise
                high = middle
    finally:
        os.close(descriptor)
    return low - low % (1 << 20)


def format_image(path: Path, size_bytes: int) -> None:
    """Make the sparse image `path` with an empty XFS. The host gives it 64 MiB: the log, allocated here so that it never lacks.

    Raises:
        StorageUnavailable: mkfs.xfs is missing or failed.
    """
    command = mkfs_path()
    if command is None:
        raise StorageUnavailable("mkfs.xfs is not installed: apt install xfsprogs")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)
    options = ["-q", "-f", "-K", "-s", f"size={BLOCK_BYTES}", "-l", "size=64m", "-i", "maxpct=0"]
    done = subprocess.run(
        [command, *options, str(path)], capture_output=True, text=True, timeout=MKFS_SECONDS, check=False
    )
    if done.returncode != 0:
        raise StorageUnavailable(f"mkfs.xfs {path} failed ({done.returncode}): {done.stderr.strip()[-500:]}")


def attach(image: Path, capacity_bytes: int | None) -> Attached:
    """Mount a fresh image out of sight; with a capacity, make that exactly available.

    Raises:
        OSError: loop device or mount refused. StorageUnavailable: the image is smaller than the capacity.
    """
    mounted = _mount(image)
    try:
        if capacity_bytes is not None:
            spare = _available_bytes(mounted.root) - capacity_bytes
            if spare < 0:
                raise StorageUnavailable(f"{image} holds {-spare} bytes less than its {capacity_bytes}")
            blocks = linux.reserved_blocks(mounted.root) + spare // BLOCK_BYTES
            linux.reserve_blocks(mounted.root, blocks)
            off = _available_bytes(mounted.root) - capacity_bytes
            if off != 0:
                raise StorageUnavailable(
                    f"{image}: the kernel left {off} bytes more than the {capacity_bytes} asked for"
                )
        status = os.statvfs(mounted.root)
        empty = (status.f_blocks - status.f_bfree) * status.f_frsize
        return Attached(mounted.root, mounted.mount, empty, linux.reserved_blocks(mounted.root))
    except BaseException:
        mounted.close()
        raise


def reattach(image: Path, empty_bytes: int, reserved_blocks: int) -> Attached:
    """Mount an image that holds a run's files (its log is replayed), out of sight, with the reserve it had.

    Raises:
        OSError: loop device or mount refused.
    """
    mounted = _mount(image)
    try:
        linux.reserve_blocks(mounted.root, reserved_blocks)
    except BaseException:
        mounted.close()
        raise
    return Attached(mounted.root, mounted.mount, empty_bytes, reserved_blocks)


def _mount(image: Path) -> Attached:
    with linux.loop_device(image) as device:
        mount = linux.mount_detached(device, "xfs", MOUNT_OPTIONS)
    try:
        # A mount descriptor is O_PATH; ioctls and syncfs need an open directory.
        root = os.open(f"/proc/self/fd/{mount}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except BaseException:
        os.close(mount)
        raise
    return Attached(root, mount, 0, 0)


def _available_bytes(root: int) -> int:
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize


def is_image_mounted_at(point: Path, image: Path) -> bool:
    """Whether `point` shows a file system on a loop device over `image`."""
    try:
        device = os.lstat(point).st_dev
    except FileNotFoundError:
        return False
    backing = linux.backing_file((os.major(device), os.minor(device)))
    return backing is not None and backing.removesuffix(" (deleted)") == os.path.realpath(image)


class ImageGauge:
    """Reads one mounted image through its root's descriptor, which it owns. Thread-safe."""

    def __init__(self, root: int, empty_bytes: int) -> None:
        self.root = root
        self._empty_bytes = empty_bytes
        self._lock = threading.Lock()
        self._seen = (-1, -1, -1)
        self._reading = Reading(0, 0)

    def read(self) -> Reading:
        """statvfs: 3 microseconds. The same object again while nothing has changed."""
        status = os.statvfs(self.root)
        seen = (status.f_bfree, status.f_bavail, status.f_files - status.f_ffree)
        if seen != self._seen:
            block = status.f_frsize
            used = (status.f_blocks - status.f_bfree) * block - self._empty_bytes
            self._reading = Reading(used, status.f_bavail * block, seen[2])
            self._seen = seen
        return self._reading

    def flush(self) -> None:
        """syncfs, on a copy of the descriptor so that `close` need not wait; the same open file, so no error is told twice."""
        copy = self._copy()
        try:
            linux.syncfs(copy)
        finally:
            os.close(copy)

    def trim(self) -> int:
        """Give freed space back to the host; the bytes trimmed."""
        copy = self._copy()
        try:
            return linux.trim(copy)
        finally:
            os.close(copy)

    def close(self) -> None:
        """Let go of the volume: it can be unmounted then."""
        with self._lock:
            root, self.root = self.root, -1
        if root >= 0:
            os.close(root)

    def release(self) -> int:
        """Give the descriptor to the caller."""
        with self._lock:
            root, self.root = self.root, -1
        return root

    def _copy(self) -> int:
        with self._lock:
            if self.root < 0:
                raise OSError(errno.EBADF, "the volume was let go")
            return os.dup(self.root)
