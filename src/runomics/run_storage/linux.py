"""Owns the Linux calls that run storage needs and Python lacks: loop devices, the mount calls, XFS's and fanotify's; runs in the server.

Standard library only. Every function raises OSError with the call's errno and what it was done to. System call numbers are
those of the unified table (Linux 5.0 and later), the same on x86-64 and arm64.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_OCTAL = re.compile(rb"\\([0-7]{3})")
"""How mountinfo writes blanks and backslashes."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_OPENAT2 = 437

_AT_FDCWD = -100
_FSOPEN_CLOEXEC = 1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_FSMOUNT_CLOEXEC = 1
_MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV, _MOUNT_ATTR_NOATIME = 0x2, 0x4, 0x10
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MS_BIND, _MS_PRIVATE, _MS_SHARED = 1 << 12, 1 << 18, 1 << 20
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08

_LOOP_CONFIGURE, _LOOP_CTL_GET_FREE, _LOOP_CLR_FD = 0x4C0A, 0x4C82, 0x4C01
_LOOP_MAJOR = 7
_LO_FLAGS_AUTOCLEAR, _LO_FLAGS_DIRECT_IO = 4, 16
_LOOP_SECTOR_BYTES = 4096
_LOOP_TRIES = 200

_FITRIM = 0xC0185879
_XFS_IOC_SET_RESBLKS, _XFS_IOC_GET_RESBLKS, _XFS_IOC_GOINGDOWN = 0xC0105872, 0x80105873, 0x8004587D
_XFS_GOING_NOLOGFLUSH = 2

_FAN_CLOEXEC, _FAN_NONBLOCK, _FAN_REPORT_FID = 0x1, 0x2, 0x200
_FAN_MARK_ADD, _FAN_MARK_FILESYSTEM = 0x1, 0x100
FAN_CLOSE_WRITE, FAN_MOVED_TO, FAN_DELETE, FAN_Q_OVERFLOW = 0x8, 0x80, 0x200, 0x4000


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _syscall(what: str, number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *converted), what)


# ---- mounts ------------------------------------------------------------------------------------------------------


def mount_detached(device: str, filesystem: str, options: Mapping[str, str | None]) -> int:
    """A descriptor of a new mount (nosuid, nodev, noatime) that no path shows yet; closing it unmounts.

    It dies with the process that holds it, so a crash leaves nothing behind. Options with a None value are flags.
    """
    context = _syscall(f"fsopen {filesystem}", _SYS_FSOPEN, filesystem.encode(), _FSOPEN_CLOEXEC)
    what = f"mount {device} as {filesystem}"
    try:
        for name, value in {"source": device, **options}.items():
            kind = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
            text = None if value is None else value.encode()
            _syscall(what, _SYS_FSCONFIG, context, kind, name.encode(), text, 0)
        _syscall(what, _SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        attributes = _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV | _MOUNT_ATTR_NOATIME
        return _syscall(what, _SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}{_kernel_says(context)}") from None
    finally:
        os.close(context)


def _kernel_says(context: int) -> str:
    """What the kernel left in the mount context's log, empty when nothing."""
    try:
        return " (" + os.read(context, 1024).decode(errors="replace").strip() + ")"
    except OSError:
        return ""


def place_mount(mount: int, path: Path) -> None:
    """Show the detached `mount` at the directory `path`."""
    _syscall(f"move_mount {path}", _SYS_MOVE_MOUNT, mount, b"", _AT_FDCWD, os.fsencode(path), _MOVE_MOUNT_F_EMPTY_PATH)


def detach(path: Path) -> None:
    """Take the mount at `path` away from every path at once; it ends when its last user lets go."""
    _checked(_libc.umount2(os.fsencode(path), ctypes.c_int(_MNT_DETACH | _UMOUNT_NOFOLLOW)), f"umount {path}")


def prepare_shared_mount(path: Path) -> None:
    """Make the directory `path` a mount of its own that shares with its copies in other namespaces. Idempotent.

    Without it a foreign mount namespace that copied a volume's mount would pin loop device and space after the unmount.
    The peer group is its own, not that of the file system around it: volumes must not appear a second time beneath.
    """
    shared = {point: is_shared for point, is_shared, _ in mounts()}.get(os.path.realpath(path))
    if shared:
        return
    name = os.fsencode(path)
    if shared is None:
        _checked(_libc.mount(name, name, None, ctypes.c_ulong(_MS_BIND), None), f"bind {path}")
    _checked(_libc.mount(None, name, None, ctypes.c_ulong(_MS_PRIVATE), None), f"make private {path}")
    _checked(_libc.mount(None, name, None, ctypes.c_ulong(_MS_SHARED), None), f"make shared {path}")


def release_shared_mount(path: Path) -> bool:
    """Undo `prepare_shared_mount`, so that the directory can be moved or removed; False while volumes are mounted below it."""
    if os.path.realpath(path) not in {point for point, _, _ in mounts()}:
        return True
    return int(_libc.umount2(os.fsencode(path), ctypes.c_int(_UMOUNT_NOFOLLOW))) == 0


def mounts() -> Iterator[tuple[str, bool, tuple[int, int]]]:
    """Mount point, whether it is shared, and device (major, minor) of every mount of this namespace, in order of mounting."""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields = line.split(b" ")
        major, minor = fields[2].split(b":")
        point = os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), fields[4]))
        is_shared = any(tag.startswith(b"shared:") for tag in fields[6 : fields.index(b"-")])
        yield point, is_shared, (int(major), int(minor))


# ---- loop devices ------------------------------------------------------------------------------------------------


@contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """A loop device over `image` while the block lasts, and after it for as long as something has it mounted."""
    descriptor = -1
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        device, descriptor = _configure_loop(backing, image)
        yield device
    finally:
        os.close(backing)
        if descriptor >= 0:
            os.close(descriptor)


def _configure_loop(backing: int, image: Path) -> tuple[str, int]:
    """Bind a free loop device to the file; direct I/O where the host's file system can, through its page cache where not."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    flags = _LO_FLAGS_AUTOCLEAR | _LO_FLAGS_DIRECT_IO
    try:
        for _ in range(_LOOP_TRIES):
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            descriptor = _open_loop(device)
            try:
                fcntl.ioctl(descriptor, _LOOP_CONFIGURE, _loop_config(backing, flags))
                return device, descriptor
            except OSError as error:
                os.close(descriptor)
                if error.errno == errno.EINVAL and flags & _LO_FLAGS_DIRECT_IO:
                    flags &= ~_LO_FLAGS_DIRECT_IO
                elif error.errno != errno.EBUSY:
                    raise OSError(error.errno, f"LOOP_CONFIGURE {device} for {image}: {error.strerror}") from None
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, f"no loop device for {image}: every free one was taken {_LOOP_TRIES} times")


def _loop_config(backing: int, flags: int) -> bytes:
    info = bytearray(232)
    struct.pack_into("<I", info, 52, flags)
    return struct.pack("<II", backing, _LOOP_SECTOR_BYTES) + bytes(info) + bytes(64)


def _open_loop(device: str) -> int:
    """Open the device, making its node first where /dev is not kept by the kernel (containers)."""
    try:
        return os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        number = int(device.removeprefix("/dev/loop"))
        os.mknod(device, stat.S_IFBLK | 0o600, os.makedev(_LOOP_MAJOR, number))
        return os.open(device, os.O_RDWR | os.O_CLOEXEC)


def backing_file(device: tuple[int, int]) -> str | None:
    """The file behind a loop device (major, minor); None for any other device. A removed file ends in ' (deleted)'."""
    try:
        return Path(f"/sys/dev/block/{device[0]}:{device[1]}/loop/backing_file").read_text().rstrip("\n")
    except OSError:
        return None


# ---- file systems ------------------------------------------------------------------------------------------------


def syncfs(descriptor: int) -> None:
    """Write everything of the file system to its device; raises what any write since the last call met."""
    _checked(_libc.syncfs(ctypes.c_int(descriptor)), "syncfs")


def trim(descriptor: int) -> int:
    """FITRIM of the whole file system: free space is given back to the device. The bytes trimmed."""
    span = bytearray(struct.pack("<QQQ", 0, (1 << 64) - 1, 0))
    fcntl.ioctl(descriptor, _FITRIM, span, True)
    return int(struct.unpack("<QQQ", span)[1])


def reserved_blocks(descriptor: int) -> int:
    """How many blocks an XFS holds back from every writer."""
    answer = bytearray(16)
    fcntl.ioctl(descriptor, _XFS_IOC_GET_RESBLKS, answer, True)
    return int(struct.unpack("<QQ", answer)[0])


def reserve_blocks(descriptor: int, blocks: int) -> None:
    """Let an XFS hold back `blocks` from every writer, root too. Lasts until it is unmounted; needs CAP_SYS_ADMIN."""
    fcntl.ioctl(descriptor, _XFS_IOC_SET_RESBLKS, bytearray(struct.pack("<QQ", blocks, 0)), True)


def shut_down(descriptor: int) -> None:
    """End an XFS without writing anything more: what is unwritten is dropped, every later write fails with EIO."""
    fcntl.ioctl(descriptor, _XFS_IOC_GOINGDOWN, struct.pack("<I", _XFS_GOING_NOLOGFLUSH))


def open_beneath(root: int, path: str) -> int:
    """The directory `path` below the directory `root`, opened without following any link. Paths of any depth."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    how = struct.pack("<QQQ", flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
    buffer = ctypes.create_string_buffer(how, len(how))
    at, opened = root, -1
    for part in _short_parts(path):
        try:
            step = _syscall(f"openat2 {part[-200:]}", _SYS_OPENAT2, at, os.fsencode(part), buffer, len(how))
        finally:
            if opened >= 0:
                os.close(opened)
        at = opened = step
    return opened


def _short_parts(path: str, most: int = 3000) -> Iterator[str]:
    """`path` cut at slashes into pieces the kernel takes (PATH_MAX)."""
    while len(os.fsencode(path)) > most:
        cut = path.rindex("/", 0, most // 4)
        yield path[:cut]
        path = path[cut + 1 :]
    yield path


# ---- fanotify ----------------------------------------------------------------------------------------------------


def open_watch() -> int:
    """A non-blocking descriptor that becomes readable when a watched file system has news."""
    flags = ctypes.c_uint(_FAN_CLOEXEC | _FAN_NONBLOCK | _FAN_REPORT_FID)
    return _checked(_libc.fanotify_init(flags, ctypes.c_uint(os.O_RDONLY)), "fanotify_init")


def watch_filesystem(watch: int, directory: int) -> None:
    """Report every close of a written file, rename and delete in the file system of the open `directory`."""
    mask = FAN_CLOSE_WRITE | FAN_MOVED_TO | FAN_DELETE
    result = _libc.fanotify_mark(
        ctypes.c_int(watch),
        ctypes.c_uint(_FAN_MARK_ADD | _FAN_MARK_FILESYSTEM),
        ctypes.c_uint64(mask),
        ctypes.c_int(directory),
        None,
    )
    _checked(result, "fanotify_mark")
