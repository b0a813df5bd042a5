"""Bytes between open files, by the quickest way the kernel has. Runs in the server, on transfer threads.

Holes stay holes: a file of a run that says it has terabytes may take no more of the disk here than it does on the run's storage.
"""

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
    zeros = bytes(_CHUNK_BYTES)
    while chunk := os.pread(reading, min(_CHUNK_BYTES, size - offset), offset):
        digest.update(chunk)
        if not cloned and chunk != zeros[: len(chunk)]:
            write_all(target, chunk, offset)
        offset += len(chunk)
        if on_bytes is not None:
            on_bytes(len(chunk))
    if not cloned:
        os.ftruncate(target, offset)
    return digest.hexdigest()


def _next_data(source: int, offset: int, size: int) -> tuple[int, int]:
    """Where, from `offset` on, bytes that are not a hole begin and end; both `size` when there are none."""
    try:
        begin = os.lseek(source, offset, os.SEEK_DATA)
        if begin >= size:
            return size, size
        return begin, min(size, os.lseek(source, begin, os.SEEK_HOLE))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        if error.errno == errno.EINVAL:
            return offset, size
        raise


def copy(source: int, target: int, size: int, on_bytes: OnBytes) -> None:
    """The first `size` bytes by the quickest way there is: clone, copy in the kernel, or through it."""
    if _clone(source, target):
        if on_bytes is not None:
            on_bytes(size)
        return
    size = min(size, os.fstat(source).st_size)
    os.ftruncate(target, size)
    offset = hole = 0
    in_kernel = True
    while offset < size:
        if offset == hole:
            begin, hole = _next_data(source, offset, size)
            if on_bytes is not None and begin > offset:
                on_bytes(begin - offset)
            offset = begin
            continue
        count = min(_COPY_BYTES, hole - offset)
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
            # It became shorter meanwhile.
            os.ftruncate(target, offset)
            return
        offset += copied
        if on_bytes is not None:
            on_bytes(copied)
