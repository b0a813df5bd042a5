"""Rows of shares: offers of workflows to other accounts, seen from both sides. Used inside a unit.

A share belongs to its owner; the subscriber sees and may move it too, so what operations ask for takes the account of either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import orjson

from runomics.domain.share import ShareEvent, ShareStatus, advance
from runomics.store import statements
from runomics.store.events import add_event
from runomics.store.guard import update_guarded
from runomics.store.pages import WALK
from runomics.store.transaction import Tx

KIND = "share"
"""What a share is called in counters, wakes and events; the id there is the row's."""


@dataclass(frozen=True, slots=True)
class ShareRow:
    """A row of `share`, column by column (the migration says what each is). `account` is the owner's."""

    id: int
    account: str
    share_id: str
    share_name: str | None
    workflow_id: int
    resource_arn: str
    principal_subscriber: str
    status: str
    status_message: str | None
    revision: int
    created_ms: int
    updated_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewShare:
    """What CreateShare decides. It begins as PENDING."""

    id: int
    account: str
    share_id: str
    share_name: str | None = None
    workflow_id: int
    resource_arn: str
    principal_subscriber: str
    created_ms: int


COLUMNS = statements.columns(ShareRow)
SQL = statements.load("shares", share=ShareRow)


# ---- for operations ----------------------------------------------------------------------------------------------


def insert_share(tx: Tx, new: NewShare) -> None:
    """Insert a PENDING share and its events. Nothing moves it before its subscriber accepts it.

    Raises:
        Duplicate: a live share of the workflow with this subscriber exists.
    """
    SQL.insert_share(tx, **asdict(new))
    _add_events(tx, new, status=ShareStatus.PENDING, seq=1, at_ms=new.created_ms, status_message=None)


def find_share(tx: Tx, account: str, share_id: str) -> ShareRow | None:
    """The share that the account owns or is offered; None when it is neither, or there is none."""
    row = SQL.find_share(tx, account=account, share_id=share_id)
    return None if row is None else ShareRow(*row)


def find_live_share(tx: Tx, owner: str, workflow_id: int, subscriber: str) -> ShareRow | None:
    """The one live share of the owner's workflow with this subscriber; live is whatever is not in `domain.share.LET_GO`."""
    row = SQL.live_share(tx, account=owner, workflow_id=workflow_id, principal_subscriber=subscriber)
    return None if row is None else ShareRow(*row)


def may_use(tx: Tx, owner: str, workflow_id: int, subscriber: str) -> bool:
    """Whether the owner's workflow is shared with the subscriber now."""
    share = find_live_share(tx, owner, workflow_id, subscriber)
    return share is not None and share.status == ShareStatus.ACTIVE


def count_live_shares(tx: Tx, owner: str, workflow_id: int) -> int:
    """With how many accounts the owner's workflow is shared, or about to be."""
    count: int = SQL.count_live_shares(tx, account=owner, workflow_id=workflow_id)
    return count


def owned_shares(
    tx: Tx, account: str, *, after_id: int, limit: int, wanted: Callable[[ShareRow], bool] | None = None
) -> tuple[list[ShareRow], int | None]:
    """A page of the shares of the account's workflows, ascending by id, and the id to go on after, None at the end.

    With `wanted`, at most `WALK` shares are looked at for a page, which then may be short or empty.
    """
    rows = SQL.shares_of_owner(tx, account=account, after_id=after_id, limit=_looked_at(limit, wanted))
    return _page(rows, limit, wanted)


def offered_shares(
    tx: Tx, account: str, *, after_id: int, limit: int, wanted: Callable[[ShareRow], bool] | None = None
) -> tuple[list[ShareRow], int | None]:
    """The same for the shares that other accounts have with this one."""
    rows = SQL.shares_with_subscriber(tx, account=account, after_id=after_id, limit=_looked_at(limit, wanted))
    return _page(rows, limit, wanted)


def wish_accept(tx: Tx, share: ShareRow, now_ms: int) -> ShareStatus | None:
    """Note that the subscriber accepted, and wake the scheduler; the status that says so, None when the share changed meanwhile.

    Raises:
        IllegalShareTransition: it is not PENDING.
    """
    return _wish(tx, share, ShareEvent.ACCEPTED, now_ms)


def wish_delete(tx: Tx, share: ShareRow, now_ms: int) -> ShareStatus | None:
    """The same for the wish of either side that it end; from here on nothing can be done with it.

    Raises:
        IllegalShareTransition: it has ended already.
    """
    return _wish(tx, share, ShareEvent.DELETE_REQUESTED, now_ms)


# ---- for the scheduler -------------------------------------------------------------------------------------------


def load_share(tx: Tx, row_id: int) -> ShareRow | None:
    """Any account's share."""
    row = SQL.load_share(tx, id=row_id)
    return None if row is None else ShareRow(*row)


def moving_shares(tx: Tx) -> list[int]:
    """Ids of the rows that wait for the scheduler, the oldest first."""
    return [row[0] for row in SQL.moving_shares(tx)]


def apply_share(
    tx: Tx, share: ShareRow, status: ShareStatus, *, now_ms: int, status_message: str | None = None
) -> bool:
    """Give `share`, as it was read, its `status`; False, and nothing changed, when it changed meanwhile. Events for both sides."""
    values = {"status": str(status), "status_message": status_message, "updated_ms": now_ms}
    if not update_guarded(tx, "share", values, row_id=share.id, revision=share.revision, status=share.status):
        return False
    _add_events(tx, share, status=status, seq=share.revision + 1, at_ms=now_ms, status_message=status_message)
    return True


def forget_shares(tx: Tx, before_ms: int, limit: int) -> int:
    """Remove at most `limit` shares DELETED before `before_ms`; how many were."""
    removed: int = SQL.forget_shares(tx, before_ms=before_ms, limit=limit)
    return removed


# ---- pieces ------------------------------------------------------------------------------------------------------


def _wish(tx: Tx, share: ShareRow, event: ShareEvent, now_ms: int) -> ShareStatus | None:
    to = advance(ShareStatus(share.status), event)
    if not apply_share(tx, share, to, now_ms=now_ms):
        return None
    tx.wake(KIND, share.id)
    return to


def _looked_at(limit: int, wanted: Callable[[ShareRow], bool] | None) -> int:
    return limit + 1 if wanted is None else WALK


def _page(
    rows: list[tuple[object, ...]], limit: int, wanted: Callable[[ShareRow], bool] | None
) -> tuple[list[ShareRow], int | None]:
    shares = [ShareRow(*row) for row in rows]  # type: ignore[arg-type]
    found = shares if wanted is None else [share for share in shares if wanted(share)]
    if len(found) > limit:
        return found[:limit], found[limit - 1].id
    walked_on = wanted is not None and len(shares) == WALK
    return found, shares[-1].id if walked_on else None


def _add_events(
    tx: Tx, share: ShareRow | NewShare, *, status: ShareStatus, seq: int, at_ms: int, status_message: str | None
) -> None:
    """One for each side. Source: guide, eventbridge (both accounts are told)."""
    detail = {
        "shareId": share.share_id,
        "shareName": share.share_name,
        "resourceArn": share.resource_arn,
        "ownerId": share.account,
        "principalSubscriber": share.principal_subscriber,
        "statusMessage": status_message,
    }
    text = orjson.dumps({name: value for name, value in detail.items() if value is not None}).decode()
    for account in (share.account, share.principal_subscriber):
        add_event(
            tx,
            account=account,
            kind=KIND,
            resource_id=share.id,
            status=str(status),
            seq=seq,
            at_ms=at_ms,
            detail=text,
        )
