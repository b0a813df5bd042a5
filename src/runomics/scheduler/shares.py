"""Does what was asked of a share: ACTIVATING becomes ACTIVE, DELETING becomes DELETED. A worker thread of the server."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from runomics.domain.share import ShareEvent, ShareStatus, advance
from runomics.store import catalog, shares
from runomics.store.database import Store, Tx

log = structlog.get_logger()

GONE = "The workflow is no longer there. Delete the share."


class Shares:
    """Moves shares. A share is a row and nothing else, so a step is one unit."""

    def __init__(self, store: Store, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    def step(self, row_id: int) -> None:
        """Bring the share with this row id where it was asked to go. Idempotent.

        Raises:
            StoreUnavailable: nothing was written; the share still waits.
        """
        now_ms = self._now_ms()
        moved = self._store.write(lambda tx: _move(tx, row_id, now_ms))
        if moved is not None:
            log.info("share.moved", share_id=moved[0], status=str(moved[1]))


def _move(tx: Tx, row_id: int, now_ms: int) -> tuple[str, ShareStatus] | None:
    share = shares.load_share(tx, row_id)
    if share is None:
        return None
    status, message = ShareStatus(share.status), None
    if status is ShareStatus.DELETING:
        event = ShareEvent.DELETED
    elif status is not ShareStatus.ACTIVATING:
        return None
    elif catalog.find_workflow(tx, share.account, share.workflow_id) is None:
        event, message = ShareEvent.FAILED, GONE
    else:
        event = ShareEvent.ACTIVATED
    to = advance(status, event)
    shares.apply_share(tx, share, to, now_ms=now_ms, status_message=message)
    return share.share_id, to
