"""Which database a server has: the file in its DATA, or the PostgreSQL database it is given. Read when a store is opened.

What PostgreSQL needs is imported here alone, and only for a server that has one: it would cost every other a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from runomics.store.database import SqliteStore
from runomics.store.transaction import Store, StoreUnavailable

FILE_NAME = "database.sqlite"


class Lock(Protocol):
    """What keeps other servers away until it is released."""

    def release(self) -> None: ...


def open_store(data: Path, url: str | None, *, connections: int) -> Store:
    """The store of the server on `data`; `url` (postgresql://…) names its database, None the file in `data`.

    Raises:
        NewerDatabase: made by a newer program. StoreUnavailable: cannot be opened.
    """
    if url is None:
        return SqliteStore(data / FILE_NAME)
    from runomics.store.postgresql import PostgresqlStore  # noqa: PLC0415 - see above

    return PostgresqlStore(url, connections=connections)


def try_out(url: str) -> str:
    """The version of the PostgreSQL server at `url`, which is fit; changes nothing.

    Raises:
        StoreUnavailable: it cannot be reached, or is too old, or its encoding is not UTF8.
    """
    from runomics.store import postgresql  # noqa: PLC0415 - see above

    return postgresql.try_out(url)


def lock_database(url: str, *, lost: Callable[[], None]) -> Lock | None:
    """Take the lock of the one active scheduler of a PostgreSQL database; None while another server has it.

    `lost` is called, on a thread of the lock's own, when it was lost to another server. A file in DATA is locked with DATA.

    Raises:
        StoreUnavailable: the database cannot be reached.
    """
    import psycopg  # noqa: PLC0415 - see above

    from runomics.store.postgresql_connection import translated  # noqa: PLC0415 - see above
    from runomics.store.postgresql_lock import DatabaseLock  # noqa: PLC0415 - see above

    lock = DatabaseLock(url, lost=lost)
    try:
        if lock.acquire():
            return lock
    except psycopg.Error as error:
        lock.release()
        seen = translated(error)
        raise (
            seen if isinstance(seen, StoreUnavailable) else StoreUnavailable(f"the database cannot be used: {error}")
        ) from None
    lock.release()
    return None
