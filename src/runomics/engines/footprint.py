"""What a sandboxed engine has left outside its run's volume: its directory and its log, on the server's own disk. Runs in the server.

Nothing of the kernel limits these two, so they are looked at while the engine lives, and an engine with too much there is ended.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

MOST_BYTES = 512 << 20
"""Twice the largest result that is read."""
MOST_ENTRIES = 1000
LOOK_SECONDS = 2.0


def is_too_large(directory: Path, log: Path) -> bool:
    """Whether the files below `directory` and `log` take more of the disk than an engine may, or are more than it has use for.

    The engine changes them meanwhile; links are not followed.
    """
    used_bytes, entries = _taken(log), 0
    ahead = deque([str(directory)])
    while ahead:
        try:
            with os.scandir(ahead.popleft()) as found:
                for entry in found:
                    entries += 1
                    if entries > MOST_ENTRIES or used_bytes > MOST_BYTES:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        ahead.append(entry.path)
                    else:
                        used_bytes += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return used_bytes > MOST_BYTES


def _taken(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0
