"""The OCI configuration of an attempt that crun runs: the same view and the same rights as bubblewrap gives, and a user who is not root.

crun is for images whose configuration names a user, where bubblewrap would have to make that user the owner of everything that is root's.
Its cgroup is ours, so it is told to have none; it reads its configuration from a pipe and does nothing before its end. Used by the
supervisor of a server that is root.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any, NamedTuple

from . import containers, host_etc, linux
from .image_user import User
from .spec import Spec

STATE, PID, LOG = "crun", "crun.pid", "crun.log"
"""In the attempt's directory: crun's own records, the process id of the container's first process, what crun complained about."""
FILTER = "run.oci.seccomp_bpf_data"
SYS = "/sys"
NAMESPACES = ("pid", "ipc", "uts", "mount", "cgroup")
MASKED = (
    "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/proc/interrupts",
)  # fmt: skip


class Files(NamedTuple):
    """The attempt's directory, the mounted root of its image, and the copy of the host's /etc."""

    directory: str
    root: str
    etc: str


def arguments(spec: Spec, files: Files, config: int) -> list[str]:
    """crun's command line; `config` is the descriptor its configuration comes through."""
    return [
        "crun",
        "--root", f"{files.directory}/{STATE}",
        "--log", f"{files.directory}/{LOG}",
        "--cgroup-manager=disabled",
        "run",
        "--bundle", files.directory,
        "--config", f"/proc/self/fd/{config}",
        "--pid-file", f"{files.directory}/{PID}",
        spec.cgroup_name,
    ]  # fmt: skip


def hide_cgroups() -> None:
    """Lay an empty /sys over the host's, in a mount namespace of our own.

    crun refuses to work where both versions of cgroups have controllers, even when it is to touch none.
    """
    linux.mount("tmpfs", SYS, "tmpfs", 0, "mode=0555,size=64k")
    os.makedirs(f"{SYS}/fs/cgroup")


def configuration(spec: Spec, files: Files, user: User) -> bytes:
    """config.json. The task's /tmp is mounted in the root already."""
    capabilities = [] if user.uid else [f"CAP_{name}" for name in containers.capabilities(spec)]
    document: dict[str, Any] = {
        "ociVersion": "1.0.0",
        "hostname": containers.HOSTNAME,
        "root": {"path": files.root, "readonly": False},
        "process": {
            "terminal": False,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups, "umask": 0o022},
            "args": containers.inner_command(spec),
            "env": [f"{name}={value}" for name, value in containers.environment(spec, user).items()],
            "cwd": spec.cwd,
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted", "inheritable"), capabilities),
        },
        "mounts": _mounts(spec, files),
        "linux": {
            "namespaces": [{"type": kind} for kind in (*NAMESPACES, *(() if spec.network else ("network",)))],
            "maskedPaths": list(MASKED),
        },
    }
    if spec.seccomp is not None:
        with open(spec.seccomp, "rb") as file:
            document["annotations"] = {FILTER: base64.b64encode(file.read()).decode()}
    return json.dumps(document).encode()


def _mounts(spec: Spec, files: Files) -> list[dict[str, Any]]:
    shm_bytes = spec.memory_bytes or containers.SHM_BYTES_WITHOUT_LIMIT
    found = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev", "ro"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=64k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "nodev", "mode=1777", f"size={shm_bytes}"),  # noqa: S108 inside
        _mount(containers.WORKFLOW, "bind", spec.volume, "rbind", "nosuid", "nodev"),
    ]
    found += [_mount(target, "bind", source, "bind", "nosuid") for source, target in spec.devices]
    found += [_mount(target, "bind", source, "bind", "ro", "nosuid", "nodev") for source, target in spec.device_mounts]
    for source, name in ((spec.inputs, "inputs"), (spec.definition, "definition")):
        if source is not None:
            found.append(_mount(f"{containers.WORKFLOW}/{name}", "bind", source, "rbind", "ro", "nosuid", "nodev"))
    hidden = f"{containers.WORKFLOW}/{spec.scratch.split('/', 1)[0]}"
    found.append(_mount(hidden, "tmpfs", "tmpfs", "nosuid", "nodev", "noexec", "ro", "mode=0555", "size=4k"))
    for name in (host_etc.HOSTS, "resolv.conf") if spec.network else (host_etc.HOSTS,):
        if os.path.exists(f"{files.etc}/{name}"):
            found.append(_mount(f"/etc/{name}", "bind", f"{files.etc}/{name}", "bind", "ro", "nosuid", "nodev"))
    return found


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}
