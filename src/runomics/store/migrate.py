"""Schema migrations: numbered SQL files, each applied once, in a transaction of its own. Runs when a database is opened.

The lock is the transaction's: it dies with its holder, so a start that was killed while migrating leaves nothing behind.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import structlog

log = structlog.get_logger()

FOLDER = Path(__file__).parent / "migrations"
_FILE_NAME = re.compile(r"(\d{4})_\w+\.sql")
_BLOCK = re.compile(r"^[ ]*-- only: (\w+)\n(.*?)^[ ]*-- end\n", re.MULTILINE | re.DOTALL)
_AFTER_SEMICOLON = re.compile(r"(?<=;)")
_COMMENT = re.compile(r"--.*")


class NewerDatabase(Exception):
    """The database was made by a newer program than this one. Nothing was changed."""


class BadMigration(Exception):
    """A migration file cannot be used. Nothing was changed."""


def migrate(connection: sqlite3.Connection, folder: Path = FOLDER) -> list[int]:
    """Bring the schema up to the newest file in `folder`; the numbers applied, none when it is current.

    `connection` autocommits. Several processes may call this at once: one applies, the others wait and find nothing to do.

    Raises:
        NewerDatabase: the schema is past the newest file. BadMigration: a file's name or text is wrong.
    """
    files = migrations(folder)
    newest = files[-1][0]
    applied: list[int] = []
    while _version(connection) != newest:
        connection.execute("begin exclusive")
        try:
            number = _apply_next(connection, files)
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise
        if number is not None:
            applied.append(number)
            log.info("store.migrated", version=number)
    return applied


def migrations(folder: Path = FOLDER) -> list[tuple[int, Path]]:
    """The migration files by number: 1, 2, 3, … without a gap.

    Raises:
        BadMigration: a name that is not NNNN_name.sql, a gap, a number twice, or no file at all.
    """
    found: list[tuple[int, Path]] = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise BadMigration(f"{path}: name it NNNN_name.sql")
        found.append((int(match[1]), path))
    if not found or [number for number, _ in found] != list(range(1, len(found) + 1)):
        raise BadMigration(f"{folder}: number the files 0001, 0002, … without a gap")
    return found


def for_dialect(text: str, dialect: str) -> str:
    """`text` without the blocks (`-- only: NAME` to `-- end`) of other databases."""
    return _BLOCK.sub(lambda block: block[2] if block[1] == dialect else "", text)


def statements(text: str) -> list[str]:
    """The statements of `text`, in order.

    Raises:
        BadMigration: the last one is not ended by a semicolon.
    """
    found: list[str] = []
    pending = ""
    for piece in _AFTER_SEMICOLON.split(text):
        pending += piece
        if sqlite3.complete_statement(pending):
            found.append(pending.strip())
            pending = ""
    if _COMMENT.sub("", pending).strip():
        raise BadMigration(f"unfinished statement: {pending.strip()[:200]!r}")
    return found


def next_file(version: int, files: list[tuple[int, Path]]) -> tuple[int, Path] | None:
    """The migration that follows schema `version`, None when there is none.

    Raises:
        NewerDatabase: no migration of this program leads to that schema.
    """
    newest = files[-1][0]
    if version > newest:
        raise NewerDatabase(
            f"the database has schema {version}, this program knows {newest}: start the newer program that made it"
        )
    return None if version == newest else files[version]


def _apply_next(connection: sqlite3.Connection, files: list[tuple[int, Path]]) -> int | None:
    following = next_file(_version(connection), files)
    if following is None:
        return None
    number, path = following
    for statement in statements(for_dialect(path.read_text(), "sqlite")):
        connection.execute(statement)
    connection.execute(f"pragma user_version = {number}")
    return number


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("pragma user_version").fetchone()[0]
    return version
