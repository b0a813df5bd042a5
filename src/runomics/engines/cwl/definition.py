"""Reads a CWL definition: the main file and all it names, all inside one tree. Runs in run processes and in inspection."""

from __future__ import annotations

import os
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from cwltool.context import LoadingContext
from cwltool.load_tool import default_loader, fetch_document, make_tool, resolve_and_validate_document
from cwltool.process import Process
from schema_salad.exceptions import ValidationException
from schema_salad.fetcher import MemoryCachingFetcher
from schema_salad.ref_resolver import file_uri, uri_file_path

MOST_FILE_BYTES = 4 * 1024 * 1024
"""More would not be parsed within the time that an inspection has."""

MOST_DEPTH = 200
"""Of workflows in workflows, as files name each other: more is a cycle that nothing else has found."""

ToolMaker = Callable[[Any, LoadingContext], Process]


class Unreadable(ValidationException):
    """A file of the definition cannot be had, or is none."""


class Cycle(ValidationException):
    """A workflow runs itself."""


class _Fetcher(MemoryCachingFetcher):
    """Reads files below one root, and nothing else."""

    root = ""

    def __init__(self, cache: Any, session: Any) -> None:
        super().__init__(cache)

    def fetch_text(self, url: str, content_types: list[str] | None = None) -> str:
        """The text of a file of the definition."""
        known = self.cache.get(url)
        return known if isinstance(known, str) else _read(self.root, url)

    def check_exists(self, url: str) -> bool:
        """Whether `url` is a file of the definition."""
        if url in self.cache:
            return True
        if urllib.parse.urlsplit(url).scheme not in ("", "file"):
            return False
        return _inside(self.root, uri_file_path(url)) and os.path.exists(uri_file_path(url))

    def urljoin(self, base_url: str, url: str) -> str:
        """`url` as it is meant in a document at `base_url`."""
        return url if url.startswith("_:") else urllib.parse.urljoin(base_url, url)


def load(root: str, main: str, make: ToolMaker) -> Process:
    """The checked process `main`, a path relative to `root` with perhaps `#id`, built by `make`.

    Raises:
        ValidationException (Unreadable, Cycle): the definition is wrong. WorkflowException: it asks for what is not supported.
        RecursionError: it is nested too deeply.
    """
    file, _, fragment = main.partition("#")
    uri = file_uri(os.path.join(root, file)) + (f"#{fragment}" if fragment else "")
    context = context_for(root, make)
    context, document, uri = fetch_document(uri, context)
    if not isinstance(document, dict):
        raise Unreadable(
            f"{file}: the document is a {type(document).__name__}, not an object with class and cwlVersion"
        )
    context, uri = resolve_and_validate_document(context, document, uri)
    return make_tool(uri, context)


def named_types(process: Process) -> Mapping[str, Any]:
    """The types that SchemaDefRequirement gives names to."""
    found: Any = process.get_requirement("SchemaDefRequirement")[0] or {}
    return {str(one["name"]): one for one in found.get("types", ()) if isinstance(one, Mapping) and "name" in one}


def context_for(root: str, make: ToolMaker) -> LoadingContext:
    """What a document is read with."""
    _Fetcher.root = root
    context = LoadingContext(
        {
            "fetcher_constructor": _Fetcher,
            "construct_tool_object": _guarded(make),
            # cwltool's own check of scripts needs node and takes a second; a wrong script fails where it is used.
            "disable_js_validation": True,
            "strict": True,
            # Keys of objects have all kinds of names; commands are quoted.
            "relax_path_checks": True,
            "doc_cache": False,
        }
    )
    context.loader = default_loader(_Fetcher, doc_cache=False)
    return context


def _guarded(make: ToolMaker) -> ToolMaker:
    """`make`, but a workflow that runs itself ends in an error that names it, not in an overflow."""
    path = threading.local()

    def made(document: Any, context: LoadingContext) -> Process:
        above = getattr(path, "ids", ())
        name = str(document.get("id", ""))
        if name and name in above:
            raise Cycle(f"{name}: the workflow runs itself")
        if len(above) > MOST_DEPTH:
            raise Cycle(f"{name}: workflows are nested more than {MOST_DEPTH} deep")
        path.ids = (*above, name)
        try:
            return make(document, context)
        finally:
            path.ids = above

    return made


def _inside(root: str, path: str) -> bool:
    return os.path.realpath(path).startswith(os.path.realpath(root) + os.sep)


def _read(root: str, url: str) -> str:
    if urllib.parse.urlsplit(url).scheme not in ("", "file"):
        raise Unreadable(f"{url} cannot be read: a definition may only name files inside itself")
    path = uri_file_path(url)
    if not _inside(root, path):
        raise Unreadable(f"{path} lies outside of the workflow definition")
    try:
        size = os.path.getsize(path)
        if size > MOST_FILE_BYTES:
            raise Unreadable(f"{path} has {size} bytes, the limit is {MOST_FILE_BYTES}")
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise Unreadable(f"{path} cannot be read from the workflow definition: {error.strerror}") from error
