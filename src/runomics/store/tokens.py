"""Request tokens: the first answer to an idempotent request, kept to be given again. Used inside the unit of the operation."""

from __future__ import annotations

from dataclasses import dataclass

from runomics.store import statements
from runomics.store.transaction import Tx


@dataclass(frozen=True, slots=True)
class TokenRow:
    """`body_hash` is of the request without its token, `answer` the JSON text that was answered."""

    body_hash: str
    answer: str


SQL = statements.load("tokens", token=TokenRow)


def find_token(tx: Tx, account: str, operation: str, token: str) -> TokenRow | None:
    """What was answered to this token of this account and operation."""
    row = SQL.find_token(tx, account=account, operation=operation, token=token)
    return None if row is None else TokenRow(*row)


def keep_token(tx: Tx, account: str, operation: str, token: str, *, body_hash: str, answer: str, now_ms: int) -> None:
    """Keep the answer. In the unit that does what was asked, so that both stand or fall together."""
    SQL.keep_token(
        tx, account=account, operation=operation, token=token, body_hash=body_hash, answer=answer, created_ms=now_ms
    )


def forget_tokens(tx: Tx, before_ms: int, limit: int) -> int:
    """Remove at most `limit` tokens made before `before_ms`; how many were."""
    removed: int = SQL.forget_tokens(tx, before_ms=before_ms, limit=limit)
    return removed
