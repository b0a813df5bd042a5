"""The SQLite database of the server process: who reads on which connection, who writes, and what a unit of work may rely on.

Reads run where they are called (inline in the event loop, or in a thread of the service); every write is a unit of the
group-commit writer. Operations and steps never see which.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from runomics.store.dialect import SQLITE, free_pages, next_id, next_ids, shrink
from runomics.store.migrate import migrate
from runomics.store.sqlite_errors import translated
from runomics.store.transaction import Duplicate, OnWake, Overloaded, Store, StoreUnavailable, Tx
from runomics.store.writer import Writer

__all__ = [
    "Duplicate",
    "OnWake",
    "Overloaded",
    "SqliteStore",
    "Store",
    "StoreUnavailable",
    "Tx",
    "connect",
    "free_pages",
    "next_id",
    "next_ids",
    "shrink",
]

T = TypeVar("T")

BUSY_SECONDS = 10.0
"""How long to wait for another process: an operator's command, a server that is migrating."""
WAL_KEPT_BYTES = 64 << 20
"""What is left of the write-ahead log after a burst."""
POOL_READERS = 2
STATEMENTS_KEPT = 256


class SqliteStore:
    """Opens (and migrates) the database at `path`. One per process, one serving process per database.

    `reads` says where requests read: "loop" (inline, right for any local disk) or "pool" (two threads, for a slow disk, where a
    page that is not cached would hold the loop for 15 ms and more). `queue_limit` bounds the requests that wait to write.
    `cache_kib` is the page cache of each connection.

    Raises:
        NewerDatabase: made by a newer program. StoreUnavailable: cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_wake: OnWake | None = None,
        reads: Literal["loop", "pool"] = "loop",
        queue_limit: int = 1000,
        cache_kib: int = 4096,
    ) -> None:
        self.path = path
        self._cache_kib = cache_kib
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False
        self._pool = ThreadPoolExecutor(POOL_READERS, "store-reader") if reads == "pool" else None
        try:
            connection = connect(path, cache_kib=cache_kib)
        except sqlite3.Error as error:
            raise translated(error) from None
        try:
            migrate(connection)
            self._writer = Writer(connection, dialect=SQLITE, queue_limit=queue_limit, on_wake=on_wake)
        except BaseException:
            connection.close()
            raise

    def reading(self, work: Callable[[Tx], T]) -> Awaitable[T]:
        """The edge's way to read. Everything committed before the call is seen."""
        if self._pool is None:
            return self._read_inline(work)
        return asyncio.get_running_loop().run_in_executor(self._pool, self.read, work)

    def writing(self, work: Callable[[Tx], T]) -> Awaitable[T]:
        """The edge's way to write: the result, or the unit's error, once the commit is on the disk.

        Raises:
            Overloaded: the queue is full, nothing was done. StoreUnavailable: nothing was kept. Duplicate: nothing was kept.
        """
        return self._writer.submit_from_loop(work)

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` here, on a connection of its own that cannot write. Several statements may see several moments.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._open_reader()
        try:
            return work(Tx(connection, SQLITE, wakes=None))
        except sqlite3.Error as error:
            seen = translated(error)
            if seen is error:
                raise
            raise seen from error
        finally:
            self._idle.append(connection)
            if self._closed:
                self._close_readers()

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` as a unit of the writer and wait until it is durable. Never from a unit, never from the loop.

        Raises:
            StoreUnavailable, Duplicate: nothing was kept. What `work` raises.
        """
        return self._writer.submit(work).result()

    def submit(self, work: Callable[[Tx], T]) -> Future[T]:
        """As `write`, without waiting."""
        return self._writer.submit(work)

    def submit_unhurried(self, work: Callable[[Tx], T]) -> Future[T]:
        """As `submit`, for what nobody waits for: it may become durable a few milliseconds later, in the order of submission."""
        return self._writer.submit_unhurried(work)

    def set_on_wake(self, callback: OnWake | None) -> None:
        """Who is told, on the writer's thread after each commit, which (kind, id) pairs its units woke. Must be quick."""
        self._writer.on_wake = callback

    def close(self) -> None:
        """Finish the queued units, then close every connection. Idempotent."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown()
        self._writer.close()
        self._close_readers()

    async def _read_inline(self, work: Callable[[Tx], T]) -> T:
        return self.read(work)

    def _open_reader(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            connection = connect(self.path, cache_kib=self._cache_kib)
            connection.execute("pragma query_only = 1")
        except sqlite3.Error as error:
            raise translated(error) from None
        return connection

    def _close_readers(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return


def connect(path: Path, *, cache_kib: int = 4096) -> sqlite3.Connection:
    """A connection in autocommit, with the settings that make a commit durable; makes the file (mode 0600) when there is none.

    Raises:
        sqlite3.Error: not a database, or not usable.
    """
    # It holds secret keys; SQLite gives its companions (-wal, -shm) the same mode. An existing file must not be opened here: closing
    # any descriptor of it would drop the locks that this process's other connections hold.
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS_KEPT
    )
    try:
        _lay_out(connection)
        connection.execute("pragma synchronous = full")
        connection.execute(f"pragma journal_size_limit = {WAL_KEPT_BYTES}")
        connection.execute(f"pragma cache_size = {-cache_kib}")
        connection.execute("pragma temp_store = memory")
    except BaseException:
        connection.close()
        raise
    return connection


def _lay_out(connection: sqlite3.Connection) -> None:
    """Make an empty file a database that can shrink, and any one log ahead; both last and cost nothing the next time."""
    # Only while there is no page yet: on a database in use this would be a write.
    if connection.execute("pragma page_count").fetchone() == (0,):
        connection.execute("pragma auto_vacuum = incremental")
    pause = threading.Event()
    waited_seconds = 0.0
    while True:
        try:
            connection.execute("pragma journal_mode = wal").fetchone()
        except sqlite3.OperationalError as error:
            # SQLite does not wait for another process that does the same in this moment, so we do.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or waited_seconds > BUSY_SECONDS:
                raise
            pause.wait(0.01)
            waited_seconds += 0.01
        else:
            return
