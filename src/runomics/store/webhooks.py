"""Rows of webhooks and of their queues: who is told of events, and of which each has not been told yet. Used inside a unit.

`WebhookQueues` puts the units together for the threads that deliver; it lives in the server process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from runomics.domain.event import StatusEvent, Topic, Webhook
from runomics.store import events, statements
from runomics.store.dialect import next_id, next_ids
from runomics.store.events import EventRow, run_detail
from runomics.store.transaction import Store, Tx

DEALT_AT_ONCE = 200
"""Events that one unit puts into the queues: what keeps it under 10 ms with several webhooks."""


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A row of `webhook`, column by column (the migration says what each is)."""

    id: int
    url: str
    account: str | None
    kinds: str
    secret: str
    created_ms: int
    failure: str | None = None
    failing_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """A row of `webhook_event`."""

    id: int
    webhook_id: int
    account: str
    kind: str
    resource_id: str
    status: str
    seq: int
    at_ms: int
    detail: str
    due_ms: int
    tries: int


SQL = statements.load("webhooks", webhook=WebhookRow, queued=QueuedRow)


# ---- webhooks ----------------------------------------------------------------------------------------------------


def add_webhook(
    tx: Tx, *, url: str, account: str | None, topics: frozenset[Topic], secret: str, now_ms: int
) -> Webhook:
    """A new webhook. It is told of what happens from now on."""
    webhook = Webhook(next_id(tx, "webhook"), url, account, topics, secret, now_ms)
    SQL.add_webhook(
        tx,
        id=webhook.id,
        url=url,
        account=account,
        kinds=orjson.dumps(sorted(topics)).decode(),
        secret=secret,
        created_ms=now_ms,
    )
    return webhook


def list_webhooks(tx: Tx) -> list[Webhook]:
    """All webhooks, the oldest first."""
    return [_webhook(WebhookRow(*row)) for row in SQL.list_webhooks(tx)]


def remove_webhook(tx: Tx, webhook_id: int) -> bool:
    """Whether there was such a webhook. Its queue is emptied by the clean-up."""
    return bool(SQL.remove_webhook(tx, id=webhook_id) == 1)


def count_waiting(tx: Tx, webhook_id: int) -> tuple[int, int | None]:
    """How many events the webhook has not taken yet, and since when the oldest waits (UTC epoch ms)."""
    row = SQL.count_waiting(tx, webhook_id=webhook_id)
    return (row[0], row[1])


# ---- queues ------------------------------------------------------------------------------------------------------


def deal(tx: Tx, rows: Sequence[EventRow], told: Sequence[str], now_ms: int) -> int:
    """Move events from the outbox into the queue of each webhook that wants them; how many came into queues.

    `told[i]` is the detail, JSON text, that goes with `rows[i]`.
    """
    webhooks = list_webhooks(tx)
    pairs = [
        (webhook.id, row, detail)
        for row, detail in zip(rows, told, strict=True)
        for webhook in webhooks
        if webhook.wants(account=row.account, kind=row.kind, at_ms=row.at_ms)
    ]
    if pairs:
        ids = next_ids(tx, "webhook-event", len(pairs))
        SQL.queue_events(
            tx,
            [
                {
                    "id": queued_id,
                    "webhook_id": webhook_id,
                    "account": row.account,
                    "kind": row.kind,
                    "resource_id": row.resource_id,
                    "status": row.status,
                    "seq": row.seq,
                    "at_ms": row.at_ms,
                    "detail": detail,
                    "due_ms": now_ms,
                }
                for queued_id, (webhook_id, row, detail) in zip(ids, pairs, strict=True)
            ],
        )
    events.drop_events(tx, rows)
    return len(pairs)


def due_events(tx: Tx, webhook_id: int, now_ms: int, limit: int) -> list[StatusEvent]:
    """What the webhook may be told now: of each resource the first event it has not taken."""
    rows = (QueuedRow(*row) for row in SQL.due_events(tx, webhook_id=webhook_id, now_ms=now_ms, limit=limit))
    return [
        StatusEvent(
            row.id,
            row.account,
            row.kind,
            row.resource_id,
            row.status,
            row.seq,
            row.at_ms,
            orjson.loads(row.detail),
            row.tries,
        )
        for row in rows
    ]


def settle(tx: Tx, webhook_id: int, taken: Sequence[int], held: Sequence[tuple[StatusEvent, int]]) -> None:
    """Note what became of events: `taken` by their ids; `held` with the time (UTC epoch ms) before which its resource waits."""
    SQL.take_events(tx, [{"id": number} for number in taken])
    SQL.hold_resources(
        tx,
        [
            {"webhook_id": webhook_id, "kind": event.kind, "resource_id": event.resource_id, "due_ms": due_ms}
            for event, due_ms in held
        ],
    )


def give_up(tx: Tx, before_ms: int, limit: int) -> list[int]:
    """Drop at most `limit` events from before `before_ms` that were never taken; the webhook of each."""
    return [row[0] for row in SQL.give_up(tx, before_ms=before_ms, limit=limit)]


def drop_orphans(tx: Tx, limit: int) -> int:
    """Drop at most `limit` events from the queues of webhooks that are gone; how many were."""
    there = {webhook.id for webhook in list_webhooks(tx)}
    dropped = 0
    for webhook_id in _queues(tx):
        if webhook_id not in there and dropped < limit:
            dropped += SQL.drop_queue(tx, webhook_id=webhook_id, limit=limit - dropped)
    return dropped


class WebhookQueues:
    """ports.EventQueues on the store. Every method may be called from any thread; none is called from a unit."""

    def __init__(self, store: Store, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    def webhooks(self) -> list[Webhook]:
        return self._store.read(list_webhooks)

    def deal(self) -> int:
        rows, told = self._store.read(_fresh)
        if rows:
            self._store.submit_unhurried(lambda tx: deal(tx, rows, told, self._now_ms())).result()
        return len(rows)

    def due(self, webhook_id: int, now_ms: int, limit: int) -> list[StatusEvent]:
        return self._store.read(lambda tx: due_events(tx, webhook_id, now_ms, limit))

    def next_due_ms(self, webhook_id: int) -> int | None:
        due_ms: int | None = self._store.read(lambda tx: SQL.next_due_ms(tx, webhook_id=webhook_id))
        return due_ms

    def settle(self, webhook_id: int, *, taken: Sequence[int], held: Sequence[tuple[StatusEvent, int]]) -> None:
        self._store.submit_unhurried(lambda tx: settle(tx, webhook_id, taken, held)).result()

    def note(self, webhook_id: int, failure: str | None, now_ms: int) -> None:
        if failure is None:
            change = partial(SQL.note_success, id=webhook_id)
        else:
            change = partial(SQL.note_failure, id=webhook_id, failure=failure, now_ms=now_ms)
        self._store.submit_unhurried(change).result()


# ---- pieces ------------------------------------------------------------------------------------------------------


def _webhook(row: WebhookRow) -> Webhook:
    topics = frozenset(Topic(kind) for kind in orjson.loads(row.kinds))
    return Webhook(row.id, row.url, row.account, topics, row.secret, row.created_ms, row.failure, row.failing_since_ms)


def _queues(tx: Tx) -> Iterator[int]:
    """The webhooks, gone or not, that have a queue: one look into the index for each."""
    found = SQL.next_queue(tx, after_id=-1)
    while found is not None:
        yield found
        found = SQL.next_queue(tx, after_id=found)


def _fresh(tx: Tx) -> tuple[list[EventRow], list[str]]:
    """Events that are in no queue yet, and the detail that each is told with."""
    rows = events.undelivered(tx, DEALT_AT_ONCE)
    # A run that is deleted at once may be gone before its first events are looked at; its last one says what it was.
    runs: dict[str, Mapping[str, Any]] = {
        row.resource_id: orjson.loads(row.detail) for row in rows if row.kind == "run" and row.status == "DELETED"
    }
    return rows, [_told(tx, row, runs) for row in rows]


def _told(tx: Tx, row: EventRow, runs: dict[str, Mapping[str, Any]]) -> str:
    """The detail of the event with what only the row of its run knows, while that is there. `runs` are those known already."""
    if row.kind not in ("run", "task"):
        return row.detail
    detail = orjson.loads(row.detail)
    run_id = row.resource_id if row.kind == "run" else detail["runId"]
    if run_id not in runs:
        found = SQL.run_told_of(tx, id=int(run_id))
        runs[run_id] = {} if found is None else run_detail(*found)
    run = dict(runs[run_id])
    if row.kind == "task":
        run["runUuid"] = run.pop("uuid", None)
    return orjson.dumps({**{name: value for name, value in run.items() if value is not None}, **detail}).decode()
