"""Owns the measuring of a plain directory tree: the bytes its files take, found by walking; runs in the server.

No link is followed, whatever a task puts in place of a directory meanwhile: each directory is opened beneath the root.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from runomics.run_storage import linux
from runomics.run_storage.meter import Reading

PAUSE_EVERY_ENTRIES = 2000
_BLOCK_BYTES = 512


def measure_tree(root: int, pause: Callable[[], None] = lambda: None) -> Reading:
    """What the tree below the open directory `root` takes on disk, hard links once, the root itself not.

    `pause()` is called every 2,000 entries, so that a large tree leaves the processor to others. What vanishes meanwhile is not
    counted. `available_bytes` is the disk's.

    Raises:
        OSError: the root cannot be read.
    """
    used = inodes = since_pause = 0
    linked: set[tuple[int, int]] = set()
    pending = ["."]
    while pending:
        path = pending.pop()
        try:
            directory = linux.open_beneath(root, path)
        except OSError:
            if path == ".":
                raise
            continue
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    inodes += 1
                    since_pause += 1
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{path}/{entry.name}")
                    elif status.st_nlink > 1:
                        if (status.st_dev, status.st_ino) in linked:
                            continue
                        linked.add((status.st_dev, status.st_ino))
                    used += status.st_blocks * _BLOCK_BYTES
        finally:
            os.close(directory)
        if since_pause >= PAUSE_EVERY_ENTRIES:
            since_pause = 0
            pause()
    disk = os.statvfs(root)
    return Reading(used, disk.f_bavail * disk.f_frsize, inodes)
