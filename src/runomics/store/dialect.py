"""Everything that the two databases do differently for a unit of work, in one place. Used inside a unit.

What differs for whoever runs units is in `database` and `postgresql`; in the schema, between `-- only: …` and `-- end`.
"""

from __future__ import annotations

from collections.abc import Sequence

from runomics.store.transaction import Tx

SQLITE = "sqlite"
POSTGRESQL = "postgresql"


def next_id(tx: Tx, kind: str) -> int:
    """An id of `kind` (run, task, workflow) that nobody else gets, durable with the unit.

    On PostgreSQL it comes from a sequence, since units run side by side there and would wait for one row: ids have gaps, and a
    smaller one may become visible after a larger one.

    Raises:
        KeyError: no such kind.
    """
    return next_ids(tx, kind, 1)[0]


def next_ids(tx: Tx, kind: str, count: int) -> Sequence[int]:
    """`count` ids of `kind`, ascending. On PostgreSQL others may have got what lies between them.

    Raises:
        KeyError: no such kind.
    """
    if tx.dialect == POSTGRESQL:
        return _from_sequence(tx, kind, count)
    row = tx.connection.execute(
        "update counter set value = value + :count where kind = :kind returning value", {"count": count, "kind": kind}
    ).fetchone()
    if row is None:
        raise _unknown(kind)
    return range(row[0] - count + 1, row[0] + 1)


def sequence_of(kind: str) -> str:
    """The name of the sequence that stands for the counter of `kind` on PostgreSQL."""
    return f"next_{kind.replace('-', '_')}"


def hold_account(tx: Tx, account: str) -> None:
    """Let no other unit of a request of this account run beside this one, to its end, so that what it looked up stays true.

    On SQLite no unit ever runs beside another.
    """
    if tx.dialect == POSTGRESQL:
        tx.connection.execute("select pg_advisory_xact_lock(:account)", {"account": int(account)})


def share_account(tx: Tx, account: str) -> None:
    """The same, but for units that say this too: many of them may run side by side."""
    if tx.dialect == POSTGRESQL:
        tx.connection.execute("select pg_advisory_xact_lock_shared(:account)", {"account": int(account)})


def free_pages(tx: Tx) -> tuple[int, int]:
    """How many pages (4 KiB each) of the database's file are empty, and how many it has.

    None on PostgreSQL, whose autovacuum finds and uses them again by itself.
    """
    if tx.dialect == POSTGRESQL:
        return 0, 0
    free: int = tx.connection.execute("pragma freelist_count").fetchone()[0]
    pages: int = tx.connection.execute("pragma page_count").fetchone()[0]
    return free, pages


def shrink(tx: Tx, pages: int = 256) -> int:
    """Give up to `pages` free pages (4 KiB each) back to the file system; how many are still free."""
    if tx.dialect == POSTGRESQL:
        return 0
    # Python's sqlite3 takes one step of a statement without columns, and one step of this one is one page.
    for _ in range(pages):
        tx.connection.execute("pragma incremental_vacuum(1)")
    left: int = tx.connection.execute("pragma freelist_count").fetchone()[0]
    return left


def _from_sequence(tx: Tx, kind: str, count: int) -> list[int]:
    values = {"name": sequence_of(kind), "count": count}
    text = "select nextval(to_regclass(:name)) from generate_series(1, :count)"
    ids = [row[0] for row in tx.connection.execute(text, values).fetchall()]
    if None in ids:
        raise _unknown(kind)
    return ids


def _unknown(kind: str) -> KeyError:
    return KeyError(f"there is no counter for {kind!r}")
