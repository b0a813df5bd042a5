"""Which process owns an incarnation of a run, by its `pid.<incarnation>` file, and whether it lives. Runs in the server."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from runomics.ports import ProcessRef

_NOBODY = ProcessRef(pid=0, start_time=0, boot_id="")


def owner(run_directory: Path, incarnation: int) -> ProcessRef | None:
    """Who claimed the incarnation; None when nobody has yet. A claim that a crash of the host left damaged is a dead process's."""
    try:
        words = (run_directory / f"pid.{incarnation}").read_bytes().decode("ascii", errors="replace").split()
    except FileNotFoundError:
        return None
    if len(words) < 3 or not (words[0].isdigit() and words[1].isdigit()):
        return _NOBODY
    return ProcessRef(pid=int(words[0]), start_time=int(words[1]), boot_id=words[2])


def boot_id() -> str:
    """The kernel's name for the time since it started."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def open_living(process: ProcessRef) -> int | None:
    """A pidfd of the process, None when it is gone (or a zombie, or its pid belongs to another one now)."""
    if process.boot_id != boot_id():
        return None
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # Only now: a pid can be given to another process before the descriptor is open, not after.
    if _start_time(process.pid) == process.start_time:
        return descriptor
    os.close(descriptor)
    return None


def is_alive(process: ProcessRef) -> bool:
    """Whether exactly this process still runs."""
    return process.boot_id == boot_id() and _start_time(process.pid) == process.start_time


def send_signal(process: ProcessRef, number: signal.Signals) -> bool:
    """Signal exactly this process; False when it is gone."""
    descriptor = open_living(process)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _start_time(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
