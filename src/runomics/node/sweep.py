"""What is left of an attempt whose supervisor died: its processes end, its cgroup and scratch go, result.json says LOST.

Runs in a supervisor process that found the attempt claimed. Every act may be repeated; two sweepers at once do no harm.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

from . import cgroups, claim, containers, crun, linux, processes, records, volume
from . import spec as specs
from .container_process import HOST_ETC, LOCAL_TMP, MARK, ROOTFS
from .spec import Spec

KILL_SECONDS = 10.0


def result(reason: str, *, message: str = "") -> dict[str, Any]:
    """result.json of an attempt of which nothing was measured."""
    return {
        "reason": reason,
        "exit_code": None,
        "message": message,
        "started_ms": None,
        "stopped_ms": int(time.time() * 1000),
        "cpu_seconds": None,
        "peak_memory_bytes": None,
        "oom_kills": 0,
        "limits_are_soft": False,
        "usage": [],
    }


def after_dead_supervisor(directory: str) -> int:
    """Sweep the attempt unless its supervisor lives or it has ended."""
    owner = claim.owner(directory)
    if owner is None or claim.is_alive(owner) or records.has_result(directory):
        return 0
    if owner == claim.Claim(0, 0, claim.boot_id()):
        records.write_result(directory, result("CANCELLED", message="ended before it started"))
        return 0
    lost = result("LOST", message="the task's supervisor ended without a result")
    lost["started_ms"] = records.started_ms(directory)
    try:
        spec = specs.read(directory)
        cgroup = cgroups.open_cgroup(spec.cgroup, spec.cgroup_parent, spec.cgroup_name)
    except (specs.SpecUnreadable, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        records.write_result(directory, lost)
        return 0
    cgroup.kill()
    if spec.cgroup in ("none", "inherited"):
        _kill_what_is_known_by_itself(spec)
    counters = cgroup.counters()
    if spec.cgroup in ("v1", "v2"):
        lost.update(
            cpu_seconds=counters.cpu_seconds, peak_memory_bytes=counters.peak_bytes, oom_kills=counters.oom_kills
        )
    lost["limits_are_soft"] = cgroup.limits_are_soft
    remove_leftovers(directory, spec)
    try:
        cgroup.remove()
    except OSError:
        records.complain()
    records.write_result(directory, lost)
    return 0


def remove_leftovers(directory: str, spec: Spec) -> None:
    """Remove the attempt's scratch, beneath its volume only, and what lies in its own directory but for its records.

    What cannot be removed is told in runtime.log and goes with the volume.
    """
    try:
        root = volume.open_volume(spec.volume)
        try:
            volume.remove_scratch(root, spec.scratch)
        finally:
            os.close(root)
        if spec.rootfs is not None:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(f"{directory}/{ROOTFS}")
        if spec.local_tmp is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(spec.local_tmp.image)
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(f"{directory}/{LOCAL_TMP}")
        left = [HOST_ETC] if spec.host_etc is None else []
        if spec.crun is not None and spec.rootfs is not None:
            left += [crun.STATE, crun.PID, crun.LOG]
        if left:
            own = volume.open_volume(directory)
            try:
                for name in left:
                    volume.remove_tree(own, name)
            finally:
                os.close(own)
    except OSError:
        records.complain()


def _kill_what_is_known_by_itself(spec: Spec) -> None:
    """End every process that has the attempt's own /tmp, which nobody else has, and its bwrap, which may not have it yet."""
    tmp = _identity_of_tmp(spec)
    mark = f"{MARK}={spec.cgroup_name}"
    pause = 0.001
    deadline = time.monotonic() + KILL_SECONDS
    while processes.kill_those_with_environment(mark) or (
        tmp and processes.kill_those_with_root_directory("tmp", *tmp)
    ):
        if time.monotonic() > deadline:
            sys.stderr.write("processes of the attempt are still there\n")
            return
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def _identity_of_tmp(spec: Spec) -> tuple[int, int] | None:
    """Device and inode of what the attempt has as /tmp; None when it is not there."""
    try:
        root = volume.open_volume(spec.volume)
        try:
            tmp = linux.open_beneath(root, f"{spec.scratch}/{containers.TMP}", os.O_PATH | os.O_DIRECTORY)
        finally:
            os.close(root)
    except OSError:
        return None
    status = os.fstat(tmp)
    os.close(tmp)
    return status.st_dev, status.st_ino
