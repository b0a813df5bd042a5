"""The mount namespace that a task's container is started from. Made ready by the task launcher, entered by supervisors for a moment.

bubblewrap reads the whole mount table for each of a dozen binds (27 microseconds a mount and task), and the host has a mount for each
live run. So the launcher keeps a second namespace, the host's without the volumes and without /sys, and a supervisor attaches its
own run's volume to a private copy of it. Every path names there what it names on the host.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from . import linux
from .linux import CLONE_NEWNS, MS_PRIVATE, MS_REC, MS_SLAVE
from .spec import Spec

OWN = "/proc/self/ns/mnt"
NEVER_SEEN_BY_TASKS = "/sys"
"""A dozen mounts on most hosts."""


class Namespaces(NamedTuple):
    """Descriptors: where we live, and the namespace with few mounts."""

    host: int
    few: int


def make_ready(runs: str) -> Namespaces | None:
    """The two namespaces; `runs` is the directory in which volumes are mounted. None for a plain user, whose runs have no mounts."""
    host = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.unshare(CLONE_NEWNS)
    except PermissionError:
        os.close(host)
        return None
    try:
        # What the host mounts and unmounts from now on shall be seen here as well, but for the volumes.
        linux.mount(None, "/", None, MS_REC | MS_SLAVE, None)
        _without_volumes(runs)
        with contextlib.suppress(OSError):
            linux.unmount(NEVER_SEEN_BY_TASKS)
        return Namespaces(host, os.open(OWN, os.O_RDONLY | os.O_CLOEXEC))
    finally:
        linux.set_namespace(host, CLONE_NEWNS)


def _without_volumes(runs: str) -> None:
    """Put a copy of the mount at `runs` (if it is one) in its place: one that hears of no volume and has none."""
    with contextlib.suppress(FileNotFoundError):
        tree = linux.open_tree(runs, flags=0)
        with contextlib.suppress(OSError):
            linux.unmount(runs)
            linux.move_mount(tree, runs)
            linux.mount(None, runs, None, MS_PRIVATE, None)
        os.close(tree)


@contextlib.contextmanager
def entered(namespaces: Namespaces | None, spec: Spec) -> Iterator[None]:
    """Be where the task's container starts, while it is started.

    With an image that is a namespace of our own, for the image's root is mounted in it; a plain user needs a user namespace for
    that, from which there is no way back.
    """
    if namespaces is not None:
        with _private_copy(namespaces, spec.volume):
            yield
    elif spec.rootfs is None and spec.local_tmp is None:
        yield
    elif spec.rootless:
        linux.become_root_of_new_user_namespace()
        if not spec.user:  # for another user than root bwrap needs one more, in which it forbids further ones
            with open("/proc/sys/user/max_user_namespaces", "w") as file:
                file.write("0")
        linux.unshare(CLONE_NEWNS)
        linux.mount(None, "/", None, MS_REC | MS_SLAVE, None)
        yield
    else:
        host = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        linux.unshare(CLONE_NEWNS)
        try:
            linux.mount(None, "/", None, MS_REC | MS_SLAVE, None)
            yield
        finally:
            linux.set_namespace(host, CLONE_NEWNS)
            os.close(host)


@contextlib.contextmanager
def _private_copy(namespaces: Namespaces, volume: str) -> Iterator[None]:
    tree = linux.open_tree(volume)
    try:
        linux.set_namespace(namespaces.few, CLONE_NEWNS)
        try:
            linux.unshare(CLONE_NEWNS)
            linux.move_mount(tree, volume)
            yield
        finally:
            linux.set_namespace(namespaces.host, CLONE_NEWNS)
    finally:
        os.close(tree)
