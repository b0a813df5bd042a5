"""What policies ask about resources that exist: their tags, the workflow a run ran. Server process, a read before authorization.

Read for keys alone whose policy asks for it. An account's own resources have tags; another's, and missing ones, have none: nobody
learns from a refusal whether they are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from runomics.domain.identity import MalformedName, number, parse_arn, workflow_arn
from runomics.operations.access import ResourceFacts
from runomics.store import caches, catalog, configurations, groups, runs, versions
from runomics.store.database import Tx

Read = Callable[[Callable[[Tx], Any]], Any]
"""`SqliteStore.read`."""


def facts_of(read: Read, region: str) -> ResourceFacts:
    """The facts as the store has them."""

    def tags(account: str, arn: str) -> Mapping[str, str]:
        row = read(lambda tx: _row(tx, account, arn))
        found: Mapping[str, str] = {} if row is None else orjson.loads(row.tags)
        return found

    def workflow_of_run(account: str, run_id: str) -> str | None:
        at = number(run_id)
        row = None if at is None else read(lambda tx: runs.find_run(tx, account, at))
        if row is None:
            return None
        owner = row.workflow_owner_id or account
        return workflow_arn(region, owner, row.workflow_id, row.workflow_type)

    return ResourceFacts(tags=tags, workflow_of_run=workflow_of_run)


def _row(tx: Tx, account: str, arn: str) -> Any:
    """The row that an ARN of the account names, None when it names none."""
    try:
        parts = parse_arn(arn)
    except MalformedName:
        return None
    if parts.account != account:
        return None
    kind, _, name = parts.resource.partition("/")
    if kind == "configuration":
        return configurations.find_configuration(tx, account, name)
    identifier, is_version, version_name = name.partition("/version/")
    at = number(identifier)
    if at is None:
        return None
    if is_version:
        return versions.find_version(tx, account, at, version_name) if kind == "workflow" else None
    find = _FINDERS.get(kind)
    return None if find is None else find(tx, account, at)


_FINDERS: Mapping[str, Callable[[Tx, str, int], Any]] = {
    "run": runs.find_run,
    "runCache": caches.find_cache,
    "runGroup": groups.find_group,
    "workflow": catalog.find_workflow,
}
"""Kind of a resource, as its ARN has it → the row with an id."""
