"""Schema migrations on PostgreSQL: the same files as on SQLite, each in a transaction of its own. Runs when the database is opened.

The lock is the transaction's: it dies with its holder, so a start that was killed while migrating leaves nothing behind.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from runomics.store.dialect import POSTGRESQL, sequence_of
from runomics.store.migrate import FOLDER, for_dialect, migrations, next_file
from runomics.store.postgresql_connection import PostgresqlConnection

log = structlog.get_logger()

MIGRATION_LOCK = 5_201_128_000_000_000
"""Of pg_advisory_xact_lock. Accounts are locked by their own numbers, which have 12 digits."""


def migrate(connection: PostgresqlConnection, folder: Path = FOLDER) -> list[int]:
    """Bring the schema up to the newest file in `folder`; the numbers applied, none when it is current.

    Several processes may call this at once: one applies, the others wait and find nothing to do.

    Raises:
        NewerDatabase: the schema is past the newest file. BadMigration: a file's name is wrong.
        psycopg.Error: the database failed; what was begun left no trace.
    """
    files = migrations(folder)
    newest = files[-1][0]
    applied: list[int] = []
    while _version(connection) != newest:
        connection.execute("begin")
        try:
            connection.execute("select pg_advisory_xact_lock(:lock)", {"lock": MIGRATION_LOCK})
            number = _apply_next(connection, files)
            connection.commit()
        except BaseException:
            connection.roll_back()
            raise
        if number is not None:
            applied.append(number)
            log.info("store.migrated", version=number)
    return applied


def _apply_next(connection: PostgresqlConnection, files: list[tuple[int, Path]]) -> int | None:
    version = _version(connection)
    following = next_file(version, files)
    if following is None:
        return None
    if version == 0:
        connection.execute(
            "create table schema_version (version bigint not null); insert into schema_version values (0)"
        )
    number, path = following
    connection.execute(for_dialect(path.read_text(), POSTGRESQL))
    _make_sequences(connection)
    connection.execute("update schema_version set version = :version", {"version": number})
    return number


def _make_sequences(connection: PostgresqlConnection) -> None:
    """For each counter a sequence that begins where it stands. The row itself is only its declaration here."""
    for kind, value in connection.execute("select kind, value from counter").fetchall():
        connection.execute(f'create sequence if not exists "{sequence_of(kind)}" start {value + 1} minvalue 0')


def _version(connection: PostgresqlConnection) -> int:
    # Not by to_regclass: while this process waited for the lock, its memory of what is not there grew old.
    there = "select 1 from pg_tables where tablename = 'schema_version' and schemaname = any (current_schemas(false))"
    if connection.execute(there).fetchone() is None:
        return 0
    version: int = connection.execute("select version from schema_version").fetchone()[0]
    return version
