"""The Linux calls that Python 3.11 lacks, one thin function each, through libc. Runs in every process that builds or enters a sandbox.

Every function raises OSError with the call's name and arguments when the kernel refuses.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

MACHINE = os.uname().machine
"""x86_64 or aarch64: what the numbers below depend on."""

CLONE_THREAD = 0x0001_0000
CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_NOEXEC = 8

PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_CAPABILITY_VERSION_3 = 0x2008_0522
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SIOCSIFFLAGS = 0x8914
_IFF_UP_RUNNING = 0x1 | 0x40

_NUMBERS = {
    "x86_64": {"pivot_root": 155, "keyctl": 250, "close_range": 436, "openat2": 437, "mount_setattr": 442},
    "aarch64": {"pivot_root": 41, "keyctl": 219, "close_range": 436, "openat2": 437, "mount_setattr": 442},
}


def _syscall(name: str, *arguments: Any) -> int:
    numbers = _NUMBERS.get(MACHINE)
    if numbers is None:
        raise OSError(errno.ENOSYS, f"{name}: no system call numbers for a {MACHINE} machine")
    return _checked(int(_libc.syscall(ctypes.c_long(numbers[name]), *arguments)), name)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _path(text: str | os.PathLike[str] | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def unshare(flags: int) -> None:
    """Leave the shared namespaces named by the CLONE_NEW… `flags`."""
    _checked(_libc.unshare(ctypes.c_int(flags)), f"unshare {flags:#x}")


def mount(source: str | None, target: str, *, filesystem: str | None = None, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        _path(source), _path(target), _path(filesystem), ctypes.c_ulong(flags), data.encode() if data else None
    )
    _checked(result, f"mount {source or filesystem} on {target}")


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _checked(_libc.umount2(_path(target), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _syscall("pivot_root", _path(new_root), _path(put_old))


def mount_setattr(path: str, set_attributes: int) -> None:
    """Add MOUNT_ATTR_… to the mount at `path` and to every mount below it (kernel 5.12)."""
    attributes = struct.pack("QQQQ", set_attributes, 0, 0, 0)
    _syscall(
        "mount_setattr",
        ctypes.c_int(_AT_FDCWD),
        _path(path),
        ctypes.c_uint(_AT_RECURSIVE),
        ctypes.c_char_p(attributes),
        ctypes.c_size_t(len(attributes)),
    )


def openat2(directory: int, path: str, *, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2): a new descriptor, closed on exec."""
    how = struct.pack("QQQ", (flags | os.O_CLOEXEC) & 0xFFFF_FFFF_FFFF_FFFF, mode, resolve)
    return _syscall("openat2", ctypes.c_int(directory), _path(path), ctypes.c_char_p(how), ctypes.c_size_t(len(how)))


def close_from(first: int) -> None:
    """Close every descriptor from `first` on."""
    _syscall("close_range", ctypes.c_uint(first), ctypes.c_uint(0xFFFF_FFFF), ctypes.c_uint(0))


def trim_heap() -> None:
    """Give freed memory back to the kernel, where the C library can (glibc)."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def prctl(option: int, value: int) -> None:
    """prctl(2) for the options with one number."""
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero), f"prctl {option}")


def set_process_name(name: str) -> None:
    """What `ps` shows; cut to 15 bytes."""
    text = ctypes.create_string_buffer(name.encode()[:15])
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(ctypes.c_int(PR_SET_NAME), text, zero, zero, zero), "prctl PR_SET_NAME")


def set_capabilities(mask: int) -> None:
    """Make the capability bits of `mask` permitted and effective, nothing inheritable (so no ambient ones either)."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFF_FFFF, mask >> 32
    data = struct.pack("6I", low, low, 0, high, high, 0)
    _checked(_libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(data)), f"capset {mask:#x}")


def new_session_keyring() -> None:
    """Leave the keyring inherited from the service."""
    _syscall("keyctl", ctypes.c_int(_KEYCTL_JOIN_SESSION_KEYRING), None, ctypes.c_int(0), ctypes.c_int(0))


def set_host_name(name: str) -> None:
    """sethostname(2), of this UTS namespace."""
    encoded = name.encode()
    _checked(_libc.sethostname(encoded, ctypes.c_size_t(len(encoded))), "sethostname")


def loopback_up() -> None:
    """Switch on `lo` of this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as interface:
        fcntl.ioctl(interface, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP_RUNNING))


def install_seccomp(program: bytes) -> None:
    """Put the compiled classic BPF `program` (8 bytes an instruction) on this process for ever. Needs no_new_privs."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    value = Program(len(program) // 8, program)
    zero = ctypes.c_ulong(0)
    result = _libc.prctl(
        ctypes.c_int(PR_SET_SECCOMP), ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(value), zero, zero
    )
    _checked(result, "prctl PR_SET_SECCOMP")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells a process from every other, on this boot and later: pid, start time (field 22 of stat), boot id."""

    pid: int
    start_time: int
    boot_id: str


def boot_id() -> str:
    """The kernel's name for the time since it started."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat in clock ticks; None when there is no such process or only its zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def own_identity() -> Identity:
    """This process as the /proc that is mounted here numbers it: before a sandbox mounts its own, that is the host."""
    pid = int(os.readlink("/proc/self"))
    started = start_time(pid)
    if started is None:
        raise OSError(errno.ESRCH, f"/proc/{pid}/stat cannot be read")
    return Identity(pid=pid, start_time=started, boot_id=boot_id())
