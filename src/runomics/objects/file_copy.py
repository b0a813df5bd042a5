"""Bytes between open files, by the quickest way the kernel has. Runs in the server, on transfer threads."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable

OnBytes = Callable[[int], None] | None
"""Told of every piece as it is through, in bytes. May raise to end the transfer."""

_CHUNK_BYTES = 1024**2
_COPY_BYTES = 64 * 1024**2
_FICLONE = 0x4004_9409


def md5(data: bytes) -> str:
    """Lower-case hex, as in an ETag."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def read_all(descriptor: int) -> bytes:
    """The whole of a small file, whatever its offset."""
    chunks = []
    offset = 0
    while chunk := os.pread(descriptor, _CHUNK_BYTES, offset):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """All of `data` from `offset` on."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def _clone(source: int, target: int) -> bool:
    """Share the blocks of `source` where the file system can (XFS, btrfs); whether it did."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def copy_hashing(source: int, target: int, size: int, on_bytes: OnBytes) -> str:
    """The first `size` bytes, which may be fewer by now; their sha256."""
    digest = hashlib.sha256()
    cloned = _clone(source, target)
    reading = target if cloned else source
    offset = 0
    while chunk := os.pread(reading, min(_CHUNK_BYTES, size - offset), offset):
        digest.update(chunk)
        if not cloned:
            write_all(target, chunk, offset)
        offset += len(chunk)
        if on_bytes is not None:
            on_bytes(len(chunk))
    return digest.hexdigest()


def copy(source: int, target: int, size: int, on_bytes: OnBytes) -> None:
    """The first `size` bytes by the quickest way there is: clone, copy in the kernel, or through it."""
    if _clone(source, target):
        if on_bytes is not None:
            on_bytes(size)
        return
    offset = 0
    in_kernel = True
    while offset < size:
        count = min(_COPY_BYTES, size - offset)
        try:
            if in_kernel:
                copied = os.copy_file_range(source, target, count, offset, offset)
            else:
                os.lseek(target, offset, os.SEEK_SET)
                copied = os.sendfile(target, source, offset, count)
        except OSError as error:
            if not in_kernel or error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            in_kernel = False
            continue
        if copied == 0:
            return
        offset += copied
        if on_bytes is not None:
            on_bytes(copied)
