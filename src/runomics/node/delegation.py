"""Which cgroup driver works on this host, found by doing. Runs in the `detect` and `probe` processes, at the server's start.

On cgroup v2 this also makes room: a tree hands out controllers only from a group that holds no process, so the processes of a
group that was delegated to us (systemd `Delegate=yes`, a container's root) move into the leaf `<parent>-server` beside the tasks.
"""

from __future__ import annotations

import errno
import os
import posixpath
from typing import NamedTuple

from . import cgroups
from .cgroups import ROOT, V1_CONTROLLERS, V2_CONTROLLERS, Limits

TRIAL = Limits(cpus=0.5, memory_bytes=64 << 20, pids=64)
DELEGATED = ("trusted.delegate", "user.delegate")


class Choice(NamedTuple):
    """The driver for spec.json, the parent it takes, and, when the driver is `none`, why and what to do."""

    driver: str
    parent: str
    why_soft: str = ""


def detect(parent: str, root: str = ROOT) -> Choice:
    """The best driver that really works here for tasks below the cgroup `parent`."""
    if os.path.exists(root + "/cgroup.controllers"):
        return _detect_v2(parent, root)
    if os.path.isdir(root + "/memory"):
        return _detect_v1(parent, root)
    return Choice("none", parent, f"no cgroup file system at {root}; mount one, or run where one is")


def trial(cgroup: cgroups.Cgroup) -> str:
    """Make, limit, enter and remove `cgroup`; empty when all of it worked, else what did not."""
    try:
        cgroup.make(TRIAL)
        reader, writer = os.pipe()
        with cgroup.inside():
            child = os.fork()
            if child == 0:
                os.close(writer)
                os.read(reader, 1)
                os._exit(0)
        try:
            cgroup.take_in(child)
            members = cgroup.members()
        finally:
            os.close(reader)
            os.close(writer)
            os.waitpid(child, 0)
        cgroup.kill()
        cgroup.remove()
    except OSError as error:
        return f"{error.filename or 'cgroup'}: {error.strerror}"
    return "" if child in members else f"a process was moved in and {members} are there"


def _detect_v1(parent: str, root: str) -> Choice:
    missing = [controller for controller in V1_CONTROLLERS if not os.path.isdir(f"{root}/{controller}")]
    if missing:
        return Choice("none", parent, f"cgroup v1 without {', '.join(missing)}")
    failure = trial(cgroups.V1(parent, f"trial-{os.getpid()}", root))
    if not failure:
        return Choice("v1", parent)
    return Choice(
        "none", parent, f"{failure}; run as root, or let root make and chown {root}/{{memory,cpu,…}}/{parent}"
    )


def _detect_v2(parent: str, root: str) -> Choice:
    failures = []
    for base in _bases(parent, root):
        path = posixpath.join(base, parent)
        try:
            _hand_out(root, base, parent)
        except OSError as error:
            failures.append(f"{error.filename or path}: {error.strerror}")
            continue
        failure = trial(cgroups.V2(path, f"trial-{os.getpid()}", root))
        if not failure:
            return Choice("v2", path)
        failures.append(failure)
    return Choice("none", parent, "; ".join(failures) + "; run as root or as a systemd unit with Delegate=yes")


def _bases(parent: str, root: str) -> list[str]:
    """Groups, relative to the tree's root, below which ours may lie: the delegated one that holds us, then the top."""
    own = ""
    for line in cgroups.text_of("/proc/self/cgroup").splitlines():
        if line.startswith("0::/"):
            own = line[4:]
    if posixpath.basename(own) == f"{parent}-server":
        own = posixpath.dirname(own)
    return [own, ""] if own and _is_delegated(f"{root}/{own}") else [""]


def _is_delegated(path: str) -> bool:
    for name in DELEGATED:
        try:
            if os.getxattr(path, name) == b"1":
                return True
        except OSError:
            continue
    return False


def _hand_out(root: str, base: str, parent: str) -> None:
    """Turn the controllers on in `base` and in `base`/`parent`."""
    top = posixpath.join(root, base) if base else root
    try:
        _turn_on(top)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        leaf = f"{top}/{parent}-server"
        os.makedirs(leaf, exist_ok=True)
        for pid in cgroups.members_of(top):
            cgroups.put(leaf + "/cgroup.procs", pid)
        _turn_on(top)
    own = f"{top}/{parent}"
    os.makedirs(own, exist_ok=True)
    _turn_on(own)


def _turn_on(directory: str) -> None:
    path = directory + "/cgroup.subtree_control"
    on = set(cgroups.text_of(path).split())
    wanted = [f"+{controller}" for controller in V2_CONTROLLERS if controller not in on]
    if wanted:
        cgroups.put(path, " ".join(wanted))
