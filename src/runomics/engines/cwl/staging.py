"""Files and directories that CWL names by URI: staged, and put by their paths. Runs in the run process."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping
from typing import Any

from cwltool.stdfsaccess import StdFsAccess
from schema_salad.ref_resolver import file_uri, uri_file_path

from runomics.engines import stager
from runomics.engines.gateway_client import StageFailed
from runomics.engines.stager import RefusedUri, Stager

_INPUTS = "/mnt/workflow/inputs/"
_S3_INPUTS = f"{_INPUTS}s3/"
_CLASSES = ("File", "Directory")


class Access(StdFsAccess):
    """cwltool's view of files: `s3://` ones are staged when they are looked at. `stage` is set on the class once per run."""

    stage: Stager

    def _abs(self, p: str) -> str:
        if is_remote(p):
            return self.stage.path(p, directory=p.endswith("/"))
        return str(super()._abs(p))

    def exists(self, fn: str) -> bool:
        """As in the base class; what may lie beside a staged input is looked for where that came from: secondary files."""
        try:
            path = self._abs(fn)
        except StageFailed:
            return False
        if os.path.exists(path):
            return True
        if not path.startswith(_S3_INPUTS):
            return False
        try:
            self.stage.path("s3://" + path.removeprefix(_S3_INPUTS), directory=path.endswith("/"))
        except StageFailed:
            return False
        return os.path.exists(path)


def is_remote(location: str) -> bool:
    """Whether `location` must be staged: a URI, but of no file that is already here."""
    return stager.is_uri(location) and not location.startswith("file://")


def localized(value: Any, stage: Stager) -> Any:
    """`value` with `file://` locations in all File and Directory objects that had another one.

    Raises:
        RefusedUri, StageFailed, Cancelled, GatewayLost.
    """
    wanted: set[tuple[str, bool]] = set()
    _visit(value, lambda one, location: wanted.add((location, one["class"] == "Directory")))
    if not wanted:
        return value
    stage.all_paths(wanted)
    return _replaced(value, stage)


def _visit(value: Any, act: Any) -> None:
    if isinstance(value, Mapping):
        location = _location(value)
        if location is not None:
            act(value, location)
        for item in value.values():
            _visit(item, act)
    elif isinstance(value, list):
        for item in value:
            _visit(item, act)


def _location(value: Mapping[str, Any]) -> str | None:
    """The remote location of a File or Directory object, None when it is something else or lies here."""
    if value.get("class") not in _CLASSES:
        return None
    location = value.get("location", value.get("path"))
    return location if isinstance(location, str) and is_remote(location) else None


def _replaced(value: Any, stage: Stager) -> Any:
    if isinstance(value, list):
        return [_replaced(item, stage) for item in value]
    if not isinstance(value, Mapping):
        return value
    new = {key: _replaced(item, stage) for key, item in value.items()}
    location = _location(value)
    if location is None:
        return new
    path = stage.path(location, directory=value["class"] == "Directory")
    new.pop("path", None)
    new["location"] = file_uri(path)
    if not new.get("basename"):
        new["basename"] = location.rstrip("/").rpartition("/")[2]
    return new


def parameter_value(value: Any, kind: Any, schemas: Mapping[str, Any]) -> Any:
    """A run's parameter as CWL has it: where a File or Directory is wanted, its URI alone will do.

    Raises:
        RefusedUri: a File or Directory that is no URI.
    """
    if isinstance(kind, str) and kind in schemas:
        kind = schemas[kind]
    if isinstance(kind, list):
        return _of_union(value, kind, schemas)
    if isinstance(kind, str):
        if isinstance(value, str) and kind in _CLASSES:
            return _object(value, kind)
        return _checked(value)
    if isinstance(kind, Mapping):
        what = kind.get("type")
        if what == "array" and isinstance(value, list):
            return [parameter_value(item, kind.get("items"), schemas) for item in value]
        if what == "record" and isinstance(value, Mapping) and value.get("class") not in _CLASSES:
            fields = {field["name"].rpartition("/")[2].rpartition("#")[2]: field["type"] for field in kind["fields"]}
            return {name: parameter_value(item, fields.get(name), schemas) for name, item in value.items()}
        if not isinstance(what, str) or what not in ("array", "record", "enum"):
            return parameter_value(value, what, schemas)
    return _checked(value)


def _of_union(value: Any, kinds: list[Any], schemas: Mapping[str, Any]) -> Any:
    if isinstance(value, str) and "string" in kinds:
        return value
    for kind in kinds:
        new = parameter_value(value, kind, schemas)
        if new is not value and new != value:
            return new
    return _checked(value)


def _object(uri: str, kind: str) -> dict[str, str]:
    if not stager.is_uri(uri):
        raise RefusedUri(f"{kind} inputs must be s3:// or omics:// URIs, not {uri}")
    return {"class": kind, "location": uri}


def _checked(value: Any) -> Any:
    """Refuses files that are named by a path of the server's."""
    if isinstance(value, list):
        return [_checked(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    location = value.get("location", value.get("path")) if value.get("class") in _CLASSES else None
    if isinstance(location, str) and not is_remote(location):
        raise RefusedUri(f"{value['class']} inputs must be s3:// or omics:// URIs, not {location}")
    return {key: _checked(item) for key, item in value.items()}


def local_path(location: str) -> str:
    """The path that a `file://` location, or a bare path, stands for."""
    if location.startswith("file://"):
        return str(uri_file_path(location))
    return urllib.parse.unquote(location) if "%" in location else location
