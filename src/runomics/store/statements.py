"""The named statements of sql/*.sql as functions of a transaction. Loaded once, when a room of the store is imported.

A plain query returns a list: the generator that aiosql makes of it would not run, not even an `update … returning`, before somebody
iterates, and half read it would pin the write-ahead log.
"""

from __future__ import annotations

from collections.abc import Callable
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


def columns(row: type) -> tuple[str, ...]:
    """The columns of the dataclass `row`, in its order. A trailing underscore only keeps a field's name from being a keyword."""
    return tuple(field.name.removesuffix("_") for field in fields(row))


def _function(query: Any) -> Callable[..., Any]:
    text: str = query.sql
    if query.operation is SQLOperationType.SELECT:

        def rows(tx: Tx, **values: Any) -> list[tuple[Any, ...]]:
            return tx.rows(text, values)

        return _named(rows, query)
    if query.operation is SQLOperationType.INSERT_UPDATE_DELETE_MANY:

        def many(tx: Tx, values: list[dict[str, Any]]) -> int:
            touched: int = query(tx.connection, values)
            return touched

        return _named(many, query)

    def call(tx: Tx, **values: Any) -> Any:
        return query(tx.connection, **values)

    return _named(call, query)


def _named(function: Callable[..., Any], query: Any) -> Callable[..., Any]:
    function.__name__ = query.__name__
    function.__doc__ = query.__doc__
    function.sql = query.sql  # type: ignore[attr-defined]
    return function
