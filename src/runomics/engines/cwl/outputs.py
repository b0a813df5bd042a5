"""The outputs of a CWL run as the service exports them: every file once, at `out/<basename>`. Runs in the run process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from runomics.engines.cwl.staging import is_remote, local_path
from runomics.engines.stager import Stager

_SHOWN = ("class", "location", "basename", "checksum", "size", "format", "secondaryFiles", "listing")
_WORKDIR_NAME = "literals"
_CHUNK = 1 << 20


def _measure(shown: dict[str, Any], source: str) -> None:
    """Size and checksum of a file that has none yet: one that no task made."""
    if shown["class"] != "File" or ("size" in shown and "checksum" in shown):
        return
    digest = hashlib.sha1(usedforsecurity=False)
    with open(source, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        shown |= {"size": file.tell(), "checksum": f"sha1${digest.hexdigest()}"}


class Collector:
    """Gathers the files of an output document.

    Two files of one name are told apart as cwltool does it in its output directory: `name`, `name_2`, `name_3`.

    Args:
        workdir: where literals (files that are only text in the document) are written.
    """

    def __init__(self, workdir: str, stage: Stager) -> None:
        self._workdir = workdir
        self._stage = stage
        self._target_of: dict[str, str] = {}
        self._taken: set[str] = set()
        self.exports: list[dict[str, Any]] = []

    def document(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs with `{"__export__": target}` for every location; `exports` has where each comes from."""
        return {name: self._plain(value) for name, value in outputs.items()}

    def _plain(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            if value.get("class") in ("File", "Directory"):
                return self._file(value, "out")
            return {str(key): self._plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(item) for item in value]
        return value

    def _file(self, value: Mapping[str, Any], above: str) -> dict[str, Any]:
        shown = {name: value[name] for name in _SHOWN if name in value}
        source, directory = self._source(value), value["class"] == "Directory"
        name = str(value.get("basename") or os.path.basename(source.rstrip("/")))
        target = self._target(source or f"_:{id(value)}", f"{above}/{name}")
        shown["basename"] = name
        shown["location"] = {"__export__": target}
        if source:
            self._export(source, target, directory)
            _measure(shown, source)
        for member, place in (("secondaryFiles", above), ("listing", target)):
            if member in shown:
                shown[member] = [self._member(one, source, place, member) for one in value[member]]
        return shown

    def _member(self, one: Mapping[str, Any], parent: str, place: str, member: str) -> dict[str, Any]:
        """A secondary file, or an entry of a directory: if the directory lies on disk, its entries go with it."""
        if member != "listing" or not parent:
            return self._file(one, place)
        source = self._source(one)
        name = str(one.get("basename") or os.path.basename(source))
        if os.path.realpath(source) == os.path.realpath(f"{parent.rstrip('/')}/{name}"):
            self._target_of.setdefault(source, f"{place}/{name}")
            shown = {key: one[key] for key in _SHOWN if key in one} | {"location": {"__export__": f"{place}/{name}"}}
            _measure(shown, source)
            if "listing" in shown:
                shown["listing"] = [self._member(inner, source, f"{place}/{name}", member) for inner in one["listing"]]
            return shown
        return self._file(one, place)

    def _source(self, value: Mapping[str, Any]) -> str:
        """Where a file lies; empty for a directory that is only a list."""
        location = str(value.get("location", value.get("path", "")))
        if is_remote(location):
            return self._stage.path(location, directory=value["class"] == "Directory")
        if location and not location.startswith("_:"):
            return local_path(location)
        if value["class"] == "Directory":
            return ""
        return self._written(str(value.get("contents", "")))

    def _written(self, contents: str) -> str:
        directory = f"{self._workdir}/{_WORKDIR_NAME}"
        os.makedirs(directory, exist_ok=True)
        path = f"{directory}/{len(os.listdir(directory))}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(contents)
        return path

    def _target(self, source: str, wanted: str) -> str:
        known = self._target_of.get(source)
        if known is not None:
            return known
        target, number = wanted, 2
        while target in self._taken:
            target, number = f"{wanted}_{number}", number + 1
        self._taken.add(target)
        self._target_of[source] = target
        return target

    def _export(self, source: str, target: str, directory: bool) -> None:
        entry = {"source": source, "target": target, "directory": directory}
        if entry not in self.exports:
            self.exports.append(entry)
