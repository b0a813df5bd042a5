"""The PostgreSQL database of the server process: who reads and writes on which connection, and on which thread.

Each unit is a transaction of its own. What requests ask for runs on a pool of threads; what the service itself writes goes through one
thread, in the order of submission, as it would through the writer of SQLite. Operations and steps never see which.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
import structlog

from runomics.store.dialect import POSTGRESQL
from runomics.store.postgresql_connection import (
    PostgresqlConnection,
    is_storage_error,
    is_worth_repeating,
    translated,
)
from runomics.store.postgresql_schema import migrate
from runomics.store.transaction import OnWake, Overloaded, StoreUnavailable, Tx

log = structlog.get_logger()

T = TypeVar("T")

OLDEST_SERVER = 14
CONNECTIONS_MIN = 4
TRIES = 20
"""Of a unit that ran into others. Each time somebody else's unit was kept, so that all of them come through."""
TURN_SECONDS = 10.0
"""How long to wait for a connection that others have."""


class PostgresqlStore:
    """Opens (and migrates) the database at `url`, with `connections` connections at most.

    `queue_limit` bounds the requests that wait.

    Raises:
        NewerDatabase: made by a newer program. StoreUnavailable: cannot be reached, or is not fit.
    """

    def __init__(
        self, url: str, *, on_wake: OnWake | None = None, connections: int = 16, queue_limit: int = 1000
    ) -> None:
        self._on_wake = on_wake
        self._telling = threading.Lock()
        self._queue_limit = queue_limit
        self._inside = _Inside()
        half = max(CONNECTIONS_MIN, connections) // 2
        self._readers = _Connections(lambda: PostgresqlConnection(url, reads_only=True), half)
        self._writers = _Connections(lambda: PostgresqlConnection(url), half)
        try:
            with self._writers.one() as connection:
                _require_fit(connection)
                migrate(connection)
        except psycopg.Error as error:
            self._writers.close()
            raise _unavailable(error) from None
        except BaseException:
            self._writers.close()
            raise
        # One writing connection is left for the service's own thread.
        self._edge = _Workers("store-edge", half - 1 if half > 1 else 1)
        self._line = _Workers("store-writer", 1)

    def reading(self, work: Callable[[Tx], T]) -> Awaitable[T]:
        """The edge's way to read. Everything committed before the call is seen.

        Raises:
            Overloaded: too many wait. StoreUnavailable: the database cannot be read.
        """
        return self._from_loop(lambda: self.read(work))

    def writing(self, work: Callable[[Tx], T]) -> Awaitable[T]:
        """The edge's way to write: the result, or the unit's error, once the commit is on the disk.

        Raises:
            Overloaded: too many wait, nothing was done. StoreUnavailable, Duplicate: nothing was kept.
        """
        return self._from_loop(lambda: self._unit(work))

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` here, on a connection that cannot write. Several statements may see several moments.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        # A read within a read goes on with its connection: waiting for a second one while holding the first could wait for ever.
        if self._inside.tx is not None:
            return work(self._inside.tx)
        again = True
        while True:
            try:
                with self._readers.one() as connection:
                    self._inside.tx = Tx(connection, POSTGRESQL, wakes=None)
                    try:
                        return work(self._inside.tx)
                    finally:
                        self._inside.tx = None
            except psycopg.Error as error:
                # The database was away since this connection was used last. A read has done nothing: once more, on a new one.
                if again and is_storage_error(error):
                    again = False
                    continue
                seen = translated(error)
                if seen is error:
                    raise
                raise seen from error

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` as a unit of the service's own and wait until it is durable. Never from a unit, never from the loop.

        Raises:
            StoreUnavailable, Duplicate: nothing was kept. What `work` raises.
        """
        return self.submit(work).result()

    def submit(self, work: Callable[[Tx], T]) -> Future[T]:
        """As `write`, without waiting. What the service submits is done in the order of submission, one after the other.

        Raises:
            StoreUnavailable: closed.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def answer() -> None:
            try:
                result = self._unit(work)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._line.put(answer)
        return future

    def submit_unhurried(self, work: Callable[[Tx], T]) -> Future[T]:
        """As `submit`: here nobody's commit waits for another's."""
        return self.submit(work)

    def set_on_wake(self, callback: OnWake | None) -> None:
        """Who is told, after each commit and one commit at a time, which (kind, id) pairs it woke. Must be quick."""
        self._on_wake = callback

    def close(self) -> None:
        """Finish the queued units, then close every connection. Idempotent."""
        self._edge.close()
        self._line.close()
        self._readers.close()
        self._writers.close()

    # ---- units ---------------------------------------------------------------------------------------------------

    def _unit(self, work: Callable[[Tx], T]) -> T:
        """Run `work` as a transaction, again when it ran into another one or found its connection dead before the commit."""
        for tries_left in reversed(range(TRIES)):
            wakes: list[tuple[str, int]] = []
            committing = False
            try:
                with self._writers.one() as connection:
                    connection.execute("begin")
                    result = work(Tx(connection, POSTGRESQL, wakes=wakes))
                    committing = True
                    connection.commit()
            except psycopg.Error as error:
                if tries_left and is_worth_repeating(error):
                    continue
                # A dead connection says nothing about the next one. Only a commit may have been kept without our knowing.
                if tries_left and not committing and is_storage_error(error) and tries_left >= TRIES - 1:
                    continue
                if is_storage_error(error):
                    log.error("store.unit_failed", committing=committing, error=" ".join(str(error).split()))
                seen = translated(error)
                if seen is error:
                    raise
                raise seen from error
            self._tell(wakes)
            return result
        raise StoreUnavailable("the unit ran into others again and again; try again later")

    def _tell(self, wakes: Sequence[tuple[str, int]]) -> None:
        if not wakes or self._on_wake is None:
            return
        with self._telling:
            try:
                self._on_wake(tuple(dict.fromkeys(wakes)))
            except Exception:
                log.exception("store.on_wake_failed", wakes=len(wakes))

    def _from_loop(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._edge.waiting() >= self._queue_limit:
            raise Overloaded(f"{self._queue_limit} requests wait already; try again later")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def answer() -> None:
            try:
                result, error = work(), None
            except BaseException as caught:
                result, error = None, caught
            try:
                loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                log.warning("store.answers_dropped", answers=1, reason="the event loop is closed")

        self._edge.put(answer)
        return future


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    # A client that left cancelled its future; its unit stands all the same.
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def try_out(url: str) -> str:
    """Connect to the database and look whether it can be a server's, changing nothing; the version that it says.

    Raises:
        StoreUnavailable: it cannot be reached, or is not fit; the message says why.
    """
    try:
        connection = PostgresqlConnection(url, reads_only=True, name="runomics doctor")
        try:
            _require_fit(connection)
            return str(connection.execute("show server_version").fetchone()[0])
        finally:
            connection.close()
    except psycopg.Error as error:
        raise _unavailable(error) from None


def _require_fit(connection: PostgresqlConnection) -> None:
    version = int(connection.execute("show server_version_num").fetchone()[0])
    if version < OLDEST_SERVER * 10_000:
        raise StoreUnavailable(f"PostgreSQL {version // 10_000} is too old: {OLDEST_SERVER} or newer is needed")
    encoding = connection.execute("show server_encoding").fetchone()[0]
    if encoding != "UTF8":
        raise StoreUnavailable(
            f"the database is encoded in {encoding}; make one with: createdb --encoding=UTF8 --template=template0"
        )


def _unavailable(error: psycopg.Error) -> BaseException:
    """For the start, where whatever fails makes the database unfit."""
    seen = translated(error)
    return seen if isinstance(seen, StoreUnavailable) else StoreUnavailable(f"the database cannot be used: {error}")


class _Inside(threading.local):
    """The reading transaction that the thread is in."""

    tx: Tx | None = None


class _Connections:
    """Connections that are used by one thread at a time; made when none is idle, up to a limit. Any thread."""

    def __init__(self, make: Callable[[], PostgresqlConnection], limit: int) -> None:
        self._make = make
        self._idle: deque[PostgresqlConnection] = deque()
        self._places = threading.BoundedSemaphore(limit)
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[PostgresqlConnection]:
        """A connection for as long as the block lasts; a transaction left open in it is rolled back.

        Raises:
            StoreUnavailable: closed, or all are taken for 10 s. psycopg.Error: it cannot be made.
        """
        if not self._places.acquire(timeout=TURN_SECONDS):
            raise StoreUnavailable(
                "every connection to the database is in use; raise database_connections, or look what is slow"
            )
        try:
            connection = self._taken()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._places.release()

    def close(self) -> None:
        """Close what is idle; what is not is closed when it comes back."""
        self._closed = True
        self._close_idle()

    def _taken(self) -> PostgresqlConnection:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    def _give_back(self, connection: PostgresqlConnection) -> None:
        connection.roll_back()
        if connection.is_usable:
            self._idle.append(connection)
        else:
            # Whatever ended it has most likely ended the others, too.
            connection.close()
            self._close_idle()
        if self._closed:
            self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return


class _Workers:
    """Threads that work off one queue. Any thread may put."""

    def __init__(self, name: str, count: int) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def waiting(self) -> int:
        """How many jobs nobody has begun."""
        return self._queue.qsize()

    def put(self, job: Callable[[], None]) -> None:
        """Have `job` done; it must not raise.

        Raises:
            StoreUnavailable: closed.
        """
        # The gate keeps a job from landing behind the end marks, where nobody would ever do it.
        with self._gate:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            self._queue.put(job)

    def close(self) -> None:
        """Finish what is queued. Idempotent."""
        with self._gate:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            job()
            # What it holds must not live on in this frame while the thread waits for the next.
            del job
