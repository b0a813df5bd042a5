"""Owns the question what run storage this machine can do, answered by doing it; runs in the server at start and in `doctor`."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path

from runomics.ports import Finding, StorageCaps, StorageUnavailable
from runomics.run_storage import directory, image, linux, xfs_image
from runomics.run_storage.records import VolumeRecords
from runomics.run_storage.walk import measure_tree

PROBE_CAPACITY_BYTES = 16 << 20
"""Small: the probe fills it. The file system around it is of the usual size, of which all the rest is held back."""

_ROOT = "start the server as root, or accept the directory back end: it measures, and ends a run that is over its limit"
_XFSPROGS = "apt install xfsprogs"
_LOOP = "modprobe loop; in a container: --device /dev/loop-control and block devices of major 7 in the device cgroup (b 7:* rwm)"
_MOUNT = "CAP_SYS_ADMIN, a kernel of 5.2 or later, XFS in it (modprobe xfs)"


def probe_xfs_image(volumes: Path) -> StorageCaps:
    """Make a small volume below `volumes`, fill it, read it, trim it, destroy it: about 30 ms."""
    if os.geteuid() != 0:
        return _cannot("the server is not root", _ROOT)
    if image.mkfs_path() is None:
        return _cannot("mkfs.xfs is not installed", _XFSPROGS)
    if not os.access("/dev/loop-control", os.R_OK | os.W_OK):
        return _cannot("/dev/loop-control is missing or closed", _LOOP)
    place = Path(tempfile.mkdtemp(prefix="probe.", dir=VolumeRecords(volumes).ready))
    try:
        return _try_volume(place / "image")
    except StorageUnavailable as error:
        return _cannot(str(error), _XFSPROGS)
    except OSError as error:
        remedy = _LOOP if "loop" in str(error).lower() and "mount" not in str(error) else _MOUNT
        return _cannot(str(error), remedy)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _try_volume(file: Path) -> StorageCaps:
    image.format_image(file, image.image_bytes(1 << 30))
    attached = image.attach(file, PROBE_CAPACITY_BYTES)
    gauge = image.ImageGauge(attached.root, attached.empty_bytes)
    try:
        taken = _fill(attached.root)
        used = gauge.read().used_bytes
        if not 0.98 * PROBE_CAPACITY_BYTES <= taken <= PROBE_CAPACITY_BYTES:
            return _cannot(
                f"a volume of {PROBE_CAPACITY_BYTES} bytes took {taken}", "the kernel's XFS does not keep a limit"
            )
        if abs(used - taken) > 0.02 * PROBE_CAPACITY_BYTES:
            return _cannot(f"{taken} bytes were written and {used} reported", "the kernel's XFS does not report usage")
        try:
            gauge.trim()
        except OSError:
            return StorageCaps(xfs_image.BACKEND, works=True, enforces_static=True, gives_back=False, needs_root=True)
        return xfs_image.CAPS
    finally:
        with contextlib.suppress(OSError):
            linux.shut_down(attached.root)
        attached.close()


def _fill(root: int) -> int:
    """Write until the volume takes no more; the bytes it took."""
    taken, block = 0, b"\xa5" * (64 << 10)
    descriptor = os.open(".probe", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=root)
    try:
        while taken <= 2 * PROBE_CAPACITY_BYTES:
            taken += os.write(descriptor, block)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(descriptor)
    return taken


def _cannot(why: str, remedy: str) -> StorageCaps:
    return StorageCaps(xfs_image.BACKEND, works=False, needs_root=True, why_not=why, remedy=remedy)


def probe_directory(runs: Path) -> StorageCaps:
    """Write a file below `runs` and find it by walking."""
    try:
        runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".probe-", dir=runs) as place:
            (Path(place) / "file").write_bytes(b"x" * 8192)
            root = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                used = measure_tree(root).used_bytes
            finally:
                os.close(root)
    except OSError as error:
        return StorageCaps(directory.BACKEND, works=False, why_not=str(error), remedy=f"make {runs} writable")
    if used < 8192:
        why = f"8192 bytes were written and {used} found"
        return StorageCaps(directory.BACKEND, works=False, why_not=why, remedy=f"put {runs} on a local file system")
    return directory.CAPS


def probe_news() -> Finding:
    """Whether the kernel tells of closed and deleted files: without it the tip of a short burst may be missed."""
    name = "run storage peaks"
    try:
        os.close(linux.open_watch())
    except OSError as error:
        detail = f"{error}; peaks are sampled at 10 to 100 Hz only"
        return Finding(name, works=False, detail=detail, remedy="root, kernel 5.1 or later, CONFIG_FANOTIFY")
    return Finding(name, works=True, detail="every close, rename and delete is looked at as it happens")


def probe(volumes: Path, runs: Path) -> list[Finding]:
    """What `runomics doctor` says of run storage."""
    exact = probe_xfs_image(volumes)
    plain = probe_directory(runs)
    return [
        Finding(
            "run storage xfs-image",
            exact.works,
            "STATIC is a hard limit, DYNAMIC grows and gives back, peaks are exact" if exact.works else exact.why_not,
            exact.remedy,
        ),
        Finding(
            "run storage directory",
            plain.works,
            "no hard limit: usage is walked, a run over its STATIC size is ended" if plain.works else plain.why_not,
            plain.remedy,
            required=True,
        ),
        probe_news(),
    ]
