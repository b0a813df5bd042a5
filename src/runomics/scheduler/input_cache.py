"""The cache of inputs by content, DATA/cache/<2 hex>/<sha256>: filled once, linked into runs. Runs in the server, on transfer threads.

A file gets its name only when it is whole and on the disk, and is never written again. `cache/index` remembers which content
an object had, by URI and ETag: a small file that may be lost or wrong without harm, since what it points to is checked. What
one server was still fetching when it died lies in `cache/partial` and goes when the next one starts.

A file whose only name is the one in the cache belongs to no run; when the cache is over its limit those go, the one that
was linked or let go longest ago first. The kernel keeps that time: adding or removing a name moves an inode's ctime.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from runomics.ports import ObjectInfo, ObjectStore

log = structlog.get_logger()

_MODE = 0o444

OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file of the cache: lower-case hex sha256 of its content, and its size."""

    sha256: str
    size_bytes: int


class GivenUp(Exception):
    """The one that was fetching no longer wants the object. Whoever waits for it and still does asks again."""


Waiter = Callable[[CachedFile | BaseException], None]


class InputCache:
    """One per server. `max_bytes` 0: nothing is ever evicted."""

    def __init__(self, root: Path, objects: ObjectStore, *, max_bytes: int = 0) -> None:
        self._root = root
        self._objects = objects
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], list[Waiter]] = {}
        self._total_bytes: int | None = None
        self._evicting = threading.Lock()
        for name in ("index", "partial"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for leftover in (root / "partial").iterdir():
            leftover.unlink()

    # ---- getting -------------------------------------------------------------------------------------------------

    def fetch(
        self, info: ObjectInfo, on_ready: Waiter, on_bytes: OnBytes, *, objects: ObjectStore | None = None
    ) -> None:
        """Have the object in the cache and call `on_ready` with its file, or with the error.

        Fetched on this thread, unless another is at it: then this returns at once and that thread calls `on_ready`. So no
        object is fetched twice at a time, and no thread waits for another. `on_bytes` hears of what this thread fetches;
        it may raise GivenUp, which all that wait are told. `info` was got from `objects` (by default those of the cache) just now:
        whoever may not read an object never comes so far, whether or not the cache has it.
        """
        known = self.find(info)
        if known is not None:
            on_ready(known)
            return
        key = (info.uri, info.etag)
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.append(on_ready)
                return
            self._waiting[key] = []
        result: CachedFile | BaseException
        try:
            result = self._download(info, on_bytes, objects or self._objects)
        except BaseException as error:
            result = error
        with self._lock:
            waiting = self._waiting.pop(key)
        for waiter in (on_ready, *waiting):
            waiter(result)

    def find(self, info: ObjectInfo) -> CachedFile | None:
        """The file that has the object's content, if the cache has it."""
        index = self._index_path(info)
        try:
            entry = json.loads(index.read_bytes())
            found = CachedFile(entry["sha256"], entry["size"])
            same = (entry["uri"], entry["etag"], entry["size"]) == (info.uri, info.etag, info.size_bytes)
            if same and os.stat(self.path(found)).st_size == found.size_bytes:
                return found
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return None

    def path(self, file: CachedFile) -> Path:
        """Where the file lies, for reading. It may be evicted unless a run has a link to it."""
        return self._root / file.sha256[:2] / file.sha256

    def _download(self, info: ObjectInfo, on_bytes: OnBytes, objects: ObjectStore) -> CachedFile:
        known = self.find(info)
        if known is not None:
            return known
        room = os.statvfs(self._root)
        if info.size_bytes > room.f_bavail * room.f_frsize:
            raise OSError(errno.ENOSPC, f"no space for the {info.size_bytes} bytes of {info.uri} in {self._root}")
        partial = self._root / "partial" / uuid.uuid4().hex
        try:
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                sha256 = objects.download(info, descriptor, on_bytes)
                size = os.fstat(descriptor).st_size
                if size != info.size_bytes:
                    raise OSError(errno.EIO, f"{info.uri}: {size} bytes arrived instead of {info.size_bytes}")
                os.fchmod(descriptor, _MODE)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            file = CachedFile(sha256, info.size_bytes)
            self._keep(partial, file)
        finally:
            with suppress(FileNotFoundError):
                partial.unlink()
        self._remember(info, file)
        self._evict_if_over()
        return file

    def _keep(self, partial: Path, file: CachedFile) -> None:
        """Give the finished file its name, unless another object with this content was here first."""
        path = self.path(file)
        path.parent.mkdir(exist_ok=True)
        try:
            os.link(partial, path)
        except FileExistsError:
            if path.stat().st_size == file.size_bytes:
                return
            os.rename(partial, path)  # a file cut short by a power cut
        with self._lock:
            if self._total_bytes is not None:
                self._total_bytes += file.size_bytes

    def _index_path(self, info: ObjectInfo) -> Path:
        name = hashlib.sha256(f"{info.uri}\0{info.etag}".encode()).hexdigest()
        return self._root / "index" / name[:2] / name

    def _remember(self, info: ObjectInfo, file: CachedFile) -> None:
        index = self._index_path(info)
        index.parent.mkdir(exist_ok=True)
        entry = {"uri": info.uri, "etag": info.etag, "sha256": file.sha256, "size": file.size_bytes}
        partial = self._root / "partial" / uuid.uuid4().hex
        partial.write_bytes(json.dumps(entry).encode())
        os.rename(partial, index)

    # ---- placing -------------------------------------------------------------------------------------------------

    def place(self, file: CachedFile, target: Path) -> None:
        """Make `target` a name of the cached file, atomically, whatever was there; a copy where links cannot reach.

        Its folders are made by the caller.

        Raises:
            FileNotFoundError: the file was evicted, or the target's folder is gone. Other OSErrors.
        """
        source = self.path(file)
        try:
            os.link(source, target)
            return
        except FileExistsError:
            have, there = os.stat(source), os.lstat(target)
            if (have.st_dev, have.st_ino) == (there.st_dev, there.st_ino):
                return
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                raise
        fresh = target.parent / f".{uuid.uuid4().hex}"
        try:
            try:
                os.link(source, fresh)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                    raise
                shutil.copyfile(source, fresh)
                os.chmod(fresh, _MODE)
                os.utime(source)  # used just now, though no link tells
            os.rename(fresh, target)
        finally:
            with suppress(FileNotFoundError):
                fresh.unlink()

    # ---- evicting ------------------------------------------------------------------------------------------------

    def _evict_if_over(self) -> None:
        if not self._max_bytes or not self._evicting.acquire(blocking=False):
            return
        try:
            with self._lock:
                total = self._total_bytes
            if total is None:
                total = sum(status.st_size for _, status in self._files())
                with self._lock:
                    self._total_bytes = total
            if total > self._max_bytes:
                self._evict(total)
        finally:
            self._evicting.release()

    def _evict(self, total: int) -> None:
        """Down to nine tenths of the limit, so that a full cache is not walked for every file that comes."""
        goal = self._max_bytes * 9 // 10
        idle = [(status.st_ctime_ns, path, status.st_size) for path, status in self._files() if status.st_nlink == 1]
        gone = 0
        for _, path, size in sorted(idle):
            if total - gone <= goal:
                break
            if os.stat(path).st_nlink != 1:
                continue
            path.unlink()  # a run that was about to link it fetches it again
            gone += size
        with self._lock:
            self._total_bytes = total - gone
        log.info("input_cache.evicted", bytes=gone, total_bytes=total - gone, max_bytes=self._max_bytes)
        self._forget_evicted()

    def _forget_evicted(self) -> None:
        for index in (self._root / "index").glob("??/*"):
            try:
                entry = json.loads(index.read_bytes())
                stale = not self.path(CachedFile(entry["sha256"], entry["size"])).exists()
            except (ValueError, KeyError, TypeError):
                stale = True
            except FileNotFoundError:
                continue
            if stale:
                index.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder in self._root.glob("??"):
            with os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        yield Path(entry.path), entry.stat(follow_symlinks=False)
