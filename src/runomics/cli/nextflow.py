"""A Nextflow project on disk as a workflow definition, and its inputs.json as run parameters. In the user's process."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runomics.cli.definition import BadDefinition, Definition, pack, visible_files
from runomics.cli.inputs import Uploads

_TABLES = {".csv": ",", ".tsv": "\t"}


def is_nextflow(path: Path) -> bool:
    """Whether `path` is to be taken for Nextflow: by its name, or a folder with main.nf and no main.wdl or main.cwl."""
    if path.is_dir():
        return (path / "main.nf").is_file() and not any((path / name).exists() for name in ("main.wdl", "main.cwl"))
    return path.suffix == ".nf"


def load_nextflow(path: Path) -> Definition:
    """Pack the folder of the main script with every visible file in it: modules, configuration, bin, assets.

    Raises:
        BadDefinition: it is missing.
    """
    main = path / "main.nf" if path.is_dir() else path
    if not main.is_file():
        raise BadDefinition(f"{main} is not there")
    root = main.resolve().parent
    return Definition(
        name=root.name if main.name == "main.nf" else main.stem,
        main=main.name,
        archive=pack(root, {file.resolve() for file in visible_files(root)}),
        input_types={},
        engine="NEXTFLOW",
    )


def nextflow_parameters(given: Mapping[str, Any], uploads: Uploads) -> dict[str, Any]:
    """`given` with every text that names a file or folder here replaced by the URI of its uploaded copy; also in samplesheets.

    A pipeline does not say which of its parameters are files: what has a slash or a dot and is there is one.
    """
    return {name: _replaced(value, uploads) for name, value in given.items()}


def _replaced(value: Any, uploads: Uploads) -> Any:
    if isinstance(value, list):
        return [_replaced(one, uploads) for one in value]
    if isinstance(value, dict):
        return {name: _replaced(one, uploads) for name, one in value.items()}
    if not isinstance(value, str) or "://" in value or not ("/" in value or "." in value):
        return value
    path = uploads.folder / Path(value).expanduser()
    if path.is_dir():
        return uploads.directory(path)
    if not path.is_file():
        return value
    return _table(path, uploads) if path.suffix in _TABLES else uploads.file(path)


def _table(path: Path, uploads: Uploads) -> str:
    """Upload a samplesheet whose cells name objects where they named files; paths in it count from its own folder."""
    beside = Uploads(uploads.buckets, uploads.bucket, path.parent)
    separator = _TABLES[path.suffix]
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8")), delimiter=separator))
    replaced = [[str(_replaced(cell, beside)) for cell in row] for row in rows]
    if replaced == rows:
        return uploads.file(path)
    with tempfile.TemporaryDirectory(prefix="runomics-") as scratch:
        copy = Path(scratch) / path.name
        with copy.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=separator, lineterminator="\n").writerows(replaced)
        return uploads.file(copy)
