"""What a CWL definition says of itself: inputs, outputs, an outline, or why it is wrong. Runs in a sandboxed process of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from cwltool.process import Process, shortname

from runomics.engines.cwl import definition, failures, javascript, needs, tool

FORMAT = 1

_MOST_MESSAGE_CHARACTERS = 64 * 1024
_FILES = ("File", "Directory")


def inspect(root: str, main: str) -> tuple[dict[str, Any], bytes | None]:
    """interface.json of the definition `main` below `root`. Never raises for what the definition contains."""
    logging.getLogger("cwltool").setLevel(logging.ERROR)
    logging.getLogger("salad").setLevel(logging.ERROR)
    found: dict[str, Any] = {
        "format": FORMAT,
        "engine": "CWL",
        "main": main,
        "inputs": [],
        "outputs": [],
        "message": "",
    }
    try:
        process = definition.load(root, main, tool.make)
        failure = _unrunnable(process)
        if failure is None and needs.javascript(process) and javascript.node() is None:
            failure = needs.NO_NODE
        if failure is not None:
            return found | {"failure": failure}, None
        return found | {
            "inputs": [_input(one, process) for one in process.tool["inputs"]],
            "outputs": [_output(one, process) for one in process.tool["outputs"]],
            "message": "".join(_outline(process, main.rpartition("/")[2]))[:_MOST_MESSAGE_CHARACTERS],
            "failure": None,
        }, None
    except Exception as error:
        failure = failures.of_document(error, main)
    return found | {"failure": failure[:_MOST_MESSAGE_CHARACTERS]}, None


def _unrunnable(process: Process) -> str | None:
    """Steps that are only described. Source: guide ("Operation" is not supported)."""
    named: list[str] = []

    def look(document: Any) -> None:
        if document.get("class") == "Operation":
            named.append(shortname(str(document.get("id", ""))) or "?")

    process.visit(look)
    if not named:
        return None
    return f"the workflow has abstract operations, which nothing can run: {', '.join(sorted(set(named)))} (class: Operation)"


def _input(one: Mapping[str, Any], process: Process) -> dict[str, Any]:
    kind = one["type"]
    return {
        "name": shortname(one["id"]),
        "type": _type_text(kind, process),
        "optional": "default" in one or _is_nullable(kind),
        "description": _line(one.get("label") or one.get("doc") or ""),
        "files": _holds_files(kind, process),
    }


def _output(one: Mapping[str, Any], process: Process) -> dict[str, Any]:
    return {
        "name": shortname(one["id"]),
        "type": _type_text(one["type"], process),
        "files": _holds_files(one["type"], process),
    }


def _line(text: Any) -> str:
    return " ".join(map(str, text)) if isinstance(text, list) else str(text)


def _is_nullable(kind: Any) -> bool:
    return kind == "null" or (isinstance(kind, list) and "null" in kind)


def _named(kind: Any, process: Process) -> Any:
    """A type that SchemaDefRequirement gives a name."""
    return definition.named_types(process).get(kind, kind) if isinstance(kind, str) else kind


def _type_text(kind: Any, process: Process, depth: int = 0) -> str:
    """`File[]?` and the like; a record's or a union's own shape is not told."""
    kind = _named(kind, process)
    if depth > 20:
        return "Any"
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        others = [one for one in kind if one != "null"]
        if len(others) == 1:
            return _type_text(others[0], process, depth + 1) + ("?" if len(others) < len(kind) else "")
        return "Any"
    match kind.get("type"):
        case "array":
            return _type_text(kind["items"], process, depth + 1) + "[]"
        case "record":
            return "record"
        case "enum":
            return "string"
        case other:
            return _type_text(other, process, depth + 1)


def _holds_files(kind: Any, process: Process, depth: int = 0) -> bool:
    kind = _named(kind, process)
    if depth > 20 or kind in (*_FILES, "Any"):
        return True
    if isinstance(kind, list):
        return any(_holds_files(one, process, depth + 1) for one in kind)
    if not isinstance(kind, Mapping):
        return False
    if kind.get("type") == "array":
        return _holds_files(kind["items"], process, depth + 1)
    if kind.get("type") == "record":
        return any(_holds_files(one["type"], process, depth + 1) for one in kind.get("fields", ()))
    if kind.get("type") == "enum":
        return False
    return _holds_files(kind.get("type"), process, depth + 1)


def _outline(process: Any, title: str, depth: int = 0) -> Iterator[str]:
    """What runs what, a line each."""
    yield f"{'    ' * depth}{title}\n"
    if depth == 0:
        yield f"    {process.tool['class']}{'' if process.tool['class'] != 'Workflow' else ' of'}\n"
    for step in getattr(process, "steps", ()):
        yield from _outline(step.embedded_tool, f"{shortname(step.id)}: {step.embedded_tool.tool['class']}", depth + 2)
