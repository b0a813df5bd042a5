"""The file tree of a sandboxed process: a small root of binds, entered by pivot_root. Runs in the run process before it drops its rights.

Nothing of the host is there unless it is listed here: default deny, by absence.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from runomics.sandbox import linux
from runomics.sandbox.linux import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
)

WORKFLOW = "/mnt/workflow"
DEFINITION = f"{WORKFLOW}/definition"
GATEWAY = "/run/gateway"
ENGINE = "/run/engine"

TMP_MIB = 64
"""Room of /tmp and of the tree's own small files, in memory."""

_SYSTEM_DIRECTORIES = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM_FILES = (
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/nsswitch.conf",
)
_DEVICES = ("null", "zero", "full", "random", "urandom")
_READ_ONLY = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
_READ_WRITE = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
_BENEATH = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS


@dataclass(frozen=True, slots=True)
class Tree:
    """What the sandbox shows, as host paths. None leaves the place empty. `base` is a mount point that lies above no other path.

    `shown` are more files and directories, read-only, at their own paths.
    """

    base: str
    engine: str
    uid: int
    gid: int
    volume: str | None = None
    definition: str | None = None
    inputs: str | None = None
    gateway: str | None = None
    shown: Sequence[str] = ()


def enter_namespaces(*, rootless: bool) -> None:
    """Leave the host's mount, network, IPC, UTS and pid namespaces; a plain user also enters a user namespace, ids unchanged.

    The pid namespace takes effect at the next fork: the child of this process is its pid 1.

    Raises:
        OSError: the machine forbids it; `probe` says how to allow it.
    """
    uid, gid = os.getuid(), os.getgid()
    flags = linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWPID
    linux.unshare(flags | (linux.CLONE_NEWUSER if rootless else 0))
    if not rootless:
        return
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def interpreter_directories() -> list[str]:
    """Where this Python and its packages live, but for what /usr already covers; no directory below another of the list."""
    wanted = {sys.prefix, sys.base_prefix, *sys.path}
    found = {os.path.realpath(path) for path in wanted if os.path.isabs(path) and os.path.isdir(path)}
    found |= {os.path.abspath(path) for path in wanted if os.path.isabs(path) and os.path.isdir(path)}
    kept: list[str] = []
    for path in sorted(found):
        if path == "/" or any(path == above or path.startswith(f"{above}/") for above in ("/usr", *kept)):
            continue
        kept.append(path)
    return kept


def build(tree: Tree, *, after_pivot: Callable[[], None] = lambda: None) -> None:
    """Build the tree on `tree.base` and make it the root of this mount namespace, the old root gone.

    `after_pivot` runs the moment host paths stop to exist.

    Raises:
        OSError: a mount was refused.
    """
    linux.mount(None, "/", flags=MS_REC | MS_PRIVATE)
    linux.mount("tmpfs", tree.base, filesystem="tmpfs", flags=MS_NOSUID | MS_NODEV, data=f"mode=0755,size={TMP_MIB}m")
    _bind_system(tree.base)
    _bind_more(tree.base, tree.shown)
    _make_identity(tree)
    _make_devices(tree.base)
    os.mkdir(f"{tree.base}/proc")
    # Read-only: DAC_OVERRIDE would open /proc/sysrq-trigger for writing.
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY
    linux.mount("proc", f"{tree.base}/proc", filesystem="proc", flags=flags)
    _bind_run(tree)
    os.chdir(tree.base)
    linux.pivot_root(".", ".")
    after_pivot()
    linux.umount(".", linux.MNT_DETACH)
    os.chdir("/")
    for path in ("/tmp", "/dev/shm"):  # noqa: S108 - the sandbox's own, made above
        linux.mount(path, path, flags=MS_BIND | MS_REC)
    linux.mount(None, "/", flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def _bind(source: str, target: str, attributes: int) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "ab"):
            pass
    _bind_onto(source, target, attributes)


def _bind_onto(source: str, target: str, attributes: int) -> None:
    linux.mount(source, target, flags=MS_BIND | MS_REC)
    linux.mount_setattr(target, attributes)


def _bind_system(base: str) -> None:
    for path in _SYSTEM_DIRECTORIES:
        if os.path.islink(path):
            os.symlink(os.readlink(path), base + path)
        elif os.path.isdir(path):
            _bind(path, base + path, _READ_ONLY)
    for path in interpreter_directories():
        _bind(path, base + path, _READ_ONLY)
    for path in _SYSTEM_FILES:
        if os.path.exists(path):
            _bind(os.path.realpath(path), base + path, _READ_ONLY)


def _bind_more(base: str, paths: Sequence[str]) -> None:
    seen = ("/usr", *interpreter_directories())
    for path in paths:
        if not any(path == above or path.startswith(f"{above}/") for above in seen) and os.path.exists(path):
            _bind(path, base + path, _READ_ONLY)


def _make_identity(tree: Tree) -> None:
    users = f"root:x:0:0:root:/tmp:/bin/sh\nengine:x:{tree.uid}:{tree.gid}:engine:/tmp:/bin/sh\n"
    files = {
        "passwd": users + "nobody:x:65534:65534:nobody:/:/bin/false\n",
        "group": f"root:x:0:\nengine:x:{tree.gid}:\n",
        "hosts": "127.0.0.1 localhost\n",
    }
    os.makedirs(f"{tree.base}/etc", exist_ok=True)
    for name, text in files.items():
        with open(f"{tree.base}/etc/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _make_devices(base: str) -> None:
    for name in _DEVICES:
        _bind(f"/dev/{name}", f"{base}/dev/{name}", MOUNT_ATTR_NOSUID)
    os.symlink("/proc/self/fd", f"{base}/dev/fd")
    for path in ("/dev/shm", "/tmp"):  # noqa: S108 - the sandbox's own
        os.makedirs(base + path, exist_ok=True)
        os.chmod(base + path, 0o1777)  # noqa: S103 - the same


def _bind_run(tree: Tree) -> None:
    _bind(tree.engine, tree.base + ENGINE, _READ_WRITE | MOUNT_ATTR_NOEXEC)
    if tree.gateway is not None:
        # Read-only: connecting works, removing the socket does not.
        _bind(tree.gateway, tree.base + GATEWAY, _READ_ONLY | MOUNT_ATTR_NOEXEC)
    if tree.volume is None:
        os.makedirs(tree.base + WORKFLOW)
    else:
        _bind(tree.volume, tree.base + WORKFLOW, _READ_WRITE)
    for source, name in ((tree.definition, "definition"), (tree.inputs, "inputs")):
        if source is not None:
            _bind_in_workflow(source, tree.base + WORKFLOW, name)


def _bind_in_workflow(source: str, workflow: str, name: str) -> None:
    """Bind over a directory of the volume, which a task of an earlier incarnation may have tried to make a link to somewhere else."""
    root = os.open(workflow, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=root)
        target = linux.openat2(root, name, flags=os.O_PATH | os.O_DIRECTORY, resolve=_BENEATH)
        _on_descriptor(target, lambda place: linux.mount(source, place, flags=MS_BIND | MS_REC))
        mounted = linux.openat2(root, name, flags=os.O_PATH | os.O_DIRECTORY, resolve=_BENEATH)
        _on_descriptor(mounted, lambda place: linux.mount_setattr(place, _READ_ONLY))
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise OSError(error.errno, f"{WORKFLOW}/{name} in the run's storage is no directory") from error
        raise
    finally:
        os.close(root)


def _on_descriptor(descriptor: int, act: Callable[[str], None]) -> None:
    try:
        act(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
