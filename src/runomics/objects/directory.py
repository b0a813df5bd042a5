"""The folder store: a bucket is a folder, an object a regular file below it. Runs in the server, on transfer threads.

A bucket must exist; its own name may be a link that the operator made, but nothing below it is reached through a link: every
segment of a key is opened from its parent's descriptor with O_NOFOLLOW.

ETags: up to 8 MiB the MD5 of the content, as S3 has it; above (where S3 clients upload in parts, so that theirs is no MD5
either) 32 hex digits of the file's identity (inode, size, mtime, ctime) and a number of parts. The second costs nothing to
read, whatever the size, and changes with every write; it also changes when someone changes the file's mode, owner or links.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runomics.domain.inputs import split_s3
from runomics.objects.file_copy import OnBytes, copy, copy_hashing, md5, read_all, write_all
from runomics.ports import ObjectChanged, ObjectForbidden, ObjectInfo, ObjectMissing

HASHED_BYTES = 8 * 1024**2
"""Up to here the ETag is the MD5 of the content. The default part size of S3 clients."""

SIDE = ".runomics"
"""The hidden folder of a bucket that holds uploads until they are whole. Never listed, no key may begin with it."""

_KNOWN_HASHES = 65_536
_SETTLED_NS = 2_000_000_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class DirectoryObjects:
    """ports.ObjectStore over `root`, whose folders are the buckets."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._hashes: OrderedDict[tuple[int, ...], str] = OrderedDict()
        self._lock = threading.Lock()
        self._swept: set[str] = set()

    # ---- buckets -------------------------------------------------------------------------------------------------

    def bucket_exists(self, bucket: str) -> bool:
        """Whether there is a folder of that name."""
        return not bucket.startswith(".") and "/" not in bucket and (self._root / bucket).is_dir()

    def make_bucket(self, bucket: str) -> None:
        """Make the folder unless it is there.

        Raises:
            ValueError: no valid bucket name.
        """
        if split_s3(f"s3://{bucket}/")[0] != bucket:
            raise ValueError(f"{bucket!r} is no valid bucket name")
        (self._root / bucket).mkdir(parents=True, exist_ok=True)

    # ---- looking -------------------------------------------------------------------------------------------------

    def head(self, uri: str) -> ObjectInfo:
        """Size and ETag. Raises: ObjectMissing, ObjectForbidden."""
        with self._opened(uri) as descriptor:
            return ObjectInfo(uri, os.fstat(descriptor).st_size, self._etag(descriptor))

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with the prefix, in byte order of the keys. Links and special files are no objects.

        Raises:
            ObjectMissing: no such bucket. ObjectForbidden.
        """
        bucket, prefix = split_s3(prefix_uri)
        folder, _, start = prefix.rpartition("/")
        segments = folder.split("/") if folder else []
        odd = any(segment in ("", ".", "..") for segment in segments) or SIDE in segments[:1]
        with self._bucket(bucket, prefix_uri) as bucket_descriptor:
            if odd:
                return
            try:
                descriptor = _descend(bucket_descriptor, segments)
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                    return
                raise _refused(prefix_uri, error) from error
        yield from self._walk(descriptor, f"s3://{bucket}/{folder}/" if folder else f"s3://{bucket}/", start)

    def _walk(self, descriptor: int, base: str, start: str) -> Iterator[ObjectInfo]:
        """Takes over the descriptor of a folder. Folders sort as `name/`, which gives the order of whole keys."""
        try:
            entries: list[tuple[bytes, str, bool]] = []
            with os.scandir(descriptor) as found:
                for entry in found:
                    name = entry.name
                    if not name.startswith(start) or name == SIDE or not _is_unicode(name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        entries.append((os.fsencode(name) + b"/", name, True))
                    elif entry.is_file(follow_symlinks=False):
                        entries.append((os.fsencode(name), name, False))
            for _, name, is_folder in sorted(entries):
                try:
                    if is_folder:
                        child = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                    else:
                        child = os.open(name, _FILE, dir_fd=descriptor)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise _refused(base + name, error) from error
                if is_folder:
                    yield from self._walk(child, f"{base}{name}/", "")
                    continue
                try:
                    info = ObjectInfo(base + name, os.fstat(child).st_size, self._etag(child))
                finally:
                    os.close(child)
                yield info
        finally:
            os.close(descriptor)

    def _etag(self, descriptor: int) -> str:
        """Of an open regular file. Hashes are kept for files that have been left alone for a while."""
        status = os.fstat(descriptor)
        identity = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if status.st_size > HASHED_BYTES:
            parts = -(-status.st_size // HASHED_BYTES)
            return f"{md5(repr(identity).encode())}-{parts}"
        key = (status.st_dev, *identity)
        with self._lock:
            known = self._hashes.get(key)
            if known is not None:
                self._hashes.move_to_end(key)
                return known
        etag = md5(read_all(descriptor))
        if os.stat(descriptor).st_ctime_ns == status.st_ctime_ns and _age_ns(status) > _SETTLED_NS:
            self._remember(key, etag)
        return etag

    def _remember(self, key: tuple[int, ...], etag: str) -> None:
        with self._lock:
            self._hashes[key] = etag
            while len(self._hashes) > _KNOWN_HASHES:
                self._hashes.popitem(last=False)

    # ---- reading -------------------------------------------------------------------------------------------------

    def download(self, info: ObjectInfo, descriptor: int, on_bytes: OnBytes = None) -> str:
        """Copy the object to the open file `descriptor`; its sha256. A clone where the file system can.

        Raises:
            ObjectChanged: the file is not, or while it was read no longer, the one `info` tells of. ObjectMissing, ObjectForbidden.
        """
        with self._opened(info.uri) as source:
            before = os.fstat(source)
            if before.st_size > HASHED_BYTES:
                if self._etag(source) != info.etag:
                    raise ObjectChanged(f"{info.uri} is no longer the object with ETag {info.etag}")
                sha256 = copy_hashing(source, descriptor, before.st_size, on_bytes)
                if _moved(before, os.fstat(source)):
                    raise ObjectChanged(f"{info.uri} was written to while it was read")
                return sha256
            data = read_all(source)
        if md5(data) != info.etag:
            raise ObjectChanged(f"{info.uri} is no longer the object with ETag {info.etag}")
        write_all(descriptor, data, 0)
        if on_bytes is not None:
            on_bytes(len(data))
        return hashlib.sha256(data).hexdigest()

    def read_bytes(self, uri: str, limit_bytes: int) -> bytes:
        """The content. Raises: ObjectMissing, ObjectForbidden; ValueError when larger than the limit."""
        with self._opened(uri) as descriptor:
            size = os.fstat(descriptor).st_size
            if size > limit_bytes:
                raise ValueError(f"{uri} has {size} bytes, more than the {limit_bytes} allowed here")
            return read_all(descriptor)

    # ---- writing -------------------------------------------------------------------------------------------------

    def upload(self, descriptor: int, uri: str, on_bytes: OnBytes = None) -> ObjectInfo:
        """Store the whole open regular file as `uri`: beside it first, synced, then renamed over it.

        Raises:
            ObjectMissing: no such bucket.
            ObjectForbidden: the key cannot be a file (an empty segment, `..`, a folder or a file in its way), or the folder
                cannot be written.
            OSError: no space, or the source cannot be read.
        """
        size = os.fstat(descriptor).st_size
        if size <= HASHED_BYTES:
            data = read_all(descriptor)
            if on_bytes is not None:
                on_bytes(len(data))
            return self.upload_bytes(data, uri)
        with self._placing(uri, size) as target:
            copy(descriptor, target, size, on_bytes)
            if os.fstat(target).st_size != size:
                raise OSError(errno.EIO, f"{uri}: {os.fstat(target).st_size} bytes arrived instead of {size}")
        return self.head(uri)

    def upload_bytes(self, data: bytes, uri: str) -> ObjectInfo:
        """Store `data` as `uri`. Raises: as `upload`."""
        with self._placing(uri, len(data)) as target:
            write_all(target, data, 0)
        if len(data) > HASHED_BYTES:
            return self.head(uri)
        return ObjectInfo(uri, len(data), md5(data))

    @contextmanager
    def _placing(self, uri: str, size_bytes: int) -> Iterator[int]:
        """A fresh file that becomes `uri` when the block ends well, and vanishes when it does not."""
        bucket, key = split_s3(uri)
        segments = _segments(uri, key)
        with self._bucket(bucket, uri) as root:
            side = self._side(root, bucket)
            try:
                room = os.fstatvfs(side)
                if size_bytes > room.f_bavail * room.f_frsize:
                    raise OSError(errno.ENOSPC, f"no space for the {size_bytes} bytes of {uri}")
                name, target = _fresh(side)
                try:
                    yield target
                    os.fdatasync(target)
                    _settle(uri, name, side=side, root=root, segments=segments)
                except BaseException:
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=side)
                    raise
                finally:
                    os.close(target)
            finally:
                os.close(side)

    def _side(self, root: int, bucket: str) -> int:
        """The bucket's folder for unfinished uploads; what dead uploaders left there goes on first use."""
        with suppress(FileExistsError):
            os.mkdir(SIDE, 0o700, dir_fd=root)
        side = os.open(SIDE, _DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
        with self._lock:
            if bucket in self._swept:
                return side
            self._swept.add(bucket)
        for name in os.listdir(side):
            with suppress(OSError):
                leftover = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=side)
                try:
                    fcntl.flock(leftover, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=side)
                finally:
                    os.close(leftover)
        return side

    # ---- opening -------------------------------------------------------------------------------------------------

    @contextmanager
    def _bucket(self, bucket: str, uri: str) -> Iterator[int]:
        if bucket.startswith("."):
            raise ObjectMissing(f"no bucket {bucket} ({uri})")
        try:
            descriptor = os.open(self._root / bucket, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectMissing(f"no bucket {bucket} ({uri}): there is no folder {self._root / bucket}") from None
        except OSError as error:
            raise _refused(uri, error) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _opened(self, uri: str) -> Iterator[int]:
        bucket, key = split_s3(uri)
        segments = _segments(uri, key)
        with self._bucket(bucket, uri) as root:
            try:
                parent = _descend(root, segments[:-1])
            except OSError as error:
                raise _unreadable(uri, error) from error
            try:
                descriptor = os.open(segments[-1], _FILE, dir_fd=parent)
            except OSError as error:
                raise _unreadable(uri, error) from error
            finally:
                os.close(parent)
        try:
            kind = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(kind):
                raise ObjectMissing(f"no object {uri}: it is a folder (a trailing slash names everything below it)")
            if not stat.S_ISREG(kind):
                raise ObjectForbidden(f"{uri} is not a regular file")
            yield descriptor
        finally:
            os.close(descriptor)


def _fresh(side: int) -> tuple[str, int]:
    """A new file for an upload, locked for as long as it is open: that tells it from what a dead uploader left."""
    while True:
        name = uuid.uuid4().hex
        target = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=side)
        try:
            fcntl.flock(target, fcntl.LOCK_EX)
            if os.fstat(target).st_nlink == 1:
                return name, target
        except BaseException:
            os.close(target)
            raise
        os.close(target)  # swept between its making and its locking


def _settle(uri: str, name: str, *, side: int, root: int, segments: list[str]) -> None:
    """Rename the finished upload to its key, making the folders on the way."""
    try:
        parent = _descend(root, segments[:-1], make=True)
        try:
            os.rename(name, segments[-1], src_dir_fd=side, dst_dir_fd=parent)
            os.fsync(parent)
        finally:
            os.close(parent)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
            raise ObjectForbidden(
                f"{uri} cannot be stored in a folder: the key of another object is a part of it, or it of another's."
                " Use an S3 service for such keys."
            ) from error
        if error.errno == errno.EXDEV:
            raise ObjectForbidden(
                f"{uri}: another file system is mounted inside the bucket; make it a bucket of its own"
            ) from error
        raise _refused(uri, error) from error


def _descend(root: int, segments: list[str], *, make: bool = False) -> int:
    """A new descriptor of the folder `segments` below `root`; no link is followed."""
    descriptor = os.open(".", _DIRECTORY, dir_fd=root)
    for segment in segments:
        try:
            try:
                child = os.open(segment, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            except FileNotFoundError:
                if not make:
                    raise
                with suppress(FileExistsError):
                    os.mkdir(segment, 0o755, dir_fd=descriptor)
                child = os.open(segment, _DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = child
    return descriptor


def _segments(uri: str, key: str) -> list[str]:
    segments = key.split("/")
    if any(segment in ("", ".", "..") for segment in segments) or segments[0] == SIDE:
        raise ObjectForbidden(
            f"{uri} cannot be a file of a folder: its key has an empty segment, `.`, `..`, a trailing slash or begins with {SIDE}."
            " Use an S3 service for such keys."
        )
    if any(len(os.fsencode(segment)) > 255 for segment in segments):
        raise ObjectForbidden(f"{uri} cannot be a file of a folder: a segment of its key is longer than 255 bytes")
    return segments


def _unreadable(uri: str, error: OSError) -> Exception:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ObjectMissing(f"no object {uri}")
    if error.errno == errno.ELOOP:
        return ObjectForbidden(
            f"{uri} leads through a link, which the folder store does not follow; copy the file or bind mount the folder"
        )
    return _refused(uri, error)


def _refused(uri: str, error: OSError) -> Exception:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP):
        return ObjectForbidden(f"{uri}: {os.strerror(error.errno)}")
    return error


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _age_ns(status: os.stat_result) -> int:
    return time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns)


def _moved(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
