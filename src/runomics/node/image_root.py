"""The writable root of a task with an image: an overlay whose upper layer lies on the run's volume. Made by the supervisor (mount_view).

The image and the volume are other people's: nothing here, and nothing that bwrap does afterwards, may follow one of their links
out of the root. So layers are named by descriptor, and every place that bwrap mounts upon exists, as no link, before it starts.
"""

from __future__ import annotations

import os
import stat

from . import linux, volume
from .spec import Spec

PLACES = ("proc", "dev", "tmp", "mnt/workflow")
UPPER, WORK = "upper", "work"


def mount(spec: Spec, target: str) -> None:
    """Mount the image's root at `target`, in a mount namespace of our own.

    Raises:
        OSError: the kernel refuses; volume.Refused: a link lies where a layer should.
    """
    if spec.rootfs is None:
        raise ValueError("an image's root was asked for, but spec.json names no rootfs")
    # An overlay takes only layers of its own mount namespace: all are opened again, here. As descriptors, the text of its options is
    # short enough for any number of layers that an image can have.
    lowers = [os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for layer in spec.rootfs]
    root = volume.open_volume(spec.volume)
    upper, work = (
        linux.open_beneath(root, f"{spec.scratch}/{name}", os.O_PATH | os.O_DIRECTORY) for name in (UPPER, WORK)
    )
    lower = ":".join(f"/proc/self/fd/{descriptor}" for descriptor in lowers)
    layers = f"lowerdir={lower},upperdir=/proc/self/fd/{upper},workdir=/proc/self/fd/{work}"
    linux.mount("overlay", target, "overlay", 0, layers + (",userxattr" if spec.rootless else ""))
    for descriptor in (*lowers, root, upper, work):
        os.close(descriptor)
    _prepare(target, spec)


def has_program(target: str, path: str) -> bool:
    """Whether the mounted image has the file `path`, links followed as the task would."""
    root = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(linux.open_in_root(root, path, os.O_PATH))
    except OSError:
        return False
    finally:
        os.close(root)
    return True


def _prepare(target: str, spec: Spec) -> None:
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for place in PLACES:
        os.close(_directory(root, place))
    files = ["hosts", "resolv.conf"] if spec.network else ["hosts"]
    etc = _directory(root, "etc")
    for name in files:
        _file(etc, name)
    os.close(etc)
    os.close(root)


def _directory(root: int, path: str) -> int:
    """A descriptor of the directory `path` in the root; a link or a file on the way makes room for a directory."""
    current = os.dup(root)
    for name in path.split("/"):
        status = _status(current, name)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=current)
        below = volume.open_or_make(current, name, 0o755)
        os.close(current)
        current = below
    return current


def _file(directory: int, name: str) -> None:
    status = _status(directory, name)
    if status is not None and stat.S_ISREG(status.st_mode):
        return
    if status is not None:
        os.unlink(name, dir_fd=directory)
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=directory))


def _status(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
