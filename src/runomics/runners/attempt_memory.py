"""The file system in memory for the records of task attempts: mounted below DATA when the local runner begins. Used in the server.

An attempt's records are five small files, made and removed within milliseconds, which need not outlive the host: in memory they cost a
third of what they cost on a disk. The mount outlives the server, as supervisors do. A plain user cannot mount: records lie on disk then.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
OPTIONS = b"mode=0700,nr_inodes=0"
"""Told no size, the kernel gives it the half of memory at most: half a million attempts at once on 20 GiB."""

_libc = ctypes.CDLL(None, use_errno=True)


def mount(directory: Path) -> bool:
    """Make `directory` a file system in memory, unless an earlier server did; False when this user may not."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.path.ismount(directory):
        return True
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV | MS_NOEXEC)
    return bool(_libc.mount(b"runomics", os.fsencode(directory), b"tmpfs", flags, OPTIONS) == 0)


def release(directory: Path) -> bool:
    """Unmount it when it is empty, so that the directory can be moved or removed; False while it holds records."""
    if not os.path.ismount(directory):
        return True
    if any(directory.iterdir()):
        return False
    return bool(_libc.umount2(os.fsencode(directory), 0) == 0)
