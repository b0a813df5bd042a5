"""A run's volume as the supervisor touches it: every path that a task or engine named is opened beneath it, and no link is followed.

Tasks write the whole volume, as root, while this code runs: nothing here trusts what it saw a moment ago.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

from . import linux

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_ENTRIES_REMOVED = 20_000_000


class Refused(Exception):
    """What lies at a path is not what may lie there. The message names the path."""


def open_volume(path: str) -> int:
    """A descriptor of the volume's root. `path` is the server's, out of reach of tasks."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_output(volume: int, path: str) -> int:
    """The emptied regular file `path` (relative to the volume), made when missing, for appending and reading back.

    Raises:
        Refused: a link, or something that is no regular file, lies there.
        OSError: as open(2); ENOENT when its directory is missing.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = linux.open_beneath(volume, path, flags)
    except OSError as error:
        raise Refused(
            f"{path}: cannot be opened inside the run's volume without following a link ({error.strerror})"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused(f"{path}: is not a regular file")
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
    return descriptor


def make_directories(volume: int, path: str) -> int:
    """A descriptor of the directory `path` beneath the volume; the missing ones are made with mode 0700.

    Raises:
        Refused: a component is a link or no directory.
    """
    current = os.dup(volume)
    for name in path.split("/"):
        try:
            below = open_or_make(current, name, 0o700)
        finally:
            os.close(current)
        current = below
    return current


def open_or_make(directory: int, name: str, mode: int) -> int:
    """A descriptor of the directory `name` in the open `directory`, made when missing."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=directory)
    try:
        return linux.open_beneath(directory, name, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Refused(f"{name}: is no directory of the run's volume ({error.strerror})") from error


def make_scratch(volume: int, path: str, names: dict[str, int]) -> dict[str, int]:
    """Make `path` anew beneath the volume with one empty directory for each of `names` (name → mode); name → descriptor.

    Raises:
        Refused: a link lies on the way, or something is there that cannot be removed.
    """
    parent_path, _, own = path.rpartition("/")
    parent = make_directories(volume, parent_path) if parent_path else os.dup(volume)
    try:
        remove_tree(parent, own)
        scratch = open_or_make(parent, own, 0o700)
    finally:
        os.close(parent)
    opened = {}
    try:
        for name, mode in names.items():
            descriptor = open_or_make(scratch, name, 0o700)
            os.fchmod(descriptor, mode)
            opened[name] = descriptor
    finally:
        os.close(scratch)
    return opened


def remove_scratch(volume: int, path: str) -> None:
    """Remove the tree `path` beneath the volume; harmless when it is not there.

    Raises:
        OSError: something of it could not be removed, or a link lies on the way to it.
    """
    parent_path, _, own = path.rpartition("/")
    try:
        parent = linux.open_beneath(volume, parent_path or ".", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        remove_tree(parent, own)
    finally:
        os.close(parent)


def remove_tree(parent: int, name: str) -> None:
    """Remove `name` in the open directory `parent`, whatever it is, following nothing.

    Directories below it are moved up to its top one by one and emptied there, so that any depth takes two descriptors and
    no recursion.

    Raises:
        OSError: something could not be removed, or entries kept appearing.
    """
    if _remove_empty(parent, name) or _unlink(parent, name):
        return
    try:
        top = _open_writable(parent, name)
    except FileNotFoundError:
        return
    hoisted = removed = 0
    fresh = f".removed-{os.urandom(8).hex()}-"
    try:
        directories = _empty(top)
        while directories:
            removed += len(directories)
            if removed > MAX_ENTRIES_REMOVED:
                raise OSError(f"{name}: entries keep appearing while it is removed")
            for directory in directories:
                if _remove_empty(top, directory) or _unlink(top, directory):
                    continue
                below = _open_writable(top, directory)
                try:
                    for inner in _empty(below):
                        _rename_up(below, inner, top, fresh + str(hoisted))
                        hoisted += 1
                finally:
                    os.close(below)
                os.rmdir(directory, dir_fd=top)
            directories = _empty(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _empty(directory: int) -> list[str]:
    """Unlink everything in the open `directory` but its directories; the names of those."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
    return [name for name, is_directory in found if is_directory]


def _rename_up(directory: int, name: str, top: int, target: str) -> None:
    try:
        os.rename(name, target, src_dir_fd=directory, dst_dir_fd=top)
    except PermissionError:
        os.close(_open_writable(directory, name))
        os.rename(name, target, src_dir_fd=directory, dst_dir_fd=top)


def _remove_empty(directory: int, name: str) -> bool:
    """Whether `name` was an empty directory or nothing; it is gone then."""
    try:
        os.rmdir(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _unlink(directory: int, name: str) -> bool:
    """Whether `name` was something else than a directory; it is gone then."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return False
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def _open_writable(directory: int, name: str) -> int:
    """A descriptor of the directory `name`; its owner's rights are put back when they are missing (overlay's work/work has none)."""
    path_only = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if os.fstat(path_only).st_mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{path_only}", 0o700)
        return os.open(".", DIRECTORY, dir_fd=path_only)
    finally:
        os.close(path_only)
