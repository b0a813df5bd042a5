"""What SQLite's errors mean for the callers of the store. Used by its SQLite side, in whatever thread a unit runs."""

from __future__ import annotations

import sqlite3

from runomics.store.transaction import Duplicate, StoreUnavailable

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
