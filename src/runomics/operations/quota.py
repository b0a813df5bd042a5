"""The quotas of an account: how many things of a kind it may keep. Server process, inside the transaction that adds one.

Source: model (ServiceQuotaExceededException, 402); general reference, quotas (their names); assumed (the texts).
"""

from __future__ import annotations

from runomics.operations.caller import Caller
from runomics.store import runs
from runomics.store.database import Tx
from runomics.wire.errors import ServiceQuotaExceededException


def require_room(count: int, limit: int, what: str) -> None:
    """Refuse one more when there are `limit` already. `what`: "workflows. Delete one with DeleteWorkflow", without the full stop.

    Raises:
        ServiceQuotaExceededException: names the quota.
    """
    if count >= limit:
        raise ServiceQuotaExceededException(f"The account has reached its quota of {limit} {what}.")


def make_room_for_run(tx: Tx, caller: Caller, *, stored: int, retention_mode: str) -> None:
    """After the insertion of a run that made them `stored`, more than the quota: the oldest ended REMOVE runs go for a REMOVE run.

    An account that has far too many, since its quota was lowered, comes down with each new run.

    Source: guide, run-retention; assumed: a run that has not ended never goes; a RETAIN run takes nobody's place.

    Raises:
        ServiceQuotaExceededException: nobody may go.
    """
    limit = caller.site.limits.stored_runs
    if retention_mode == "REMOVE" and runs.make_room(tx, caller.account, stored - limit, caller.now_ms):
        return
    raise ServiceQuotaExceededException(
        f"The account has reached its quota of {limit} runs (active or inactive). Delete some with DeleteRun; a run with "
        "retentionMode REMOVE takes the place of the oldest that has ended and has that mode too."
    )
