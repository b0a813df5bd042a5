"""Calls as the audit log has them, made of what the edge saw. Part of the composition root; server process.

What runs in the loop only picks up what is there; resources are named later, on the log's own thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runomics.logs.audit import AuditLog, Call
from runomics.operations.access import TABLE, Named, resources
from runomics.wire.asgi import Audit
from runomics.wire.signing import AccessKey

NAMING = (
    "batchId",
    "defaultRunSetting",
    "id",
    "name",
    "resourceArn",
    "runId",
    "shareId",
    "taskId",
    "type",
    "versionName",
    "workflowId",
    "workflowOwnerId",
    "workflowType",
)
"""Members that name resources. Of a large request only these are kept until its line is written."""

SMALL_REQUEST = 4
SHOWN_LETTERS = 512


def auditing(log: AuditLog) -> Audit:
    """What the edge calls after each call to an operation."""
    add, now_ns = log.add, time.time_ns

    def audit(
        operation: str, seen: Sequence[Any], answer: Mapping[str, Any] | None, outcome: str, request_id: str
    ) -> None:
        if not seen:
            add(Call(now_ns(), None, None, None, operation, None, outcome, request_id))
            return
        caller = seen[0]
        request: Mapping[str, Any] = seen[1] if len(seen) > 1 else {}
        if len(request) > SMALL_REQUEST:
            request = {name: request[name] for name in NAMING if name in request}
        made = answer.get("arn") if answer is not None else None
        add(
            Call(
                now_ns(),
                caller.principal_arn,
                caller.account,
                caller.access_key_id,
                operation,
                (request, made),
                outcome,
                request_id,
            )
        )

    return audit


def page_call(key: AccessKey, what: str, path: str, outcome: str) -> Call:
    """A call to a page of the operator's."""
    return Call(time.time_ns(), key.principal_arn, key.account, key.key_id, what, path, outcome, "")


def resource_of(region: str) -> Callable[[Call], str | None]:
    """What a call was about: the ARN of what it made, else the resources it is authorized on; a page's path."""

    def describe(call: Call) -> str | None:
        if isinstance(call.subject, str) or call.subject is None:
            return call.subject
        request, made = call.subject
        if isinstance(made, str):
            return made
        if call.operation is None or call.operation not in TABLE or call.account is None:
            return None
        return " ".join(resources(call.operation, Named(region, call.account, request)))[:SHOWN_LETTERS]

    return describe
