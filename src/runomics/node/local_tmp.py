"""A task's own file system for /tmp, of the size it asked for: a sparse file with ext4 on a loop device. Made and held by the supervisor.

It is mounted where only the container's mount namespace sees it, and the loop device frees itself, so it is gone with the container and
the supervisor, however they end; the file is removed with the attempt.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct

from . import linux

LOOP_CONFIGURE, LOOP_CTL_GET_FREE, LOOP_MAJOR = 0x4C0A, 0x4C82, 7
LO_FLAGS_AUTOCLEAR, FLAGS_OFFSET, INFO_BYTES, SECTOR_BYTES = 4, 52, 232, 4096
TRIES = 100
MAKERS = ("/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4")
FEATURES = (
    "-q",
    "-F",
    "-b",
    "4096",
    "-m",
    "0",
    "-O",
    "^has_journal,^resize_inode",
    "-E",
    "lazy_itable_init=1,nodiscard",
)
"""No journal: nothing of it outlives a crash. What is not used takes no room: 260 KB of 16 GiB."""


def mount(image: str, size_bytes: int, target: str) -> int:
    """Make the file system in `image` and mount it at `target`, in the mount namespace we are in; a descriptor of its top, mode 1777.

    Raises:
        OSError: no loop device, no mkfs.ext4, or no room. The message says which.
    """
    os.makedirs(os.path.dirname(image), mode=0o700, exist_ok=True)
    os.makedirs(target, mode=0o700, exist_ok=True)
    backing = os.open(image, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    device = -1
    try:
        os.ftruncate(backing, size_bytes)
        _make_file_system(image)
        name, device = _attach(backing)
        linux.mount(name, target, "ext4", linux.MS_NOSUID | linux.MS_NODEV, "noinit_itable")
    finally:
        os.close(backing)
        if device >= 0:
            os.close(device)
    top = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir("lost+found", dir_fd=top)
    os.fchmod(top, 0o1777)
    return top


def used_bytes(top: int) -> int:
    """What the file system of the open directory `top` holds."""
    status = os.fstatvfs(top)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def _make_file_system(image: str) -> None:
    maker = next((path for path in MAKERS if os.path.exists(path)), None)
    if maker is None:
        raise OSError(errno.ENOENT, "a /tmp of its own takes mkfs.ext4, which is not installed (Debian: e2fsprogs)")
    pid = os.posix_spawn(maker, [maker, *FEATURES, image], {"PATH": "/usr/sbin:/sbin"}, setsigmask=())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(errno.EIO, f"mkfs.ext4 of {image} ended with {code}; see runtime.log")


def _attach(backing: int) -> tuple[str, int]:
    """A loop device on the open file, and a descriptor that keeps it until it is mounted."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    info = bytearray(INFO_BYTES)
    struct.pack_into("<I", info, FLAGS_OFFSET, LO_FLAGS_AUTOCLEAR)
    configuration = struct.pack("<II", backing, SECTOR_BYTES) + bytes(info) + bytes(64)
    try:
        for _ in range(TRIES):
            number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
            device = _open_device(number)
            try:
                fcntl.ioctl(device, LOOP_CONFIGURE, configuration)
                return f"/dev/loop{number}", device
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device is free for a task's own /tmp")


def _open_device(number: int) -> int:
    name = f"/dev/loop{number}"
    if not os.path.exists(name):
        with contextlib.suppress(FileExistsError):
            os.mknod(name, stat.S_IFBLK | 0o600, os.makedev(LOOP_MAJOR, number))
    return os.open(name, os.O_RDWR | os.O_CLOEXEC)
