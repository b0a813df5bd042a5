"""The guarded update: a row changes only if it still is what was read. Used by every room of the store, inside a unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runomics.store.transaction import Tx


def update_guarded(tx: Tx, table: str, values: Mapping[str, Any], *, row_id: int, revision: int, status: str) -> bool:
    """Set `values` and count the revision up, if revision and status are the given ones; False when they are not.

    The names in `values` come from the program, never from a client. What engines and tools say may hold U+0000, which PostgreSQL
    cannot: it is kept as U+FFFD. (Requests with it are refused before.)
    """
    kept = {
        column: value.replace("\0", "\ufffd") if value.__class__ is str and "\0" in value else value
        for column, value in values.items()
    }
    changes = "".join(f", {column} = :{column}" for column in values)
    text = (
        f"update {table} set revision = revision + 1{changes}"  # noqa: S608 - names are the program's own, values are bound
        " where id = :guard_id and revision = :guard_revision and status = :guard_status"
    )
    return tx.change(text, {**kept, "guard_id": row_id, "guard_revision": revision, "guard_status": status}) == 1


def require_known(columns: Iterable[str], known: frozenset[str], *, what: str) -> None:
    """Refuse columns that `what` may not set.

    Raises:
        ValueError: names them.
    """
    unknown = sorted(set(columns) - known)
    if unknown:
        raise ValueError(f"{what} cannot set {', '.join(unknown)}; it can set {', '.join(sorted(known))}")
