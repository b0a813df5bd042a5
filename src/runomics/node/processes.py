"""Trees of processes read from /proc: members, memory, CPU time. Used by a supervisor whose cgroup is not its own, and by sweeps."""

from __future__ import annotations

import contextlib
import os
import signal

from . import claim

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The children of every thread of `pid`."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    return found


def tree(pid: int) -> list[int]:
    """`pid` and its descendants, parents first."""
    members = [pid]
    for member in members:
        members += children(member)
    return members


def resident_bytes(pids: list[int]) -> int:
    """Resident memory of the processes; what they share is counted for each, so this is never too low."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{pid}/statm") as file:
            total += int(file.read().split()[1]) * PAGE_BYTES
    return total


def proportional_bytes(pids: list[int]) -> int:
    """Resident memory with shared pages counted once (costly); a process that hides its map counts as resident."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                lines = file.read().splitlines()
        except OSError:
            total += resident_bytes([pid])
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def cpu_seconds(pids: list[int]) -> float:
    """CPU time of the processes and of the children they waited for."""
    ticks = 0
    for pid in pids:
        fields = claim.stat_fields(pid)
        if fields:
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_SECOND


def send(pids: list[int], number: int) -> None:
    """Signal each; the ones that are gone do not matter."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_those_with_root_directory(name: str, device: int, inode: int) -> bool:
    """SIGKILL every process in whose root `name` is the directory (device, inode); whether there was one.

    This finds the processes of a container by the directory bound into it, when neither a cgroup nor a parent knows them.
    """
    found = False
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            status = os.stat(f"/proc/{entry}/root/{name}")
            if (status.st_dev, status.st_ino) == (device, inode):
                os.kill(int(entry), signal.SIGKILL)
                found = True
    return found


def kill_those_with_environment(entry: str) -> bool:
    """SIGKILL every process that was started with the environment entry `NAME=value`; whether there was one."""
    found = False
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            if entry.encode() in file.read().split(b"\0"):
                os.kill(int(pid), signal.SIGKILL)
                found = True
    return found
