"""The named statements of sql/*.sql as functions of a transaction. Loaded once, when a room of the store is imported.

A plain query returns a list: the generator that aiosql makes of it would not run, not even an `update … returning`, before somebody
iterates, and half read it would pin the write-ahead log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiosql
from aiosql.types import SQLOperationType

from runomics.store.transaction import Tx

FOLDER = Path(__file__).parent / "sql"


def load(name: str, **rows: type) -> SimpleNamespace:
    """The statements of sql/`name`.sql. `{run}` in the text stands for the columns of the dataclass given as `run`.

    `^` gives one row or None, `$` one value or None, `!` and `*!` the number of rows touched, a plain name a list of rows.
    """
    text = (FOLDER / f"{name}.sql").read_text()
    for placeholder, row in rows.items():
        text = text.replace(f"{{{placeholder}}}", ", ".join(columns(row)))
    queries = aiosql.from_str(text, "sqlite3")
    names = [query for query in queries.available_queries if not query.endswith("_cursor")]
    return SimpleNamespace(**{query: _function(getattr(queries, query)) for query in names})


def many(statement: Callable[..., Any], tx: Tx, values: Sequence[Mapping[str, Any]]) -> None:
    """Execute a `!` statement once for each of `values`."""
    tx.connection.executemany(statement.sql, values)  # type: ignore[attr-defined]


def columns(row: type) -> tuple[str, ...]:
    """The columns of the dataclass `row`, in its order. A trailing underscore only keeps a field's name from being a keyword."""
    return tuple(field.name.removesuffix("_") for field in fields(row))


def _function(query: Any) -> Callable[..., Any]:
    """Call `query` straight on the connection: aiosql has read and checked the text, its own call would copy the parameters twice."""
    text: str = query.sql

    def rows(tx: Tx, **values: Any) -> list[tuple[Any, ...]]:
        return tx.rows(text, values)

    def row(tx: Tx, **values: Any) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = tx.connection.execute(text, values).fetchone()
        return found

    def value(tx: Tx, **values: Any) -> Any:
        found = tx.connection.execute(text, values).fetchone()
        return None if found is None else found[0]

    def change(tx: Tx, **values: Any) -> int:
        return tx.change(text, values)

    def change_many(tx: Tx, values: list[dict[str, Any]]) -> int:
        return tx.connection.executemany(text, values).rowcount

    calls: dict[SQLOperationType, Callable[..., Any]] = {
        SQLOperationType.SELECT: rows,
        SQLOperationType.SELECT_ONE: row,
        SQLOperationType.SELECT_VALUE: value,
        SQLOperationType.INSERT_UPDATE_DELETE: change,
        SQLOperationType.INSERT_UPDATE_DELETE_MANY: change_many,
    }
    call = calls[query.operation]
    call.__name__ = query.__name__
    call.__doc__ = query.__doc__
    call.sql = text  # type: ignore[attr-defined]
    return call
