"""Buckets of the folder store and whose they are, and who else reads them. Used inside a unit, in the server process."""

from __future__ import annotations

from dataclasses import dataclass

from runomics.store import statements
from runomics.store.transaction import Tx

EVERYONE = "*"
"""Stands for every account among the readers of a bucket."""


@dataclass(frozen=True, slots=True)
class BucketRow:
    """A bucket that has an owner: the account it was made for, or the first that used it."""

    bucket: str
    account: str
    created_ms: int


SQL = statements.load("buckets", bucket=BucketRow)


def add_bucket(tx: Tx, row: BucketRow) -> None:
    """Raises: Duplicate (from the store): it has an owner already."""
    SQL.add_bucket(tx, bucket=row.bucket, account=row.account, created_ms=row.created_ms)


def claim_bucket(tx: Tx, row: BucketRow) -> None:
    """Make it the account's unless it is somebody's."""
    SQL.claim_bucket(tx, bucket=row.bucket, account=row.account, created_ms=row.created_ms)


def find_bucket(tx: Tx, bucket: str) -> BucketRow | None:
    """The bucket, None while nobody owns it."""
    row = SQL.find_bucket(tx, bucket=bucket)
    return None if row is None else BucketRow(*row)


def list_buckets(tx: Tx) -> list[BucketRow]:
    """All that have an owner, by name."""
    # By bytes, whatever order the database has for texts.
    return sorted((BucketRow(*row) for row in SQL.list_buckets(tx)), key=lambda row: row.bucket)


def open_bucket(tx: Tx, bucket: str, account: str, now_ms: int) -> None:
    """Let `account` (or EVERYONE) read it. Idempotent."""
    SQL.open_bucket(tx, bucket=bucket, account=account, created_ms=now_ms)


def is_open_to(tx: Tx, bucket: str, account: str) -> bool:
    """Whether an account that does not own it may read it."""
    return SQL.is_open_to(tx, bucket=bucket, account=account, everyone=EVERYONE) is not None


def list_readers(tx: Tx) -> dict[str, list[str]]:
    """Bucket → the accounts that may read it beside its owner."""
    readers: dict[str, list[str]] = {}
    for bucket, account in sorted(SQL.list_readers(tx)):
        readers.setdefault(bucket, []).append(account)
    return readers
