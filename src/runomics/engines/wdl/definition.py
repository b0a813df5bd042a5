"""Reads a WDL definition: the main file and its imports, all inside one tree. Runs in run processes and in inspection."""

from __future__ import annotations

import os
import re
from collections.abc import Coroutine
from typing import Any, cast

import WDL
from WDL.Tree import Document, ReadSourceResult, Task, Workflow

MOST_FILE_BYTES = 16 * 1024 * 1024
_MOST_IMPORT_DEPTH = 32
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class BadImport(Exception):
    """A file of the definition cannot be had; the message says why, without the file's name."""


class NoEntry(Exception):
    """The main file has nothing to run."""


def load(root: str, main: str) -> Document:
    """The checked document of `main`, a path relative to `root`. Imports may only name files below `root`.

    Raises:
        WDL.Error.SyntaxError, ValidationError, MultipleValidationErrors, ImportError; BadImport for `main` itself; RecursionError.
    """

    async def read_source(uri: str, path: list[str], importer: Document | None) -> ReadSourceResult:
        above = os.path.dirname(importer.pos.abspath) if importer else root
        return _read(root, above, uri)

    return _finish(WDL.load_async(main, read_source=read_source, import_max_depth=_MOST_IMPORT_DEPTH))


def entry(document: Document) -> Workflow | Task:
    """What a run of the document executes: its workflow, or its only task.

    Raises:
        NoEntry: there is neither.
    """
    if document.workflow is not None:
        return document.workflow
    if len(document.tasks) == 1:
        return document.tasks[0]
    raise NoEntry(f"{document.pos.uri} declares no workflow")


def _finish(reading: Coroutine[Any, Any, Document]) -> Document:
    """The result of a coroutine that never waits: an event loop would cost a millisecond and descriptors."""
    try:
        reading.send(None)
    except StopIteration as ended:
        return cast(Document, ended.value)
    raise RuntimeError("reading a definition must not wait")


def _read(root: str, above: str, uri: str) -> ReadSourceResult:
    if _SCHEME.match(uri) or os.path.isabs(uri):
        raise BadImport("imports must be relative paths of files in the workflow definition")
    path = os.path.normpath(os.path.join(above, uri))
    inside = os.path.realpath(root) + os.sep
    if not os.path.realpath(path).startswith(inside):
        raise BadImport("it lies outside of the workflow definition")
    try:
        size = os.path.getsize(path)
        if size > MOST_FILE_BYTES:
            raise BadImport(f"it has {size} bytes, the limit is {MOST_FILE_BYTES}")
        with open(path, encoding="utf-8") as file:
            return ReadSourceResult(source_text=file.read(), abspath=path)
    except UnicodeDecodeError as error:
        raise BadImport(f"it is no UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise BadImport(f"it cannot be read from the workflow definition: {error.strerror}") from error
