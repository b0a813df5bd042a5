"""The `pid` file of a task attempt: who owns it, and whether that process still lives. Used by every supervisor.

The file is made complete by link(2): whoever links first owns the attempt for ever. A claim with pid 0 is owned by nobody, for
ever: the server makes one to keep an attempt from starting.
"""

from __future__ import annotations

import functools
import os
from typing import NamedTuple


class Claim(NamedTuple):
    """A process by pid, start time (field 22 of /proc/PID/stat, clock ticks) and boot."""

    pid: int
    start_time: int
    boot_id: str


@functools.lru_cache(maxsize=1)
def boot_id() -> str:
    """What names this boot of the host. Looked up once, by the launcher before it forks."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; None when there is no such process."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        return os.read(descriptor, 4096).decode(errors="replace").rpartition(")")[2].split()
    except ProcessLookupError:
        return None
    finally:
        os.close(descriptor)


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat; 0 when there is no such process."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else 0


def take(directory: str) -> bool:
    """Claim the attempt for this process; False when it has an owner already."""
    if os.path.exists(directory + "/pid"):
        return False  # known without writing: whoever sweeps may have no room to
    pid = os.getpid()
    temporary = f"{directory}/pid.{pid}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    os.write(descriptor, f"{pid} {start_time(pid)} {boot_id()}\n".encode())
    os.close(descriptor)
    try:
        os.link(temporary, directory + "/pid")
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def owner(directory: str) -> Claim | None:
    """Who claimed the attempt; None when nobody did. An unreadable claim (the host crashed) has no living owner."""
    try:
        with open(directory + "/pid") as file:
            fields = file.read().split()
    except FileNotFoundError:
        return None
    if len(fields) != 3 or not (fields[0].isdigit() and fields[1].isdigit()):
        return Claim(0, 0, "")
    return Claim(int(fields[0]), int(fields[1]), fields[2])


def is_alive(claim: Claim) -> bool:
    """Whether the claiming process itself still runs: same boot, same start time, not a zombie."""
    if claim.pid == 0 or claim.boot_id != boot_id():
        return False
    fields = stat_fields(claim.pid)
    return fields is not None and int(fields[19]) == claim.start_time and fields[0] not in ("Z", "X")
