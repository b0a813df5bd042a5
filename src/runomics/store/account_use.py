"""What an account has stored, counted with each row instead of by walking them, and what may go to make room. Used inside a unit."""

from __future__ import annotations

from runomics.store import statements
from runomics.store.transaction import Tx

SQL = statements.load("account_use")


def add_stored_run(tx: Tx, account: str) -> int:
    """Count a run that is being inserted; how many runs the account has now."""
    stored: int = SQL.add_stored_run(tx, account=account)
    return stored


def add_stored_runs(tx: Tx, account: str, count: int) -> None:
    """Count runs that are being inserted."""
    SQL.add_stored_runs(tx, account=account, count=count)


def drop_stored_run(tx: Tx, account: str) -> None:
    """Count a run off: for clients it is gone."""
    SQL.drop_stored_run(tx, account=account)


def stored_runs(tx: Tx, account: str) -> int:
    """How many runs the account has, ended or not, without those with a delete wish."""
    stored: int | None = SQL.stored_runs(tx, account=account)
    return stored or 0


def removable_runs(tx: Tx, account: str, limit: int) -> list[int]:
    """Ended runs with retention mode REMOVE, the oldest first."""
    return [row[0] for row in SQL.removable_runs(tx, account=account, limit=limit)]
