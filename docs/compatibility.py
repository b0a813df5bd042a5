"""docs/user/compatibility.md: each operation of the service model, and whether this server has it. From the model and the registry."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator

from deviations_page import _marked

from runomics.operations.registry import OPERATIONS, Registered
from runomics.wire.model import OperationModel, ServiceModel

TITLES = {
    "run": "Runs",
    "run/task": "Tasks",
    "run/cancel": "Runs",
    "workflow": "Workflows",
    "workflow/version": "Workflow versions",
    "runGroup": "Run groups",
    "runCache": "Run caches",
    "runBatch": "Run batches",
    "runBatch/run": "Run batches",
    "runBatch/cancel": "Run batches",
    "runBatch/delete": "Run batches",
    "configuration": "Configurations",
    "share": "Shares",
    "shares": "Shares",
    "tags": "Tags",
}
"""The fixed segments of an operation's path → the resource it is about."""

HEAD = """\
# Which operations are supported

<!-- Generated from the service model and src/runomics/operations/registry.py by `make docs`; do not edit. -->

{supported} of the {all} workflow operations of the HealthOmics API ({version}) are supported. The others are recognised, checked and
answered with `NotSupportedOperationException` (405). Every other operation of the API (sequence, reference, variant and annotation
stores) is no part of this service and is answered with `UnknownOperationException` (404).

What a supported operation does differently stands below its table; differences that no single operation has are in
[deviations](deviations.md).
"""


def pages() -> dict[str, str]:
    """The one page."""
    model = ServiceModel.load()
    served = {operation.name: operation for operation in OPERATIONS}
    head = HEAD.format(supported=len(served), all=len(model.operations), version="2022-11-28")
    by_title = sorted((TITLES[_place(operation)], operation.name, operation) for operation in model.operations.values())
    sections = [
        _section(title, [operation for _, _, operation in group], served)
        for title, group in itertools.groupby(by_title, key=lambda entry: entry[0])
    ]
    return {"user/compatibility.md": "\n".join([head, *sections])}


def _place(operation: OperationModel) -> str:
    return "/".join(part for part in operation.uri.partition("?")[0].split("/") if part and not part.startswith("{"))


def _section(title: str, operations: list[OperationModel], served: dict[str, Registered]) -> str:
    rows = [
        f"| {operation.name} | `{operation.method} {operation.uri.partition('?')[0]}` | "
        f"{'supported' if operation.name in served else 'NotSupportedOperationException'} |"
        for operation in operations
    ]
    differences = [
        f"- {operation.name}: {text}"
        for operation in operations
        if operation.name in served
        for text in _deviations(served[operation.name])
    ]
    lines = [f"## {title}", "", "| operation | request | |", "|---|---|---|", *rows, ""]
    return "\n".join([*lines, *differences, ""] if differences else lines)


def _deviations(operation: Registered) -> Iterator[str]:
    return _marked(inspect.getdoc(operation.function) or "")
