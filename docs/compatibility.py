"""docs/user/compatibility.md: every workflow operation of the model, and whether this server has it."""

from __future__ import annotations

import botocore.loaders

from runomics.operations.registry import handlers

API_VERSION = "2022-11-28"
SHARES = ("AcceptShare", "CreateShare", "DeleteShare", "GetShare", "ListShares")
"""The shares of workflows; the model files them with the analytics half of the service."""

GROUPS = (
    ("Runs and tasks", ("Run", "Runs", "RunTask", "RunTasks")),
    ("Workflows", ("Workflow", "Workflows", "WorkflowVersion", "WorkflowVersions")),
    (
        "Run groups, caches, batches",
        ("RunGroup", "RunGroups", "RunCache", "RunCaches", "RunBatch", "Batch", "RunsInBatch"),
    ),
    ("Configurations, sharing, tags", ()),
)
"""Title → what an operation's name ends with after its verb; the last takes the rest."""

HEAD = """\
# Compatibility

<!-- Generated from the service model and the registry of operations by `make docs`; do not edit. -->

The operations of the workflow half of the `omics` API, version 2022-11-28. An operation that is not there yet answers
`NotSupportedOperationException` (405). The storage and analytics halves of the service (sequence, reference, variant and annotation stores) are
no part of this project. What is there and differs on purpose is in [deviations](deviations.md).
"""


def operation_names() -> list[str]:
    """The names of all workflow operations of the model, sorted."""
    model = botocore.loaders.Loader().load_service_model("omics", "service-2", API_VERSION)
    names = []
    for name, operation in model["operations"].items():
        prefix = operation.get("endpoint", {}).get("hostPrefix", "")
        if prefix in ("workflows-", "tags-") or name in SHARES:
            names.append(name)
    return sorted(names)


def pages() -> dict[str, str]:
    """The one page."""
    there = handlers()
    names = operation_names()
    parts = [HEAD, f"{sum(name in there for name in names)} of {len(names)} operations are there.\n"]
    left = list(names)
    for title, endings in GROUPS:
        mine = [name for name in left if not endings or _without_verb(name) in endings]
        left = [name for name in left if name not in mine]
        parts += [f"## {title}\n", "| operation | |", "|---|---|"]
        parts += [f"| {name} | {'yes' if name in there else 'not yet'} |" for name in mine]
        parts.append("")
    return {"user/compatibility.md": "\n".join(parts)}


def _without_verb(name: str) -> str:
    place = next(index for index in range(1, len(name)) if name[index].isupper())
    return name[place:]
