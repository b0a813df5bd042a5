"""One connection to PostgreSQL, as a unit of work sees it, and what PostgreSQL's errors mean. Used in whatever thread a unit runs.

Imported only where a server is given a database: psycopg costs a tenth of a second of the start.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import errors
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper

from runomics.store.transaction import Cursor, Duplicate, StoreUnavailable

CONNECT_SECONDS = 5
"""How long to wait for a server that does not answer."""
SILENT_MS = 20_000
"""After how long a peer that does not acknowledge counts as gone; the kernel would wait for a quarter of an hour."""
STATEMENTS_PREPARED = 500
TOKEN_TABLE = "request_token"  # noqa: S105 - the name of a table

# What was answered is on the disk, whatever the server's own default.
_SESSION = """
set session characteristics as transaction isolation level read committed, {access};
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'
"""
_NAMED = re.compile(r"'[^']*'|:(\w+)")
_KEY = re.compile(r"\(([^()]*(?:\([^()]*\)[^()]*)*)\)=\(")
"""The columns of "Key (account, name)=(…) already exists.", in whatever language that is said."""


class PostgresqlConnection:
    """A connection in autocommit that takes the store's texts: parameters are `:name`, whole numbers are 64 bits, a bool is 0 or 1.

    One thread at a time. A statement's rows are to be fetched before the next statement.

    Raises:
        psycopg.Error: the server cannot be reached, or refuses.
    """

    __slots__ = ("_cursor", "_raw")

    def __init__(self, url: str, *, reads_only: bool = False, name: str = "runomics") -> None:
        self._raw = psycopg.connect(
            url,
            autocommit=True,
            prepare_threshold=2,
            cursor_factory=psycopg.RawCursor,
            connect_timeout=CONNECT_SECONDS,
            application_name=name,
            client_encoding="utf8",
            keepalives_idle=30,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=SILENT_MS,
        )
        try:
            self._raw.prepared_max = STATEMENTS_PREPARED
            self._raw.adapters.register_dumper(int, Int8Dumper)
            self._raw.adapters.register_dumper(bool, _Flag)
            self._raw.execute(_SESSION.format(access="read only" if reads_only else "read write").encode())
            self._cursor = psycopg.RawCursor(self._raw)
        except BaseException:
            self._raw.close()
            raise

    def execute(self, text: str, values: Mapping[str, Any] | None = None, /) -> Cursor:
        """Run one statement. Without values the text goes as it is, and may be several statements.

        Raises:
            psycopg.Error: the statement, or the connection, failed.
        """
        if values is None:
            return self._cursor.execute(text.encode(), prepare=False)
        query, names = numbered(text)
        return self._cursor.execute(query, [values[name] for name in names])

    def executemany(self, text: str, values: Iterable[Mapping[str, Any]], /) -> Cursor:
        """Run one statement once for each of `values`; `rowcount` is the sum."""
        query, names = numbered(text)
        self._cursor.executemany(query, [[one[name] for name in names] for one in values])
        return self._cursor

    def commit(self) -> None:
        """Commit what `execute("begin")` began.

        Raises:
            RuntimeError: the unit had ended it, or had gone on after a statement that failed. psycopg.Error: nobody knows.
        """
        if self._raw.info.transaction_status is not TransactionStatus.INTRANS:
            raise RuntimeError("a unit ended the transaction it was given, or went on after an error; units do neither")
        self._cursor.execute(b"commit", prepare=False)

    def roll_back(self) -> None:
        """End what was begun, if anything was and the connection still lives."""
        with contextlib.suppress(psycopg.Error):
            if self._raw.info.transaction_status is not TransactionStatus.IDLE:
                self._cursor.execute(b"rollback", prepare=False)

    @property
    def is_usable(self) -> bool:
        """Whether another unit may have it."""
        return not self._raw.closed and self._raw.info.transaction_status is TransactionStatus.IDLE

    def fileno(self) -> int:
        """For waiting until the server says something unasked, or goes away."""
        return self._raw.fileno()

    def close(self) -> None:
        """Idempotent."""
        self._raw.close()


class _Flag(Dumper):
    """True and False in the columns that hold 1 and 0."""

    oid = Int8Dumper.oid

    def dump(self, obj: bool) -> Buffer | None:
        return b"1" if obj else b"0"


@lru_cache(maxsize=4096)
def numbered(text: str) -> tuple[bytes, tuple[str, ...]]:
    """`text` with $1, $2, … for its `:name` parameters, and their names in that order."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found[1]
        return found[0] if name is None else f"${names.setdefault(name, len(names) + 1)}"

    query = _NAMED.sub(number, text)
    return query.encode(), tuple(names)


# ---- errors ------------------------------------------------------------------------------------------------------

_STORAGE_CLASSES = ("08", "53", "58", "XX")
"""Connection exceptions, insufficient resources, system errors, corrupted data."""
_STORAGE_STATES = frozenset(
    {
        "25006",  # read_only_sql_transaction: a stand-by took over, or the operator has it read only
        "25P03",  # idle_in_transaction_session_timeout
        "55P03",  # lock_not_available: lock_timeout
        "57014",  # query_canceled: statement_timeout
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "57P05",  # idle_session_timeout
    }
)


def is_storage_error(error: BaseException) -> bool:
    """Whether the database itself failed, or the way to it, rather than the unit."""
    if not isinstance(error, psycopg.Error):
        return False
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state.startswith(_STORAGE_CLASSES) or state in _STORAGE_STATES


def is_worth_repeating(error: BaseException) -> bool:
    """Whether the unit ran into another one, and would not if it ran again now.

    Two requests with one token are such: the one that comes second finds the first one's answer when it looks again.
    """
    if isinstance(error, errors.UniqueViolation):
        return error.diag.table_name == TOKEN_TABLE
    return isinstance(error, errors.SerializationFailure | errors.DeadlockDetected)


def translated(error: BaseException) -> BaseException:
    """The error a caller of the store sees for `error`: no database's own exception for what callers can act on."""
    if is_storage_error(error):
        return StoreUnavailable(f"the database cannot be used now: {' '.join(str(error).split())}")
    if isinstance(error, errors.UniqueViolation):
        key = _KEY.search(error.diag.message_detail or "")
        columns = "" if key is None else key[1]
        return Duplicate(
            tuple(f"{error.diag.table_name}.{column.strip().strip(chr(34))}" for column in columns.split(","))
        )
    return error
