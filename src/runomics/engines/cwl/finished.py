"""What finished jobs of a run leave for its next incarnation, on the run's volume: their outputs, if the files are still what they were.

A task sees the volume, so a record may be forged; like everything a task writes it can only spoil its own run: the server exports nothing
that lies outside of the run's own files. Runs in the run process.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runomics.engines.cwl.staging import local_path
from runomics.sandbox import linux

_NAME = "finished.json"
_CHUNK = 1 << 20


def fingerprint(order: Any) -> str:
    """Changes when anything that goes into the job does. Files count by path and size: within a run nothing is written twice."""
    text = json.dumps(order, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class Record:
    """The record of one job, in this incarnation and those before."""

    def __init__(self, workdirs: Sequence[str], key: str, print_: str) -> None:
        self._workdirs, self._key, self._fingerprint = workdirs, key, print_

    def keep(self, outputs: Any) -> None:
        """The job is done. A volume without room for the record costs no more than the record."""
        path = f"{self._workdirs[0]}/{self._key}/{_NAME}"
        content = {"fingerprint": self._fingerprint, "boot_id": _boot_id(), "outputs": outputs}
        try:
            with open(f"{path}.tmp", "w", encoding="utf-8") as file:
                json.dump(content, file)
            os.replace(f"{path}.tmp", path)
        except OSError:
            return

    def found(self) -> Any | None:
        """The outputs that an earlier incarnation left, None when there are none or they cannot be trusted."""
        for workdir in self._workdirs[1:]:
            outputs = self._read(f"{workdir}/{self._key}/{_NAME}")
            if outputs is not None:
                return outputs
        return None

    def _read(self, path: str) -> Any | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, encoding="utf-8") as file:
                content = json.load(file)
            if content["fingerprint"] != self._fingerprint:
                return None
            same_boot = content["boot_id"] == _boot_id()
            outputs = content["outputs"]
            if isinstance(outputs, dict) and all(_is_whole(one, same_boot) for one in _objects(outputs)):
                return outputs
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return None


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if value.get("class") in ("File", "Directory"):
            yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _is_whole(one: Mapping[str, Any], same_boot: bool) -> bool:
    """Whether a file is still there as it was. After a crash of the host its content is looked at: it may never have reached the disk."""
    location = str(one.get("location", ""))
    if location.startswith("_:"):
        return True
    path = local_path(location)
    if one["class"] == "Directory":
        return os.path.isdir(path)
    if not os.path.isfile(path) or ("size" in one and os.path.getsize(path) != one["size"]):
        return False
    kind, _, wanted = str(one.get("checksum", "")).partition("$")
    return same_boot or kind != "sha1" or _sha1(path) == wanted


def _sha1(path: str) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@functools.cache
def _boot_id() -> str:
    return linux.boot_id()
