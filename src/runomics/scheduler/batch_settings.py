"""The settings of a batch before they have rows: fetched, read once to see that all of them are good, then given out. Scheduler.

Settings that were sent along and settings in a bucket take the same way: through a file without a name, which goes with the process.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import structlog

from runomics.domain.batch import (
    INVALID_JSON,
    MAX_FILE_BYTES,
    VALIDATION,
    Failure,
    failure_of_changed_file,
    failure_of_counts,
)
from runomics.ports import ObjectChanged, ObjectForbidden, ObjectMissing, ObjectStore
from runomics.scheduler.json_list import NotAList, elements
from runomics.store.batches import BatchRow

log = structlog.get_logger()


class Refused(Exception):
    """The batch is FAILED for this reason."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Closing(Exception):
    """The server is being stopped."""


@dataclass(slots=True)
class Settings:
    """The settings of one batch on their way into rows: `rest`, as (runSettingId, JSON text), is still to come."""

    total: int
    rest: Iterator[tuple[str, str]]
    file: BinaryIO

    def close(self) -> None:
        self.file.close()


class SettingsReader:
    """Reads the settings of batches. `name_of(setting)` is its runSettingId, None when it has none that could be one.

    `objects_as(account, role ARN)` is what a role may read. Once `closing` is set, reading ends with `Closing`.
    """

    def __init__(
        self,
        *,
        name_of: Callable[[Mapping[str, Any]], str | None],
        objects_as: Callable[[str, str], ObjectStore],
        scratch: Path,
        closing: threading.Event,
        max_runs: int,
    ) -> None:
        self._name_of = name_of
        self._objects_as = objects_as
        self._scratch = scratch
        self._closing = closing
        self._max_runs = max_runs

    def looked_at(self, batch: BatchRow) -> Settings:
        """All settings read once and found good; `rest` begins after those that have their row.

        Raises:
            Refused: the batch cannot be.
        """
        file = self._fetched(batch)
        try:
            total, unique = 0, set()
            for name, _ in self._read(file):
                total += 1
                if total <= self._max_runs:
                    unique.add(name)
            failure = failure_of_counts(total, len(unique), self._max_runs)
            if failure is not None:
                raise Refused(failure)
        except BaseException:
            file.close()
            raise
        return Settings(total, islice(self._read(file), batch.loaded_runs, None), file)

    def _read(self, file: BinaryIO) -> Iterator[tuple[str, str]]:
        """Every setting as (runSettingId, text). Raises: Refused."""
        file.seek(0)
        try:
            for element, text in elements(file):
                name = self._name_of(element)
                if name is None:
                    raise Refused(INVALID_JSON)
                if self._closing.is_set():
                    raise Closing
                yield name, text
        except NotAList as error:
            log.info("batch.settings_invalid", error=str(error))
            raise Refused(INVALID_JSON) from error

    def _fetched(self, batch: BatchRow) -> BinaryIO:
        """The list as a file without a name, which goes with the process. Raises: Refused."""
        file: BinaryIO = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 - kept open until the list is in rows
        try:
            if batch.settings_uri is None:
                file.write((batch.inline_settings or "").encode())
            else:
                self._download(batch, batch.settings_uri, file)
        except BaseException:
            file.close()
            raise
        return file

    def _download(self, batch: BatchRow, uri: str, file: BinaryIO) -> None:
        role = orjson.loads(batch.default_run_setting)["roleArn"]
        objects = self._objects_as(batch.account, role)
        expected = batch.settings_etag or ""
        try:
            info = objects.head(uri)
            if info.etag != expected:
                raise Refused(failure_of_changed_file(expected, info.etag))
            if info.size_bytes > MAX_FILE_BYTES:
                raise Refused(
                    Failure(VALIDATION, f"{uri} has {info.size_bytes} bytes but {MAX_FILE_BYTES} bytes is the max.")
                )
            objects.download(info, file.fileno(), self._note_progress)
        except ObjectChanged:
            raise Refused(failure_of_changed_file(expected, _etag_now(objects, uri))) from None
        except (ObjectMissing, ObjectForbidden) as error:
            raise Refused(Failure(VALIDATION, f"The run configurations cannot be read: {error}")) from error

    def _note_progress(self, _: int) -> None:
        if self._closing.is_set():
            raise Closing


def _etag_now(objects: ObjectStore, uri: str) -> str:
    try:
        return objects.head(uri).etag
    except (ObjectMissing, ObjectForbidden):
        return ""
