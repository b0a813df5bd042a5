"""The outbox: one row per status change, written in the unit that changes it, gone once it stands in the queues of the webhooks.

Where there is no webhook the clean-up removes it. So the table is short, and has no index that a run would have to pay for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runomics.store import statements
from runomics.store.transaction import Tx


@dataclass(frozen=True, slots=True)
class EventRow:
    """A resource came into `status` at `at_ms`. `seq` ascends per resource; `detail` is JSON text. `id` is used again later."""

    id: int
    account: str
    kind: str
    resource_id: str
    status: str
    seq: int
    at_ms: int
    detail: str


SQL = statements.load("events", event=EventRow)


def add_event(
    tx: Tx, *, account: str, kind: str, resource_id: int, status: str, seq: int, at_ms: int, detail: str
) -> None:
    """Add to the outbox; `seq` is the revision of the row that changed."""
    SQL.add_event(
        tx, account=account, kind=kind, resource_id=str(resource_id), status=status, seq=seq, at_ms=at_ms, detail=detail
    )


def add_events(tx: Tx, new: Sequence[dict[str, Any]]) -> None:
    """`add_event` for many at once, each as its arguments."""
    statements.many(SQL.add_event, tx, [{**event, "resource_id": str(event["resource_id"])} for event in new])


def undelivered(tx: Tx, limit: int) -> list[EventRow]:
    """The oldest events that are in no queue yet. Ask again after `drop_events`; never by the last id seen.

    On PostgreSQL a lower id may commit after a higher one; of one resource the order holds.
    """
    return [EventRow(*row) for row in SQL.undelivered(tx, limit=limit)]


def drop_events(tx: Tx, events: Iterable[EventRow]) -> None:
    """Remove these, which now stand in the queues of all webhooks that want them."""
    SQL.drop_events(
        tx, [{"id": row.id, "kind": row.kind, "resource_id": row.resource_id, "seq": row.seq} for row in events]
    )


def forget_events(tx: Tx, limit: int) -> int:
    """Remove at most `limit` events that nobody will be told of, for want of any webhook; how many were."""
    removed: int = SQL.forget_events(tx, limit=limit)
    return removed


def run_detail(
    uuid: str, name: str | None, run_output_uri: str, workflow_id: int, workflow_name: str | None
) -> dict[str, Any]:
    """What is told of a run besides its status, whatever has no value left out."""
    detail = {
        "uuid": uuid,
        "runName": name,
        "runOutputUri": run_output_uri,
        "workflowId": str(workflow_id),
        "workflowName": workflow_name,
    }
    return {name: value for name, value in detail.items() if value is not None}
