"""The outbox: one row per status change, written in the unit that changes it, removed some time after every sink took it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runomics.store import statements
from runomics.store.transaction import Tx


@dataclass(frozen=True, slots=True)
class EventRow:
    """A resource came into `status` at `at_ms`. `seq` ascends per resource; `detail` is JSON text. `delivered_ms` None: not yet."""

    id: int
    account: str
    kind: str
    resource_id: str
    status: str
    seq: int
    at_ms: int
    detail: str
    delivered_ms: int | None = None


SQL = statements.load("events", event=EventRow)


def add_event(
    tx: Tx, *, account: str, kind: str, resource_id: int, status: str, seq: int, at_ms: int, detail: str
) -> None:
    """Add to the outbox; `seq` is the revision of the row that changed."""
    SQL.add_event(
        tx, account=account, kind=kind, resource_id=str(resource_id), status=status, seq=seq, at_ms=at_ms, detail=detail
    )


def undelivered(tx: Tx, limit: int) -> list[EventRow]:
    """The oldest events that not every sink took. Ask again after `mark_delivered`; never by the last id seen.

    On PostgreSQL a lower id may commit after a higher one; of one resource the order holds.
    """
    return [EventRow(*row) for row in SQL.undelivered(tx, limit=limit)]


def mark_delivered(tx: Tx, ids: Sequence[int], now_ms: int) -> None:
    """Every sink took these."""
    SQL.mark_delivered(tx, [{"id": event, "now_ms": now_ms} for event in ids])


def forget_events(tx: Tx, before_ms: int, limit: int) -> int:
    """Remove at most `limit` events delivered before `before_ms`; how many were."""
    removed: int = SQL.forget_events(tx, before_ms=before_ms, limit=limit)
    return removed
