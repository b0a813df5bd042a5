"""Rows of run caches: what CreateRunCache inserts and what clients read. Used inside a unit."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from runomics.store import statements
from runomics.store.pages import Listing, page
from runomics.store.transaction import Tx

KIND = "run-cache"
"""What a cache is called in counters."""


@dataclass(frozen=True, slots=True)
class CacheRow:
    """A row of `run_cache` (the migration says what each column is). `tags`: JSON text."""

    id: int
    account: str
    uuid: str
    name: str | None
    description: str | None
    cache_behavior: str
    cache_s3_uri: str
    cache_bucket_owner_id: str
    tags: str
    created_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCache:
    """What CreateRunCache decides."""

    id: int
    account: str
    uuid: str
    name: str | None = None
    description: str | None = None
    cache_behavior: str
    cache_s3_uri: str
    cache_bucket_owner_id: str
    tags: str = "{}"
    created_ms: int


COLUMNS = statements.columns(CacheRow)
SQL = statements.load("caches", cache=CacheRow)
_LISTING = Listing(
    table="run_cache",
    columns=COLUMNS,
    always="account = :account",
    indexed=frozenset({frozenset()}),
    texts=frozenset(),
)


def insert_cache(tx: Tx, new: NewCache) -> None:
    """Insert a cache."""
    SQL.insert_cache(tx, **asdict(new))


def find_cache(tx: Tx, account: str, cache_id: int) -> CacheRow | None:
    """The account's cache; None when it is another's or missing."""
    row = SQL.find_cache(tx, account=account, id=cache_id)
    return None if row is None else CacheRow(*row)


def list_caches(tx: Tx, account: str, *, after_id: int, limit: int) -> tuple[list[CacheRow], int | None]:
    """A page of the account's caches, ascending by id, and the id to go on after, None at the end."""
    rows, next_id = page(tx, _LISTING, scope={"account": account}, filters={}, after_id=after_id, limit=limit)
    return [CacheRow(*row) for row in rows], next_id


def count_caches(tx: Tx, account: str) -> int:
    """How many caches the account has."""
    count: int = SQL.count_caches(tx, account=account)
    return count


def update_cache(
    tx: Tx,
    cache: CacheRow,
    *,
    name: str | None = None,
    description: str | None = None,
    cache_behavior: str | None = None,
) -> None:
    """Change what is given."""
    SQL.update_cache(
        tx, account=cache.account, id=cache.id, name=name, description=description, cache_behavior=cache_behavior
    )


def find_open_run(tx: Tx, cache_id: int) -> int | None:
    """A run that names the cache and has not ended."""
    run_id: int | None = SQL.open_run_with_cache(tx, id=cache_id)
    return run_id


def delete_cache(tx: Tx, cache: CacheRow) -> None:
    """Remove the cache. The caller has seen that no open run names it; ended ones go on naming it."""
    SQL.delete_cache(tx, account=cache.account, id=cache.id)
