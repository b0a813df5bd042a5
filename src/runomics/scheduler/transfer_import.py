"""The staging of a run's inputs: look at every object, fetch what the cache lacks, link it into the run. Runs in the server.

An object lies at inputs/s3/<bucket>/<key>. Where that cannot be (an object `a` beside one `a/b`), the later of them lies at
inputs/s3.<8 hex>/<bucket>/<key>: what counts is the staged path that is told. Running it again costs one look at each
object; a crash leaves nothing but links that are right.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from runomics.domain.inputs import INPUTS_ROOT, InputUri, split_s3, staged_path
from runomics.ports import ObjectChanged, ObjectForbidden, ObjectInfo, ObjectMissing, ObjectStore, ObjectsUnreachable
from runomics.scheduler.input_cache import CachedFile, GivenUp, InputCache
from runomics.scheduler.transfer_lanes import Batch
from runomics.scheduler.transfer_work import Absence, Check, Failure, Work, import_failure

log = structlog.get_logger()

_IN_THE_WAY = (NotADirectoryError, IsADirectoryError, FileExistsError)


@dataclass(frozen=True, slots=True)
class Imported:
    """`staged`: URI → path under /mnt/workflow/inputs. `digests`: URI → `etag:…`. `failure`: failureReason and text."""

    staged: Mapping[str, str]
    digests: Mapping[str, str]
    failure: Failure | None = None


@dataclass(slots=True)
class _Wanted:
    """One URI: where it goes (relative to the inputs directory) and the objects it is."""

    place: int
    uri: InputUri
    root: str
    infos: list[ObjectInfo] = field(default_factory=list)


class InputStaging:
    """One import of one run. `expected` holds digests that must still be true, by URI."""

    def __init__(
        self,
        work: Work[Imported],
        objects: ObjectStore,
        cache: InputCache,
        *,
        uris: Sequence[InputUri],
        expected: Mapping[str, str],
        check: Check | None,
    ) -> None:
        self._work = work
        self._objects = objects
        self._cache = cache
        self._inputs = work.run_directory / "inputs"
        self._expected = expected
        self._check = check
        self._wanted = [_Wanted(place, uri, staged_path(uri.bucket, uri.key)) for place, uri in enumerate(uris)]

    def begin(self) -> None:
        """Queue the work. Its end is the end of `work`."""
        self._work.lanes.submit(self._work.run_directory, self._look)

    # ---- looking -------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        batch = Batch(self._work.lanes, self._work.run_directory, self._fetch)
        try:
            failure = None if self._check is None else self._work.patiently(self._check)
            if failure is not None:
                self._work.fail(-1, failure)
            self._inputs.mkdir(exist_ok=True)
        except Exception as error:
            self._work.fail(-1, ("SERVICE_ERROR", f"The import of inputs could not begin: {error}."))
        if not self._work.is_over():
            for wanted in self._wanted:
                batch.add(partial(self._look_at, wanted))
        batch.release()

    def _look_at(self, wanted: _Wanted) -> None:
        if self._work.is_over():
            return
        uri = wanted.uri
        try:
            wanted.infos = self._work.patiently(partial(self._find, uri))
            expected = self._expected.get(uri.uri)
            if expected is not None and expected != _digest(wanted):
                raise ObjectChanged(f"it had {expected}, now it has {_digest(wanted)}")
            if uri.is_prefix:
                self._make_folder(wanted)
        except (ObjectMissing, ObjectForbidden) as error:
            if uri.declared:
                self._work.fail(wanted.place, import_failure(uri.uri, error))
        except Exception as error:
            self._work.fail(wanted.place, import_failure(uri.uri, error))

    def _find(self, uri: InputUri) -> list[ObjectInfo]:
        if not uri.is_prefix:
            return [self._objects.head(uri.uri)]
        prefix = uri.uri if uri.uri.endswith("/") else f"{uri.uri}/"
        infos = [info for info in self._objects.list(prefix) if not info.uri.endswith("/")]
        if not infos:
            raise ObjectMissing(f"no object has the prefix {prefix}")
        return infos

    def _make_folder(self, wanted: _Wanted) -> None:
        """Before any object is placed: then an object of the same name is the one that moves aside."""
        try:
            (self._inputs / wanted.root).mkdir(parents=True, exist_ok=True)
        except _IN_THE_WAY:
            wanted.root = _aside(wanted)
            (self._inputs / wanted.root).mkdir(parents=True, exist_ok=True)

    # ---- fetching ------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        batch = Batch(self._work.lanes, self._work.run_directory, self._end)
        if not self._work.is_over():
            with self._work.lock:
                self._work.meter.import_total_bytes += sum(
                    info.size_bytes for wanted in self._wanted for info in wanted.infos
                )
            for wanted in self._wanted:
                for info in wanted.infos:
                    batch.add(partial(self._fetch_one, wanted, info, batch))
        batch.release()

    def _fetch_one(self, wanted: _Wanted, info: ObjectInfo, batch: Batch, absence: Absence | None = None) -> None:
        """`absence`: what is known of a store that could not be reached; then this waits a while first."""
        if self._work.is_over() or (absence is not None and not self._work.pause(absence.pause_seconds)):
            return
        batch.hold()
        counted = 0

        def count(size: int) -> None:
            nonlocal counted
            self._work.keep_on()
            counted += size
            self._count(size)

        def ready(result: CachedFile | BaseException) -> None:
            """On this thread, or on that of another run which fetches the same object."""
            try:
                if isinstance(result, GivenUp):
                    if not self._work.is_over():
                        batch.add(partial(self._fetch_one, wanted, info, batch))
                elif isinstance(result, ObjectsUnreachable) and (more := (absence or self._work.absence()).longer()):
                    log.warning("transfer.store_unreachable", error=str(result))
                    self._count(-counted)
                    batch.add(partial(self._fetch_one, wanted, info, batch, more))
                elif isinstance(result, BaseException):
                    self._work.fail(wanted.place, import_failure(info.uri, result))
                else:
                    self._place(wanted, info, result)
                    self._count(info.size_bytes - counted)
            except FileNotFoundError:
                self._again(wanted, info, batch)
            except Exception as error:
                self._work.fail(wanted.place, import_failure(info.uri, error))
            finally:
                batch.release()

        self._cache.fetch(info, ready, count, objects=self._objects)

    def _again(self, wanted: _Wanted, info: ObjectInfo, batch: Batch) -> None:
        """The file was evicted between finding and linking it, or the run's directory is gone."""
        if not self._inputs.is_dir():
            self._work.fail(wanted.place, ("SERVICE_ERROR", f"The directory {self._inputs} is gone."))
        else:
            batch.add(partial(self._fetch_one, wanted, info, batch))

    def _count(self, count: int) -> None:
        with self._work.lock:
            self._work.meter.imported_bytes += count

    def _place(self, wanted: _Wanted, info: ObjectInfo, file: CachedFile) -> None:
        """Link the file into the run. Under the work's lock: once the run is given up nothing is added to it."""
        with self._work.lock:
            if self._work.is_over():
                return
            if wanted.uri.is_prefix:
                bucket, key = split_s3(info.uri)
                below = staged_path(bucket, key).removeprefix(staged_path(bucket, wanted.uri.key)).lstrip("/")
                try:
                    self._link(file, f"{wanted.root}/{below}")
                except _IN_THE_WAY:
                    self._work.fail(
                        wanted.place,
                        (
                            "IMPORT_FAILED",
                            f"Input {wanted.uri.uri} cannot be a directory: the key of one object in it is a part of {info.uri},"
                            " or that of another's. Give them different prefixes.",
                        ),
                    )
                return
            try:
                self._link(file, wanted.root)
            except _IN_THE_WAY:
                wanted.root = _aside(wanted)
                self._link(file, wanted.root)

    def _link(self, file: CachedFile, relative: str) -> None:
        target = self._inputs / relative
        if not target.parent.is_dir():
            if not self._inputs.is_dir():
                raise FileNotFoundError(self._inputs)
            target.parent.mkdir(parents=True, exist_ok=True)
        self._cache.place(file, target)

    # ---- ending --------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        failure = self._work.failure()
        if failure is not None:
            self._work.end(Imported(staged={}, digests={}, failure=failure))
            return
        found = [wanted for wanted in self._wanted if wanted.infos]
        self._work.end(
            Imported(
                staged={wanted.uri.uri: os.path.join(INPUTS_ROOT, wanted.root) for wanted in found},
                digests={wanted.uri.uri: _digest(wanted) for wanted in found},
            )
        )


def _aside(wanted: _Wanted) -> str:
    name = hashlib.sha256(wanted.uri.uri.encode()).hexdigest()[:8]
    return staged_path(wanted.uri.bucket, wanted.uri.key).replace("s3/", f"s3.{name}/", 1)


def _digest(wanted: _Wanted) -> str:
    """Of an object its ETag; of a directory the MD5 of all keys and ETags, with their number, as S3 writes that of parts.

    Source: guide (`etag:` and the ETag). assumed for directories.
    """
    if not wanted.uri.is_prefix:
        return f"etag:{wanted.infos[0].etag}"
    digest = hashlib.md5(usedforsecurity=False)
    for info in wanted.infos:
        digest.update(f"{info.uri}\0{info.etag}\n".encode())
    return f"etag:{digest.hexdigest()}-{len(wanted.infos)}"
