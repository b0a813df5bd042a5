"""Tells when files arrive in watched directories by rename(2): inotify, through ctypes. Used by the local runner's thread."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator

IN_MOVED_TO, IN_IGNORED, IN_Q_OVERFLOW = 0x80, 0x8000, 0x4000
HEADER = struct.Struct("iIII")
READ_BYTES = 65536

_libc = ctypes.CDLL(None, use_errno=True)


class FileArrivals:
    """Watches many directories with one descriptor; nothing is lost silently."""

    def __init__(self) -> None:
        """Raises: OSError when the user has too many inotify instances (fs.inotify.max_user_instances)."""
        self.descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify_init1: {os.strerror(number)}")
        self._directories: dict[int, str] = {}

    def watch(self, directory: str) -> int | None:
        """A handle for `forget`; None when the directory is gone or the user has no watch left (fs.inotify.max_user_watches)."""
        handle: int = _libc.inotify_add_watch(self.descriptor, os.fsencode(directory), ctypes.c_uint32(IN_MOVED_TO))
        if handle < 0:
            return None
        self._directories[handle] = directory
        return handle

    def forget(self, handle: int) -> None:
        """Stop watching."""
        self._directories.pop(handle, None)
        _libc.inotify_rm_watch(self.descriptor, handle)

    def arrived(self) -> Iterator[tuple[str, str]]:
        """(directory, file name) of what arrived since the last call; a name of '' says that some were dropped: look yourself."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data = os.read(self.descriptor, READ_BYTES)
                offset = 0
                while offset < len(data):
                    handle, mask, _, length = HEADER.unpack_from(data, offset)
                    name = data[offset + HEADER.size : offset + HEADER.size + length].rstrip(b"\0")
                    offset += HEADER.size + length
                    if mask & IN_Q_OVERFLOW:
                        for directory in list(self._directories.values()):
                            yield directory, ""
                    elif mask & IN_MOVED_TO and handle in self._directories:
                        yield self._directories[handle], os.fsdecode(name)

    def close(self) -> None:
        os.close(self.descriptor)
