"""The access keys that sign requests and the policies of those that have one, as the database has them. Server process.

A request looks keys up in plain dictionaries. Whoever adds or disables a key calls `reload`, which changes these in place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import structlog

from runomics.domain.policy import FULL_ACCESS, Policy, PolicyError, compiled, managed_name
from runomics.store.accounts import AccessKeyRow
from runomics.wire.signing import AccessKey

log = structlog.get_logger()


class KeyRing:
    """`keys` and `policies` are by key id. A key that may do everything has no policy here, and costs nothing."""

    def __init__(self, rows: Callable[[], Sequence[AccessKeyRow]]) -> None:
        """`rows` reads all keys of all accounts, active or not."""
        self.keys: dict[str, AccessKey] = {}
        self.policies: dict[str, Policy] = {}
        self._rows = rows
        self._lock = threading.Lock()
        self.reload()

    def reload(self) -> None:
        """Take over what the database has now. A policy is there before its key and goes after it."""
        with self._lock:
            usable = [(row, policy) for row in self._rows() if row.status == "ACTIVE" for policy in _policies(row)]
            self.policies.update({row.key_id: policy for row, policy in usable if policy is not None})
            fresh = {
                row.key_id: AccessKey(row.key_id, row.account, row.secret.encode(), row.principal_arn)
                for row, _ in usable
            }
            for gone in self.keys.keys() - fresh.keys():
                del self.keys[gone]
            self.keys.update(fresh)
            restricted = {row.key_id for row, policy in usable if policy is not None}
            for gone in self.policies.keys() - restricted:
                del self.policies[gone]


def _policies(row: AccessKeyRow) -> tuple[Policy | None, ...]:
    """The policy of a key, None for everything; nothing at all when it cannot be followed: such a key signs nothing."""
    if row.policy is None or managed_name(row.policy) == FULL_ACCESS:
        return (None,)
    try:
        return (compiled(row.policy),)
    except PolicyError as error:
        log.error("key.unusable", key_id=row.key_id, account=row.account, why=str(error))
        return ()
