"""What moves data for runs: import, stage, export. Runs in the server; calls return at once, results come on transfer threads.

Everything may be asked again, also while it is going on (then both hear of the end) and after a crash (then what is done
already is recognised): see docs/dev/data-movement.md.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runomics.domain.inputs import InputUri, InvalidInput, parse_input, split_s3
from runomics.ports import ObjectForbidden, ObjectMissing, ObjectStore
from runomics.scheduler.input_cache import InputCache
from runomics.scheduler.transfer_export import Exported, ExportJob, OpenExport, OutputDelivery, upload_log
from runomics.scheduler.transfer_import import Imported, InputStaging
from runomics.scheduler.transfer_lanes import Lanes
from runomics.scheduler.transfer_work import (
    PATIENCE_SECONDS,
    Absence,
    Check,
    Meter,
    Work,
    export_failure,
    import_failure,
    patiently,
)

__all__ = ["ExportJob", "Exported", "Imported", "Progress", "Transfers"]

LISTING_BYTES = 8 << 20
LISTED_OVERHEAD_BYTES = 16
"""A listing is one line of the gateway: what it may have, and what each object takes beside its key."""


class _TooMany(Exception):
    """A listing longer than a line of the gateway."""


_METERS = 10_000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the transfers of a run are, in bytes. A total grows as objects are looked at."""

    imported_bytes: int = 0
    import_total_bytes: int = 0
    exported_bytes: int = 0
    export_total_bytes: int = 0


class Transfers:
    """One per server.

    `objects` of a call is what the run may touch (scheduler.object_access); without it the one of the constructor counts.
    `open_export` opens a path that an engine named, inside the run's volume and inputs, for reading and without ever
    blocking. Callbacks come once, on a transfer thread; they must be short. A store that cannot be reached is waited for so long
    with each request.
    """

    def __init__(
        self,
        *,
        objects: ObjectStore,
        cache: InputCache,
        open_export: OpenExport,
        threads: int = 8,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._objects = objects
        self._cache = cache
        self._open_export = open_export
        self._patience_seconds = patience_seconds
        self._closing = threading.Event()
        self._lanes = Lanes(threads)
        self._lock = threading.Lock()
        self._active: dict[tuple[Path, str], Work[Any]] = {}
        self._meters: OrderedDict[Path, Meter] = OrderedDict()

    # ---- in ------------------------------------------------------------------------------------------------------

    def import_inputs(
        self,
        run_directory: Path,
        uris: Sequence[InputUri],
        on_done: Callable[[Imported], None],
        *,
        check: Check | None = None,
        objects: ObjectStore | None = None,
    ) -> None:
        """Stage every URI below run_directory/inputs. `check` is asked first, on a transfer thread.

        A URI that is not `declared` and cannot be read is left out of what was staged, and is no failure.
        """
        self._stage(run_directory, "import", uris=uris, expected={}, on_done=on_done, check=check, objects=objects)

    def stage(
        self,
        run_directory: Path,
        uri: str,
        expected_digest: str | None,
        on_done: Callable[[Imported], None],
        *,
        objects: ObjectStore | None = None,
    ) -> None:
        """Stage what an engine names at run time; a trailing slash means a directory.

        With `expected_digest` (of the import) an object that has another one by now is MODIFIED_INPUT_RESOURCE.
        """
        try:
            parsed = parse_input(uri)
        except InvalidInput as error:
            on_done(Imported(staged={}, digests={}, failure=(error.reason, error.message)))
            return
        expected = {} if expected_digest is None else {uri: expected_digest}
        self._stage(
            run_directory,
            f"stage {uri}",
            uris=[parsed],
            expected=expected,
            on_done=on_done,
            check=None,
            objects=objects,
        )

    def _stage(
        self,
        run_directory: Path,
        name: str,
        *,
        uris: Sequence[InputUri],
        expected: Mapping[str, str],
        on_done: Callable[[Imported], None],
        check: Check | None,
        objects: ObjectStore | None,
    ) -> None:
        work = self._begin(run_directory, name, on_done)
        if work is not None:
            InputStaging(work, objects or self._objects, self._cache, uris=uris, expected=expected, check=check).begin()

    # ---- out -----------------------------------------------------------------------------------------------------

    def export(
        self,
        job: ExportJob,
        on_done: Callable[[Exported], None],
        *,
        check: Check | None = None,
        objects: ObjectStore | None = None,
    ) -> None:
        """Store the run's outputs below its output URI. `check` is asked first, on a transfer thread."""
        work = self._begin(job.run_directory, "export", on_done)
        if work is not None:
            OutputDelivery(work, objects or self._objects, self._open_export, job=job, check=check).begin()

    def export_log(
        self, log_file: Path, uri: str, on_done: Callable[[Exported], None], *, objects: ObjectStore | None = None
    ) -> None:
        """Store a log of ours, a file of the run's directory, as `uri`."""

        def act() -> int:
            return upload_log(objects or self._objects, log_file, uri)

        self._store_one(log_file.parent, log_file.name, uri, act, on_done)

    def read_object(
        self,
        uri: str,
        limit_bytes: int,
        on_done: Callable[[bytes | None, str | None], None],
        *,
        objects: ObjectStore | None = None,
    ) -> None:
        """Read a small object whole: its content, or None and why it cannot be had."""

        def act() -> None:
            try:
                data = patiently(
                    lambda: (objects or self._objects).read_bytes(uri, limit_bytes),
                    Absence(time.monotonic() + self._patience_seconds),
                    lambda seconds: not self._closing.wait(seconds),
                )
            except (ObjectMissing, ObjectForbidden, ValueError, OSError) as error:
                on_done(None, f"{uri} cannot be read: {error}")
                return
            on_done(data, None)

        self._lanes.submit(uri, act)

    def list_objects(
        self,
        uri: str,
        on_done: Callable[[Sequence[tuple[str, int]] | None, tuple[str, str] | None], None],
        *,
        objects: ObjectStore | None = None,
    ) -> None:
        """The keys that begin with `uri`, sorted, with their sizes in bytes; or None and why they cannot be told."""

        def look() -> list[tuple[str, int]]:
            found: list[tuple[str, int]] = []
            letters = 0
            for info in (objects or self._objects).list(uri):
                key = split_s3(info.uri)[1]
                letters += len(key) + LISTED_OVERHEAD_BYTES
                if letters > LISTING_BYTES:
                    raise _TooMany(f"More than {len(found)} objects begin with {uri}. Name a deeper prefix.")
                found.append((key, info.size_bytes))
            return found

        def act() -> None:
            try:
                listed = patiently(
                    look,
                    Absence(time.monotonic() + self._patience_seconds),
                    lambda seconds: not self._closing.wait(seconds),
                )
            except _TooMany as error:
                on_done(None, ("IMPORT_FAILED", str(error)))
            except Exception as error:
                on_done(None, import_failure(uri, error))
            else:
                on_done(listed, None)

        self._lanes.submit(uri, act)

    def _store_one(
        self, run_directory: Path, name: str, uri: str, act: Callable[[], int], on_done: Callable[[Exported], None]
    ) -> None:
        work: Work[Exported] | None = self._begin(run_directory, f"store {uri}", on_done)
        if work is not None:
            self._lanes.submit(run_directory, lambda: work.end(_stored(name, uri, lambda: work.patiently(act))))

    # ---- all of a run --------------------------------------------------------------------------------------------

    def progress(self, run_directory: Path) -> Progress:
        """How far the run's transfers are; zeros when there were none since the start of the server."""
        with self._lock:
            meter = self._meters.get(run_directory)
        if meter is None:
            return Progress()
        return Progress(
            imported_bytes=meter.imported_bytes,
            import_total_bytes=meter.import_total_bytes,
            exported_bytes=meter.exported_bytes,
            export_total_bytes=meter.export_total_bytes,
        )

    def forget(self, run_directory: Path) -> None:
        """Give up what is going on for the run. Once this returns nothing of it is open, written, or called back.

        Waits for the pieces under way: at most for one request to the store, or 64 MiB of copying.
        """
        with self._lock:
            given_up = [key for key in self._active if key[0] == run_directory]
            works = [self._active.pop(key) for key in given_up]
            self._meters.pop(run_directory, None)
        for work in works:
            work.give_up()
        self._lanes.clear(run_directory)

    def close(self) -> None:
        """Begin nothing more: the server is going down. What is half done is done again by the next."""
        self._closing.set()
        with self._lock:
            works = list(self._active.values())
        for work in works:
            work.give_up()
        self._lanes.stop()

    def _begin(self, run_directory: Path, name: str, on_done: Callable[[Any], None]) -> Work[Any] | None:
        """New work, or None when the same is going on: then its end is told to `on_done` as well."""
        key = (run_directory, name)
        with self._lock:
            work = self._active.get(key)
            if work is None:
                meter = self._meters.setdefault(run_directory, Meter())
                self._meters.move_to_end(run_directory)
                if name in ("import", "export"):
                    meter.start_over(name)
                while len(self._meters) > _METERS:
                    self._meters.popitem(last=False)
                fresh: Work[Any] = Work(self._lanes, run_directory, meter, self._patience_seconds)
                self._active[key] = fresh
        if work is not None:
            work.when_done(on_done)
            return None

        def over(_: Any) -> None:
            with self._lock:
                if self._active.get(key) is fresh:
                    del self._active[key]

        fresh.when_done(over)
        fresh.when_done(on_done)
        return fresh


def _stored(name: str, uri: str, act: Callable[[], int]) -> Exported:
    try:
        return Exported(uris={name: uri}, bytes=act())
    except Exception as error:
        return Exported(failure=export_failure(name, uri, error))
