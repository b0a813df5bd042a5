"""The delivery of a run's outputs: resolve every source inside the run, store it, write logs/outputs.json. Runs in the server.

Sources are named by an engine and lie where tasks wrote, so each is opened by `open_export` alone, which never leaves the run's
own files. `exported.jsonl` in the run's directory has a line for every object stored: when the export is begun again, what the
store still has as it was left is not stored twice.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from runomics.domain import failures
from runomics.domain.inputs import split_s3
from runomics.ports import ObjectForbidden, ObjectInfo, ObjectMissing, ObjectStore, ObjectsUnreachable
from runomics.scheduler.input_cache import GivenUp
from runomics.scheduler.transfer_lanes import Batch
from runomics.scheduler.transfer_work import Check, Failure, Work, export_failure

OpenExport = Callable[[Path, Path, str], int]
"""(volume, inputs, path under /mnt/workflow) → a descriptor open for reading. Raises OSError when it does not resolve inside."""

_LOG = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_MESSAGES = 100


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What to deliver. `exports` and `outputs` as in engine/result.json; `outputs` None: no logs/outputs.json (Nextflow).

    `engine_log`: a file outside the volume that becomes logs/engine.log.
    """

    run_directory: Path
    run_output_uri: str
    exports: Sequence[Mapping[str, Any]] = ()
    outputs: Mapping[str, Any] | None = None
    engine_log: Path | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """`uris`: target → URI (a directory's ends in a slash). `outputs`: the document with URIs in it. `bytes`: in all objects.

    `messages` tell what was left out: pipes, devices, sockets, links that lead nowhere.
    """

    uris: Mapping[str, str] = field(default_factory=dict)
    failure: Failure | None = None
    bytes: int = 0
    messages: Sequence[str] = ()
    outputs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """A file to store: where it is for the run, where it goes."""

    path: str
    uri: str
    size_bytes: int


class OutputDelivery:
    """One export of one run."""

    def __init__(
        self,
        work: Work[Exported],
        objects: ObjectStore,
        open_export: OpenExport,
        *,
        job: ExportJob,
        check: Check | None,
    ) -> None:
        self._work = work
        self._objects = objects
        self._open_export = open_export
        self._job = job
        self._check = check
        self._base = job.run_output_uri.rstrip("/")
        self._uris: dict[str, str] = {}
        self._messages: list[str] = []
        self._stored = Stored(job.run_directory / "exported.jsonl")

    def begin(self) -> None:
        """Queue the work. Its end is the end of `work`."""
        self._work.lanes.submit(self._work.run_directory, self._plan)

    # ---- planning ------------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Find every file first: an output that cannot be had fails the export before anything is stored."""
        batch = Batch(self._work.lanes, self._work.run_directory, self._finish)
        try:
            failure = (self._check() if self._check is not None else None) or self._work.patiently(self._no_bucket)
            if failure is not None:
                self._work.fail(-1, failure)
            else:
                self._stored.load()
                self._queue(batch)
        except Exception as error:
            self._work.fail(-1, ("SERVICE_ERROR", f"The export of outputs could not begin: {error}."))
        batch.release()

    def _queue(self, batch: Batch) -> None:
        sources: list[tuple[int, _Source]] = []
        for place, export in enumerate(self._job.exports):
            sources += [(place, source) for source in self._resolve(place, export)]
        if self._work.is_over():
            return
        with self._work.lock:
            self._work.meter.export_total_bytes += sum(source.size_bytes for _, source in sources)
        for place, source in sources:
            batch.add(partial(self._store, place, source))

    def _no_bucket(self) -> Failure | None:
        try:
            bucket, _ = split_s3(self._base)
            exists = self._objects.bucket_exists(bucket)
        except (ValueError, ObjectForbidden) as error:
            return "EXPORT_FAILED", f"Outputs cannot be stored below {self._base}: {error}."
        if exists:
            return None
        missing = failures.of_missing_output_bucket(bucket)
        return missing.reason, missing.message

    def _resolve(self, place: int, export: Mapping[str, Any]) -> Iterator[_Source]:
        """The files that one export stands for."""
        source, target = str(export.get("source", "")), str(export.get("target", ""))
        if any(segment in ("", ".", "..") for segment in target.split("/")):
            self._work.fail(place, ("EXPORT_FAILED", f"Output {source} has the impossible target {target!r}."))
            return
        uri = f"{self._base}/{target}"
        try:
            descriptor = self._open(source)
            try:
                status = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            self._work.fail(
                place, ("EXPORT_FAILED", f"Output {source} cannot be read inside the run's storage: {_why(error)}.")
            )
            return
        if stat.S_ISDIR(status.st_mode):
            self._uris[target] = f"{uri}/"
            yield from self._walk(source, uri)
        else:
            self._uris[target] = uri
            yield _Source(source, uri, status.st_size)

    def _open(self, path: str) -> int:
        """A regular file or a directory."""
        directory = self._job.run_directory
        descriptor = self._open_export(directory / "volume", directory / "inputs", path)
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
            return descriptor
        os.close(descriptor)
        raise OSError(f"{path} is neither a file nor a directory")

    def _walk(self, source: str, uri: str) -> Iterator[_Source]:
        """All files below a directory, links followed inside the run, each directory once on any way down."""
        ahead: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(source, uri, frozenset())]
        while ahead:
            path, base, above = ahead.pop()
            try:
                descriptor = self._open(path)
            except OSError as error:
                self._leave_out(path, _why(error))
                continue
            try:
                status = os.fstat(descriptor)
                if stat.S_ISREG(status.st_mode):
                    yield _Source(path, base, status.st_size)
                    continue
                identity = (status.st_dev, status.st_ino)
                if identity in above:
                    self._leave_out(path, "it leads back to a directory above it")
                    continue
                with os.scandir(descriptor) as entries:
                    for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
                        if entry.is_file(follow_symlinks=False):
                            size = entry.stat(follow_symlinks=False).st_size
                            yield _Source(f"{path}/{entry.name}", f"{base}/{_as_key(entry.name)}", size)
                        elif entry.is_dir(follow_symlinks=False) or entry.is_symlink():
                            ahead.append((f"{path}/{entry.name}", f"{base}/{_as_key(entry.name)}", above | {identity}))
                        else:
                            self._leave_out(f"{path}/{entry.name}", "it is a pipe, a socket or a device")
            finally:
                os.close(descriptor)

    def _leave_out(self, path: str, why: str) -> None:
        if len(self._messages) < _MOST_MESSAGES:
            self._messages.append(f"Not exported: {_as_key(path)}: {why}.")

    # ---- storing -------------------------------------------------------------------------------------------------

    def _store(self, place: int, source: _Source) -> None:
        if self._work.is_over():
            return
        try:
            descriptor = self._open(source.path)
        except OSError as error:
            self._work.fail(place, ("EXPORT_FAILED", f"Output {source.path} cannot be read: {_why(error)}."))
            return
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{source.path} is no file any more")
            if self._has(source.uri, status):
                self._count(status.st_size)
                return
            info = self._work.patiently(partial(self._upload, descriptor, source.uri))
            self._stored.add(info, status)
        except GivenUp:
            return
        except Exception as error:
            self._work.fail(place, export_failure(source.path, source.uri, error))
        finally:
            os.close(descriptor)

    def _upload(self, descriptor: int, uri: str) -> ObjectInfo:
        counted = 0

        def count(size: int) -> None:
            nonlocal counted
            self._work.keep_on()
            counted += size
            self._count(size)

        try:
            return self._objects.upload(descriptor, uri, count)
        except ObjectsUnreachable:
            self._count(-counted)
            raise

    def _has(self, uri: str, status: os.stat_result) -> bool:
        """Whether the store has the object as an earlier, interrupted export left it."""
        known = self._stored.get(uri, status)
        if known is None:
            return False
        try:
            return self._work.patiently(partial(self._objects.head, uri)) == known
        except ObjectMissing:
            return False

    def _count(self, count: int) -> None:
        with self._work.lock:
            self._work.meter.exported_bytes += count

    # ---- ending --------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        outputs: dict[str, Any] | None = None
        try:
            if self._job.outputs is not None and not self._work.is_over():
                outputs = _with_uris(self._job.outputs, self._base, self._uris)
                text = orjson.dumps(outputs, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
                document = f"{self._base}/logs/outputs.json"
                self._work.patiently(partial(self._objects.upload_bytes, text, document))
            if self._job.engine_log is not None and not self._work.is_over():
                engine_log, uri = self._job.engine_log, f"{self._base}/logs/engine.log"
                self._work.patiently(partial(upload_log, self._objects, engine_log, uri))
        except Exception as error:
            self._work.fail(len(self._job.exports), export_failure("logs", f"{self._base}/logs/", error))
        failure = self._work.failure()
        self._work.end(
            Exported(
                uris=self._uris if failure is None else {},
                failure=failure,
                bytes=self._work.meter.exported_bytes,
                messages=tuple(self._messages),
                outputs=outputs if failure is None else None,
            )
        )


class Stored:
    """exported.jsonl: what an export has stored so far. A line cut short by a crash counts for nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[list[int], ObjectInfo]] = {}

    def load(self) -> None:
        """Read what earlier exports of the run have left."""
        if not self._path.exists():
            return
        for line in self._path.read_bytes().splitlines():
            try:
                entry = orjson.loads(line)
                info = ObjectInfo(entry["uri"], entry["size"], entry["etag"])
                self._known[info.uri] = (entry["source"], info)
            except (ValueError, KeyError, TypeError):
                continue

    def get(self, uri: str, status: os.stat_result) -> ObjectInfo | None:
        """What was stored as `uri`, if it was the file with this status."""
        known = self._known.get(uri)
        if known is None or known[0] != _identity(status):
            return None
        return known[1]

    def add(self, info: ObjectInfo, status: os.stat_result) -> None:
        """One more object. A line begins with a line feed too: the one before it may have been cut short."""
        entry = {"uri": info.uri, "size": info.size_bytes, "etag": info.etag, "source": _identity(status)}
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"\n" + orjson.dumps(entry) + b"\n")
        finally:
            os.close(descriptor)


def upload_log(objects: ObjectStore, log_file: Path, uri: str) -> int:
    """Store a log of ours; its size in bytes.

    Raises:
        OSError: it is no regular file. Everything of ObjectStore.upload.
    """
    descriptor = os.open(log_file, _LOG)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{log_file} is not a regular file")
        return objects.upload(descriptor, uri).size_bytes
    finally:
        os.close(descriptor)


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOENT:
        return "it does not exist"
    return getattr(error, "strerror", None) or str(error)


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def _as_key(name: str) -> str:
    """A file name as text: bytes that are no UTF-8 as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _with_uris(value: Any, base: str, uris: Mapping[str, str]) -> Any:
    """The output document with a URI in place of every {"__export__": target}."""
    if isinstance(value, Mapping):
        if set(value) == {"__export__"}:
            target = str(value["__export__"])
            return uris.get(target, f"{base}/{target}")
        return {str(key): _with_uris(item, base, uris) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_uris(item, base, uris) for item in value]
    return value
