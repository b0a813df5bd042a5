"""The Linux calls that Python lacks, through ctypes. Used by the task launcher and the supervisor."""

from __future__ import annotations

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

OPEN_TREE, MOVE_MOUNT, OPENAT2 = 428, 429, 437
OPEN_TREE_CLONE, AT_RECURSIVE, MOVE_MOUNT_F_EMPTY_PATH = 0x1, 0x8000, 0x4
AT_FDCWD = -100
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x02, 0x04, 0x08, 0x10

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_NOSUID, MS_NODEV = 0x2, 0x4
MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 0x1000, 0x4000, 1 << 18, 1 << 19
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def open_beneath(directory: int, path: str, flags: int, mode: int = 0o644) -> int:
    """A descriptor (close-on-exec) of `path` below the open `directory`: no links, no magic links, no way up.

    Raises:
        OSError: ELOOP for a link on the way, EXDEV for a path that leaves the directory, and what open(2) says.
    """
    return _openat2(directory, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)


def open_in_root(directory: int, path: str, flags: int) -> int:
    """A descriptor (close-on-exec) of `path` where the open `directory` is the root: links lead where they would for who lives in it."""
    return _openat2(directory, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def _openat2(directory: int, path: str, flags: int, mode: int, resolve: int) -> int:
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode if flags & os.O_CREAT else 0, resolve)
    result = _libc.syscall(
        ctypes.c_long(OPENAT2), ctypes.c_int(directory), os.fsencode(path), how, ctypes.c_size_t(len(how))
    )
    return _checked(result, path)


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero), f"prctl {option}")


def become_subreaper() -> None:
    """Orphans among our descendants become our children, so that we can wait for them."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> None:
    """The process's name in ps and top, at most 15 bytes."""
    _libc.prctl(ctypes.c_int(PR_SET_NAME), os.fsencode(name)[:15] + b"\0")


def unshare(flags: int) -> None:
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def set_namespace(descriptor: int, kind: int) -> None:
    """Enter the namespace that `descriptor` names; `kind` is its CLONE_NEW flag. A mount namespace also sets root and working directory."""
    _checked(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def open_tree(path: str, flags: int = AT_RECURSIVE) -> int:
    """A descriptor (close-on-exec) of a copy of the mounts at and below `path`, in no namespace; closing it lets go of them."""
    call = (ctypes.c_long(OPEN_TREE), ctypes.c_int(AT_FDCWD), os.fsencode(path))
    result = _libc.syscall(*call, ctypes.c_uint(OPEN_TREE_CLONE | os.O_CLOEXEC | flags))
    return _checked(result, path)


def move_mount(tree: int, target: str) -> None:
    """Attach the tree of `open_tree` at `target`."""
    call = (ctypes.c_long(MOVE_MOUNT), ctypes.c_int(tree), b"", ctypes.c_int(AT_FDCWD), os.fsencode(target))
    _checked(_libc.syscall(*call, ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH)), target)


def unmount(target: str) -> None:
    """Take the mount at `target`, and all below it, from sight; it ends when nobody uses it."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(MNT_DETACH | UMOUNT_NOFOLLOW)), target)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
    """mount(2). Raises: OSError with the target as its file name."""

    def text(value: str | None) -> bytes | None:
        return None if value is None else os.fsencode(value)

    result = _libc.mount(text(source), os.fsencode(target), text(kind), ctypes.c_ulong(flags), text(data))
    _checked(result, target)


def become_root_of_new_user_namespace() -> None:
    """Enter a user namespace in which we, and only we, are uid 0 and gid 0."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open("/proc/self/" + name, "w") as file:
            file.write(text)
