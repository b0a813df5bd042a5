"""Locks between processes, held by an open file: the one active scheduler of a database, the one server of a DATA directory.

They die with the process (and its forks that did not exec), so nothing has to be cleaned up after a crash.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class HeldLock:
    """A lock that is held until `release` or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Let another process have it. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def acquire_scheduler_lock(path: Path) -> HeldLock | None:
    """Take the lock file `path` (made when missing, mode 0600) without waiting; None while another process has it.

    The holder's pid stands in the file, for people. The DATA directory is locked by the same call.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return HeldLock(descriptor)
