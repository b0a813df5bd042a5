"""The bubblewrap command line of one attempt: what the task sees of the host, what it may do. Pure but for looking at the host's root.

The task sees the run's volume at /mnt/workflow, its inputs and the definition read-only below it, and either an image's root (made
writable by an overlay on the volume) or a few read-only pieces of the host's own root, which then is "the default image".
"""

from __future__ import annotations

import os
from typing import NamedTuple

from . import host_etc
from .image_user import User
from .spec import Spec

WORKFLOW = "/mnt/workflow"
HOSTNAME = "task"
TMP, HOME = "tmp", "home"
"""Directories of an attempt's scratch: its /tmp and, on the host's root, its /root."""
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
"""What a task that is root may still do. With the host's network it does not get NET_BIND_SERVICE: the ports are the host's."""

WITHOUT_PIDS = ("none", "inherited")
"""cgroup drivers that do not limit the number of processes."""

HOST_DIRECTORIES = ("/usr", "/nix/store")
HOST_LINKS = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")


DEFAULT_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TMPDIR": "/tmp",  # noqa: S108 a place inside the container
}
SHM_BYTES_WITHOUT_LIMIT = 64 << 20


class Descriptors(NamedTuple):
    """Open files that bwrap inherits: directories it binds, data it reads, pipes it reports on and waits for."""

    status: int
    tmp: int
    home: int | None
    seccomp: int | None
    block: int | None = None


class Root(NamedTuple):
    """What becomes /: the mounted root of an image, or (None) the host's; a snapshot of the host's /etc (host_etc); the image's user."""

    image: str | None
    etc: str
    user: User | None = None


def environment(spec: Spec, user: User | None = None) -> dict[str, str]:
    """The task's whole environment: the spec's, over the few variables every program expects."""
    home = {} if user is None or user.home is None else {"HOME": user.home}
    return {**DEFAULT_ENVIRONMENT, **home, **spec.env}


def capabilities(spec: Spec) -> list[str]:
    """What the task may do while it is root."""
    return [name for name in CAPABILITIES if not (spec.network and name == "NET_BIND_SERVICE")]


def limits_processes(spec: Spec) -> bool:
    """Whether the number of processes is to be limited by the kernel's own count for each user and user namespace (5.14).

    That is where no cgroup of ours does it. It holds nobody who is root outside; but root has cgroups.
    """
    return spec.rootless and spec.cgroup in WITHOUT_PIDS


def inner_command(spec: Spec) -> list[str]:
    """What runs inside. stdin is opened there, because it may be a link among the inputs."""
    if spec.stdin is None:
        return spec.argv
    return ["/bin/sh", "-c", 'exec 0<"$0" "$@"', spec.stdin, *spec.argv]


def hosts_text(spec: Spec) -> str:
    """/etc/hosts of the task: its own name always resolves (a JVM asks for it)."""
    own = f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost ip6-localhost ip6-loopback\n"
    if not spec.network:
        return own
    try:
        with open("/etc/hosts", errors="replace") as file:
            return file.read() + "\n" + own
    except OSError:
        return own


def options(spec: Spec, descriptors: Descriptors, root: Root) -> list[str]:
    """bwrap's options, without its own path and the command."""
    return [
        *_namespaces(spec, root),
        *_rights(spec, descriptors),
        *(["--bind", root.image, "/"] if root.image else host_root(spec, root.etc)),
        *_own_files(spec, descriptors, root),
        *_devices(spec),
        *_workflow(spec),
        *_frozen(root),
        "--json-status-fd", str(descriptors.status),
        *(["--block-fd", str(descriptors.block)] if descriptors.block is not None else []),
        "--chdir", spec.cwd,
        "--clearenv",
        *[part for name, value in environment(spec, root.user).items() for part in ("--setenv", name, value)],
    ]  # fmt: skip


def _namespaces(spec: Spec, root: Root) -> list[str]:
    chosen = ["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try", "--hostname", HOSTNAME]
    if root.user is not None and root.user.uid:
        # What is root's belongs to this user then: a namespace with one id cannot tell them apart. crun can, where it may be had.
        chosen += ["--unshare-user", "--uid", str(root.user.uid), "--gid", str(root.user.gid), "--disable-userns"]
    elif spec.rootless and not root.image:
        chosen += ["--unshare-user", "--uid", "0", "--gid", "0", "--disable-userns"]
    if not spec.network:
        chosen.append("--unshare-net")
    return [*chosen, "--die-with-parent", "--new-session"]


def _rights(spec: Spec, descriptors: Descriptors) -> list[str]:
    chosen = ["--cap-drop", "ALL"]
    for name in capabilities(spec):
        chosen += ["--cap-add", "CAP_" + name]
    if descriptors.seccomp is not None:
        chosen += ["--seccomp", str(descriptors.seccomp)]
    return chosen


def _frozen(root: Root) -> list[str]:
    """bwrap's own tmpfs are half as large as the host's memory, and nobody counts them where there is no cgroup: they are closed."""
    chosen = ["--remount-ro", "/dev"]
    return chosen if root.image else [*chosen, "--remount-ro", "/"]


def host_root(spec: Spec, etc: str) -> list[str]:
    """The pieces of the host's own root that make the default image, each read-only, plus the paths the operator named."""
    chosen: list[str] = []
    for path in HOST_DIRECTORIES:
        if os.path.isdir(path):
            chosen += ["--ro-bind", path, path]
    for path in HOST_LINKS:
        if os.path.islink(path):
            chosen += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            chosen += ["--ro-bind", path, path]
    chosen += ["--ro-bind", etc, "/etc"]
    for path in spec.host_paths:
        chosen += ["--ro-bind", path, path]
    return chosen


def _own_files(spec: Spec, descriptors: Descriptors, root: Root) -> list[str]:
    shm_bytes = spec.memory_bytes or SHM_BYTES_WITHOUT_LIMIT
    # bwrap itself leaves /proc/sys open: root's sysctls need uid 0 and no capability, and core_pattern alone would be the host.
    chosen = ["--proc", "/proc", "--remount-ro", "/proc"]
    chosen += ["--dev", "/dev", "--perms", "1777", "--size", str(shm_bytes), "--tmpfs", "/dev/shm"]  # noqa: S108
    chosen += ["--bind-fd", str(descriptors.tmp), "/tmp"]  # noqa: S108 a place inside the container
    if descriptors.home is not None:
        chosen += ["--bind-fd", str(descriptors.home), "/root"]
    if root.image:
        for name in (host_etc.HOSTS, "resolv.conf") if spec.network else (host_etc.HOSTS,):
            chosen += ["--ro-bind-try", f"{root.etc}/{name}", f"/etc/{name}"]
    return chosen


def _devices(spec: Spec) -> list[str]:
    """The accelerators that the attempt was given, and the host's libraries that go with them."""
    chosen: list[str] = []
    for source, target in spec.devices:
        chosen += ["--dev-bind", source, target]
    for source, target in spec.device_mounts:
        if source != target or spec.rootfs is not None or not source.startswith(HOST_DIRECTORIES):
            chosen += ["--ro-bind", source, target]
    return chosen


def _workflow(spec: Spec) -> list[str]:
    chosen = ["--bind", spec.volume, WORKFLOW]
    for source, name in ((spec.inputs, "inputs"), (spec.definition, "definition")):
        if source is not None:
            chosen += ["--ro-bind", source, f"{WORKFLOW}/{name}"]
    hidden = f"{WORKFLOW}/{spec.scratch.split('/', 1)[0]}"
    return [*chosen, "--perms", "0555", "--size", "4096", "--tmpfs", hidden]
