"""The transaction a unit of work is handed, and what may go wrong with it. Runs in whatever thread the store runs the unit in."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

_STORAGE_CODES = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
_UNIQUE_CODES = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})
_PRIMARY_CODE = 0xFF


class Overloaded(Exception):
    """Too many writes wait already; nothing was queued. The edge answers ThrottlingException."""


class StoreUnavailable(Exception):
    """The database could not be written or read (disk full, I/O error, closed). Nothing of the unit was kept; a later one may work."""


class Duplicate(Exception):
    """A row with these values of `columns` ("table.column") exists already. Nothing of the unit was kept."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        super().__init__(f"a row with the same {', '.join(columns)} exists already")
        self.columns = columns


class Tx:
    """An open transaction: the connection, its dialect, and what the scheduler is to be told once it is durable.

    A unit uses it only while it runs; it neither commits nor rolls back.
    """

    __slots__ = ("connection", "dialect", "wakes")

    def __init__(self, connection: sqlite3.Connection, dialect: str, *, wakes: list[tuple[str, int]] | None) -> None:
        self.connection = connection
        self.dialect = dialect
        self.wakes = wakes

    def wake(self, kind: str, id: int) -> None:  # noqa: A002 - the column's name
        """Report (kind, id) to the store's `on_wake` after the commit, or never when the unit fails.

        Raises:
            RuntimeError: this transaction only reads.
        """
        if self.wakes is None:
            raise RuntimeError(f"a read cannot wake {kind} {id}: use a writing unit")
        self.wakes.append((kind, id))

    def rows(self, text: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of a composed statement with `:name` parameters."""
        return self.connection.execute(text, values).fetchall()

    def change(self, text: str, values: Mapping[str, Any]) -> int:
        """How many rows a composed insert, update or delete touched."""
        return self.connection.execute(text, values).rowcount


def is_storage_error(error: BaseException) -> bool:
    """Whether the database itself failed, rather than the unit."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & _PRIMARY_CODE in _STORAGE_CODES


def translated(error: BaseException) -> BaseException:
    """The error a caller of the store sees for `error`: no database's own exception for what callers can act on."""
    if is_storage_error(error):
        return StoreUnavailable(
            f"the database cannot be used now: {error}; free disk space or look at the disk, then try again"
        )
    if isinstance(error, sqlite3.IntegrityError) and error.sqlite_errorcode in _UNIQUE_CODES:
        return Duplicate(tuple(str(error).partition(": ")[2].split(", ")))
    return error
