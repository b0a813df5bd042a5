"""A WDL file on disk as a workflow definition: its imports, its File inputs, the same archive every time. Runs in the user's process."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import WDL

ARCHIVE_TIME = (1980, 1, 1, 0, 0, 0)
"""The time stamp of every archive member: the digest depends on content alone."""


class BadDefinition(Exception):
    """The WDL cannot be used. The message has file, line and column."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What CreateWorkflow needs, and the types of the inputs (name as in inputs.json, without the workflow's own)."""

    name: str
    main: str
    archive: bytes = field(repr=False)
    input_types: dict[str, Any]
    engine: Literal["WDL", "CWL", "NEXTFLOW"] = "WDL"

    @property
    def sha256(self) -> str:
        """Lower-case hex digest of the archive."""
        return hashlib.sha256(self.archive).hexdigest()


def load_wdl(path: Path) -> Definition:
    """Read, check and pack `path` (a WDL file, or a folder with main.wdl, of which every visible file is packed).

    Raises:
        BadDefinition: it does not parse or check, it imports a URL, or it is missing.
    """
    main = path / "main.wdl" if path.is_dir() else path
    if not main.is_file():
        raise BadDefinition(f"{main} is not there")
    document = _parse(main)
    target = document.workflow or (document.tasks[0] if len(document.tasks) == 1 else None)
    if target is None:
        raise BadDefinition(f"{main} has no workflow")
    sources = {Path(os.path.realpath(one.pos.abspath)) for one in _documents(document)}
    root, sources = rooted(path, sources)
    return Definition(
        name=target.name,
        main=str(main.resolve().relative_to(root)),
        archive=pack(root, sources),
        input_types={binding.name: binding.value.type for binding in target.available_inputs},
    )


def _parse(main: Path) -> Any:
    try:
        return WDL.load(str(main))
    except WDL.Error.MultipleValidationErrors as error:
        raise BadDefinition("\n".join(_located(one) for one in error.exceptions)) from None
    except (WDL.Error.SyntaxError, WDL.Error.ValidationError, WDL.Error.ImportError) as error:
        raise BadDefinition(_located(error)) from None


def _located(error: Any) -> str:
    position = getattr(error, "pos", None)
    cause = f": {error.__cause__}" if isinstance(error, WDL.Error.ImportError) and error.__cause__ else ""
    where = f"{position.uri}:{position.line}:{position.column}: " if position else ""
    # The parser goes on with a list of everything it would have taken.
    what = str(error).partition("\nExpected one of")[0]
    return f"{where}{what}{cause}"


def _documents(document: Any) -> Iterator[Any]:
    yield document
    for imported in document.imports:
        yield from _documents(imported.doc)


def rooted(given: Path, named: set[Path]) -> tuple[Path, set[Path]]:
    """The folder that a definition is packed from, and its files: those that its main names, and all of a folder that was given.

    Raises:
        BadDefinition: a file lies outside the folder that was given.
    """
    if not given.is_dir():
        return Path(os.path.commonpath([source.parent for source in named])), named
    root = given.resolve()
    sources = named | {file.resolve() for file in visible_files(root)}
    outside = sorted(str(source) for source in sources if not source.is_relative_to(root))
    if outside:
        raise BadDefinition(
            f"{outside[0]} lies outside {root}: give the file itself, or a folder that holds all it names"
        )
    return root, sources


def visible_files(root: Path) -> Iterator[Path]:
    """Every file below `root` but hidden ones and those in hidden folders."""
    for directory, folders, files in os.walk(root):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(directory, name)


def pack(root: Path, sources: set[Path]) -> bytes:
    """A zip archive of `sources`, the same bytes for the same content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for source in sorted(sources):
            member = zipfile.ZipInfo(str(source.relative_to(root)), ARCHIVE_TIME)
            member.external_attr = 0o100644 << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, source.read_bytes())
    return buffer.getvalue()
