"""The lock of the one active scheduler of a PostgreSQL database: held by a session of its own for as long as the server lives.

A thread waits on that session, without asking. When it ends (the database was restarted, the network was cut) the thread takes the lock
again; when another server has it by then, this one has to stop.
"""

from __future__ import annotations

import os
import select
import threading
import uuid
from collections.abc import Callable

import psycopg
import structlog

from runomics.store.postgresql_connection import PostgresqlConnection

log = structlog.get_logger()

SCHEDULER_LOCK = 5_201_128_000_000_001
"""Of pg_advisory_lock. Accounts are locked by their own numbers, which have 12 digits."""
AGAIN_SECONDS = 0.5

_HOLDER = """
select holder.pid, holder.application_name
from pg_locks join pg_stat_activity as holder on holder.pid = pg_locks.pid
where pg_locks.locktype = 'advisory' and pg_locks.granted and pg_locks.objsubid = 1
    and holder.datname = current_database()
    and cast(pg_locks.classid as bigint) * 4294967296 + cast(pg_locks.objid as bigint) = :lock
"""


class DatabaseLock:
    """Held from `acquire` until `release` or the end of the process."""

    def __init__(self, url: str, *, lost: Callable[[], None]) -> None:
        """`lost` is called, on the lock's thread, when another server has taken the lock: this one must end at once."""
        self._url = url
        self._lost = lost
        self._name = f"runomics scheduler {uuid.uuid4()}"
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)
        self._releasing = threading.Event()
        self._connection: PostgresqlConnection | None = None
        self._thread = threading.Thread(target=self._watch, name="database-lock", daemon=True)

    def acquire(self) -> bool:
        """Take it without waiting; False while another server has it.

        Raises:
            psycopg.Error: the database cannot be asked.
        """
        self._connection = self._taken()
        if self._connection is None:
            return False
        self._thread.start()
        return True

    def release(self) -> None:
        """Let another server have it. Idempotent."""
        if not self._releasing.is_set():
            self._releasing.set()
            os.write(self._stop_write, b"x")
            if self._thread.ident is not None:
                self._thread.join()
            os.close(self._stop_read)
            os.close(self._stop_write)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _taken(self) -> PostgresqlConnection | None:
        connection = PostgresqlConnection(self._url, name=self._name)
        try:
            while not connection.execute("select pg_try_advisory_lock(:lock)", {"lock": SCHEDULER_LOCK}).fetchone()[0]:
                holder = connection.execute(_HOLDER, {"lock": SCHEDULER_LOCK}).fetchone()
                if holder is not None and holder[1] != self._name:
                    connection.close()
                    return None
                # Either it was let go in this moment, or it is our own session, whose end the database has not noticed.
                if holder is not None:
                    connection.execute("select pg_terminate_backend(:pid, 1000)", {"pid": holder[0]})
        except BaseException:
            connection.close()
            raise
        return connection

    def _watch(self) -> None:
        while self._connection is not None and self._stays(self._connection):
            log.warning("store.lock_session_ended", doing="taking the lock again")
            self._connection.close()
            self._connection = None
            while not self._releasing.is_set():
                try:
                    self._connection = self._taken()
                except psycopg.Error:
                    self._releasing.wait(AGAIN_SECONDS)
                    continue
                if self._connection is None:
                    log.error("store.lock_lost", reason="another server has taken this database")
                    self._lost()
                    return
                log.info("store.lock_taken_again")
                break

    def _stays(self, connection: PostgresqlConnection) -> bool:
        """Wait until the session ends: True. False when it is to be given up."""
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        while True:
            if self._stop_read in dict(poll.poll()):
                return False
            try:
                connection.execute("select 1")
            except psycopg.Error:
                return True
