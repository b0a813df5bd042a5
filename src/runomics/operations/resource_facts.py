"""What policies ask about resources that exist: their tags, the workflow a run ran. Server process, a read before authorization.

Read for keys alone whose policy asks for it. An account's own resources have tags; another's, and missing ones, have none: nobody
learns from a refusal whether they are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runomics.domain.identity import MalformedName, number, workflow_arn
from runomics.domain.tagged import parse_tagged
from runomics.operations.access import ResourceFacts
from runomics.store import runs
from runomics.store.database import Tx
from runomics.store.tags import find_tags

Read = Callable[[Callable[[Tx], Any]], Any]
"""`Store.read`."""


def facts_of(read: Read, region: str) -> ResourceFacts:
    """The facts as the store has them."""

    def tags(account: str, arn: str) -> Mapping[str, str]:
        try:
            thing = parse_tagged(arn)
        except MalformedName:
            return {}
        if (thing.region, thing.account) != (region, account):
            return {}
        return read(lambda tx: find_tags(tx, account, thing)) or {}

    def workflow_of_run(account: str, run_id: str) -> str | None:
        at = number(run_id)
        row = None if at is None else read(lambda tx: runs.find_run(tx, account, at))
        if row is None:
            return None
        return workflow_arn(region, row.workflow_owner_id or account, row.workflow_id, row.workflow_type)

    return ResourceFacts(tags=tags, workflow_of_run=workflow_of_run)
