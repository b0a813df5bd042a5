"""inputs.json as run parameters: local files that the WDL takes as File or Directory become objects. Runs in the user's process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from WDL import Type

from runomics.cli.objects import Buckets, sha256_of


class BadInputs(Exception):
    """A value of inputs.json cannot be used. The message names it."""


@dataclass(frozen=True, slots=True)
class Uploads:
    """Where local files go: `bucket`, each below a key made of its content. Relative paths count from `folder`."""

    buckets: Buckets
    bucket: str
    folder: Path

    def file(self, path: Path) -> str:
        """Store one file; its URI. The same content gets the same URI, so call caches see no change."""
        key = f"inputs/{sha256_of(path)}/{path.name}"
        self.buckets.put(path, self.bucket, key)
        return f"s3://{self.bucket}/{key}"

    def directory(self, path: Path) -> str:
        """Store every file of a folder below a key made of all their names and contents; its URI, with a trailing slash."""
        files = {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.is_file()}
        listing = "".join(f"{sha256_of(file)}  {name}\n" for name, file in files.items())
        prefix = f"inputs/{hashlib.sha256(listing.encode()).hexdigest()}/{path.resolve().name}"
        for name, file in files.items():
            self.buckets.put(file, self.bucket, f"{prefix}/{name}")
        return f"s3://{self.bucket}/{prefix}/"


def parameters(given: Mapping[str, Any], types: Mapping[str, Any], workflow: str, uploads: Uploads) -> dict[str, Any]:
    """`given` with every local file replaced by the URI of its uploaded copy.

    Names may carry the workflow's (`align.reads`) or not; what has no known type is left for the service to judge.

    Raises:
        BadInputs: a File or Directory is neither a URI nor there.
    """
    result = {}
    for name, value in given.items():
        kind = types.get(name) or types.get(name.removeprefix(workflow + "."))
        result[name] = value if kind is None else _replace(value, kind, name, uploads)
    return result


def _replace(value: Any, kind: Any, name: str, uploads: Uploads) -> Any:
    if value is None:
        return None
    if isinstance(kind, Type.File | Type.Directory):
        return _upload(value, isinstance(kind, Type.Directory), name, uploads)
    if isinstance(kind, Type.Array) and isinstance(value, list):
        return [_replace(one, kind.item_type, f"{name}[{index}]", uploads) for index, one in enumerate(value)]
    if isinstance(kind, Type.Map) and isinstance(value, dict):
        return {key: _replace(one, kind.item_type[1], f"{name}.{key}", uploads) for key, one in value.items()}
    if isinstance(kind, Type.Pair) and isinstance(value, dict):
        sides = {"left": kind.left_type, "right": kind.right_type}
        return {side: _replace(one, sides[side.lower()], f"{name}.{side}", uploads) for side, one in value.items()}
    if isinstance(kind, Type.StructInstance) and isinstance(value, dict):
        members = kind.members or {}
        return {
            key: _replace(one, members[key], f"{name}.{key}", uploads) if key in members else one
            for key, one in value.items()
        }
    return value


def _upload(value: Any, is_directory: bool, name: str, uploads: Uploads) -> Any:
    if not isinstance(value, str) or "://" in value:
        return value
    path = uploads.folder / Path(value).expanduser()
    if is_directory:
        if not path.is_dir():
            raise BadInputs(f"{name}: there is no folder {path}")
        return uploads.directory(path)
    if not path.is_file():
        raise BadInputs(f"{name}: there is no file {path}")
    return uploads.file(path)
