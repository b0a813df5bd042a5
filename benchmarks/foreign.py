"""Ids of another account against ids of nothing: what can be asked about them, and whether the time of the answer tells them apart."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ACCOUNT, STRANGER = "123456789012", "210987654321"
ARN = f"arn:aws:omics:us-east-1:{ACCOUNT}:"
MISSING = "7777777"
MISSING_SHARE = "12345678-0000-4000-8000-000000000000"
SLOWER = 1.2
"""How much longer one may take than the other."""

OUTPUT = {"roleArn": f"arn:aws:iam::{STRANGER}:role/runner", "outputUri": "s3://bucket/x"}


def _batch(**more: str) -> dict[str, Any]:
    return {
        "defaultRunSetting": {**OUTPUT, **more},
        "batchRunSettings": {"inlineSettings": [{"runSettingId": "one"}]},
        "requestId": "b{}",
    }


CASES: Sequence[tuple[str, str, Mapping[str, Any]]] = (
    ("AcceptShare", "share", {"shareId": "{}"}),
    ("CancelRun", "run", {"id": "{}"}),
    ("CancelRunBatch", "batch", {"batchId": "{}"}),
    ("CreateShare", "workflow", {"resourceArn": ARN.replace(ACCOUNT, STRANGER) + "workflow/{}", "principalSubscriber": ACCOUNT}),
    ("CreateShare", "workflow", {"resourceArn": ARN + "workflow/{}", "principalSubscriber": "555555555555"}),
    ("CreateWorkflowVersion", "workflow", {"workflowId": "{}", "versionName": "v2", "definitionUri": "s3://bucket/x", "requestId": "{}"}),
    ("DeleteBatch", "batch", {"batchId": "{}"}),
    ("DeleteConfiguration", "configuration", {"name": "{}"}),
    ("DeleteRun", "run", {"id": "{}"}),
    ("DeleteRunBatch", "batch", {"batchId": "{}"}),
    ("DeleteRunCache", "cache", {"id": "{}"}),
    ("DeleteRunGroup", "group", {"id": "{}"}),
    ("DeleteShare", "share", {"shareId": "{}"}),
    ("DeleteWorkflow", "workflow", {"id": "{}"}),
    ("DeleteWorkflowVersion", "workflow", {"workflowId": "{}", "versionName": "v1"}),
    ("GetBatch", "batch", {"batchId": "{}"}),
    ("GetConfiguration", "configuration", {"name": "{}"}),
    ("GetRun", "run", {"id": "{}"}),
    ("GetRunCache", "cache", {"id": "{}"}),
    ("GetRunGroup", "group", {"id": "{}"}),
    ("GetRunTask", "run", {"id": "{}", "taskId": "1000000"}),
    ("GetShare", "share", {"shareId": "{}"}),
    ("GetWorkflow", "workflow", {"id": "{}"}),
    ("GetWorkflow", "workflow", {"id": "{}", "workflowOwnerId": ACCOUNT}),
    ("GetWorkflowVersion", "workflow", {"workflowId": "{}", "versionName": "v1"}),
    ("ListRunTasks", "run", {"id": "{}"}),
    ("ListRunsInBatch", "batch", {"batchId": "{}"}),
    ("ListTagsForResource", "run", {"resourceArn": ARN + "run/{}"}),
    ("ListTagsForResource", "workflow", {"resourceArn": ARN + "workflow/{}"}),
    ("ListTagsForResource", "batch", {"resourceArn": ARN + "runBatch/{}"}),
    ("ListWorkflowVersions", "workflow", {"workflowId": "{}"}),
    ("StartRun", "workflow", {"workflowId": "{}", **OUTPUT, "requestId": "w{}"}),
    ("StartRun", "workflow", {"workflowId": "{}", "workflowOwnerId": ACCOUNT, **OUTPUT, "requestId": "o{}"}),
    ("StartRun", "run", {"runId": "{}", **OUTPUT, "requestId": "r{}"}),
    ("StartRunBatch", "workflow", _batch(workflowId="{}")),
    ("StartRunBatch", "workflow", _batch(workflowId="{}", workflowOwnerId=ACCOUNT)),
    ("TagResource", "run", {"resourceArn": ARN + "run/{}", "tags": {"a": "b"}}),
    ("TagResource", "group", {"resourceArn": ARN + "runGroup/{}", "tags": {"a": "b"}}),
    ("UntagResource", "cache", {"resourceArn": ARN + "runCache/{}", "tagKeys": ["a"]}),
    ("UpdateRunCache", "cache", {"id": "{}", "name": "x"}),
    ("UpdateRunGroup", "group", {"id": "{}", "name": "x"}),
    ("UpdateWorkflow", "workflow", {"id": "{}", "name": "x"}),
    ("UpdateWorkflowVersion", "workflow", {"workflowId": "{}", "versionName": "v1", "description": "x"}),
)  # fmt: skip
"""Operation, the kind of thing it is about, and a request with `{}` where the thing's id goes."""


def with_id(value: Any, identifier: str) -> Any:
    """A request, the id in its place."""
    if isinstance(value, str):
        return value.replace("{}", identifier)
    if isinstance(value, Mapping):
        return {name: with_id(item, identifier) for name, item in value.items()}
    if isinstance(value, list):
        return [with_id(item, identifier) for item in value]
    return value


def missing(kind: str) -> str:
    """An id of this kind that nothing has."""
    return MISSING_SHARE if kind == "share" else MISSING


@dataclass(frozen=True, slots=True)
class Pair:
    """Median microseconds of one case's answers."""

    case: str
    foreign_us: float
    missing_us: float

    @property
    def ratio(self) -> float:
        """The slower to the faster, at least 1."""
        low, high = sorted((self.foreign_us, self.missing_us))
        return high / low


def compare(
    ask: Callable[[str, Mapping[str, Any]], object], owned: Mapping[str, str], cases: Sequence[Any], rounds: int
) -> list[Pair]:
    """Ask each case `rounds` times for an id of another account and for one of nothing, in turn, each first half of the time."""
    pairs = []
    for operation, kind, request in cases:
        asked = [with_id(request, owned[kind]), with_id(request, missing(kind))]
        took: list[list[int]] = [[], []]
        for number in range(rounds):
            for which in ((0, 1), (1, 0))[number % 2]:
                began = time.perf_counter_ns()
                ask(operation, asked[which])
                took[which].append(time.perf_counter_ns() - began)
        foreign_us, missing_us = (statistics.median(values) / 1000 for values in took)
        pairs.append(Pair(f"{operation} {kind}", foreign_us, missing_us))
    return pairs


def tell_apart(
    ask: Callable[[str, Mapping[str, Any]], object], owned: Mapping[str, str], rounds: int, tries: int = 3
) -> list[Pair]:
    """The cases whose times differ by more than `SLOWER` every time they are tried: a busy machine does that once, not thrice."""
    suspects: list[Any] = list(CASES)
    pairs: list[Pair] = []
    for _ in range(tries):
        pairs = compare(ask, owned, suspects, rounds)
        kept = [(case, pair) for case, pair in zip(suspects, pairs, strict=True) if pair.ratio > SLOWER]
        suspects, pairs = [case for case, _ in kept], [pair for _, pair in kept]
        if not suspects:
            break
    return pairs
