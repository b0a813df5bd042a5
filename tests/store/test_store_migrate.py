"""Migrations: each once, whole or not at all, whoever else starts or is killed meanwhile."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runomics.store.database import SqliteStore, connect
from runomics.store.migrate import (
    FOLDER,
    BadMigration,
    NewerDatabase,
    for_dialect,
    migrate,
    migrations,
    statements,
)

MIGRATE = """
import sys
from pathlib import Path
from runomics.store.database import connect
from runomics.store.migrate import migrate
print("go", flush=True)
sys.stdin.readline()
connection = connect(Path(sys.argv[1]))
print(migrate(connection, Path(sys.argv[2])), flush=True)
"""


def start_migrating(database: Path, folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", MIGRATE, str(database), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    return process


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text)
    return folder


def test_the_schema_is_applied_once(database: Path) -> None:
    connection = connect(database)
    assert migrate(connection) == [number for number, _ in migrations()]
    assert migrate(connection) == []
    connection.close()


def test_three_processes_at_once_apply_each_migration_once(database: Path, tmp_path: Path) -> None:
    folder = write(
        tmp_path / "migrations",
        **{"0001_first": "create table a (x bigint);", "0002_second": "insert into a values (1);"},
    )
    processes = [start_migrating(database, folder) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=30)[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0]
    applied = [int(number) for answer in answers for number in re.findall(r"\d+", answer.splitlines()[-1])]
    assert sorted(applied) == [1, 2]
    connection = connect(database)
    assert connection.execute("select x from a").fetchall() == [(1,)]
    connection.close()


def test_three_processes_at_once_lay_out_the_real_schema(database: Path) -> None:
    processes = [start_migrating(database, FOLDER) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=30)
    assert [process.returncode for process in processes] == [0, 0, 0]
    connection = connect(database)
    settings = [connection.execute(f"pragma {name}").fetchone() for name in ("journal_mode", "auto_vacuum")]
    assert settings == [("wal",), (2,)]
    connection.close()


def test_a_start_killed_in_a_migration_leaves_nothing_and_the_next_one_applies_it(
    database: Path, tmp_path: Path
) -> None:
    slow = """
    create table a (x bigint);
    insert into a with recursive n (i) as (select 1 union all select i + 1 from n where i < 20000000) select i from n;
    """
    folder = write(tmp_path / "migrations", **{"0001_slow": slow})
    process = start_migrating(database, folder)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()

    watching = sqlite3.connect(database, timeout=0, isolation_level=None)
    deadline = time.monotonic() + 20
    while not _is_written_by_another(watching):
        assert time.monotonic() < deadline
        assert process.poll() is None
        threading.Event().wait(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL

    assert watching.execute("pragma user_version").fetchone() == (0,)
    assert watching.execute("select name from sqlite_master").fetchall() == []
    watching.close()
    write(folder, **{"0001_slow": slow.replace("20000000", "10")})
    connection = connect(database)
    assert migrate(connection, folder) == [1]
    assert connection.execute("select count(*) from a").fetchone() == (10,)
    connection.close()


def _is_written_by_another(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("begin immediate")
    except sqlite3.OperationalError:
        return True
    connection.execute("rollback")
    return False


def test_a_migration_that_fails_leaves_nothing_of_itself_and_keeps_those_before_it(
    database: Path, tmp_path: Path
) -> None:
    folder = write(
        tmp_path / "migrations",
        **{
            "0001_good": "create table a (x bigint);",
            "0002_bad": "create table b (x bigint); insert into c values (1);",
        },
    )
    connection = connect(database)
    with pytest.raises(sqlite3.OperationalError, match="no such table: c"):
        migrate(connection, folder)
    assert connection.execute("pragma user_version").fetchone() == (1,)
    assert connection.execute("select name from sqlite_master").fetchall() == [("a",)]
    write(folder, **{"0002_bad": "create table b (x bigint);"})
    assert migrate(connection, folder) == [2]
    connection.close()


def test_a_database_of_a_newer_program_is_refused_and_not_changed(database: Path) -> None:
    SqliteStore(database).close()
    connection = connect(database)
    connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(NewerDatabase, match=f"has schema 99, this program knows {migrations()[-1][0]}"):
        SqliteStore(database)
    connection = connect(database)
    assert connection.execute("pragma user_version").fetchone() == (99,)
    connection.close()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "without a gap"),
        ({"0002_second": ""}, "without a gap"),
        ({"0001_a": "", "0001_b": ""}, "without a gap"),
        ({"1_a": ""}, "name it NNNN_name.sql"),
    ],
)
def test_misnumbered_files_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(BadMigration, match=message):
        migrations(write(tmp_path / "migrations", **files))


def test_lines_of_one_database_stay_out_of_the_others() -> None:
    text = "a\n-- only: sqlite\nb\n-- end\n    -- only: postgresql\n    c\n    -- end\nd\n"
    assert for_dialect(text, "sqlite") == "a\nb\nd\n"
    assert for_dialect(text, "postgresql") == "a\n    c\nd\n"


def test_statements_are_cut_where_they_end() -> None:
    trigger = "create trigger t after insert on a begin\n  insert into b values ('x;y');\n  select 1;\nend;"
    text = f"-- a comment; with a semicolon\ncreate table a (x bigint); -- why\n\n{trigger}\n-- the end\n"
    assert statements(text) == [
        "-- a comment; with a semicolon\ncreate table a (x bigint);",
        f"-- why\n\n{trigger}",
    ]
    assert statements("create table a (x bigint); insert into a values (1);") == [
        "create table a (x bigint);",
        "insert into a values (1);",
    ]


def test_an_unfinished_statement_is_refused() -> None:
    with pytest.raises(BadMigration, match="create table b"):
        statements("create table a (x bigint);\ncreate table b (x bigint)\n")


COLUMN = re.compile(r"^    (?!primary key)([a-z_0-9]+) (\w+)\b(.*)$", re.MULTILINE)


def table_bodies(text: str) -> str:
    return "".join(re.findall(r"^create table \w+ \(\n(.*?)^\)", text, re.MULTILINE | re.DOTALL))


def test_every_column_says_what_it_is() -> None:
    columns = [column for _, path in migrations() for column in COLUMN.findall(table_bodies(path.read_text()))]
    assert len(columns) > 100
    assert [name for name, _, rest in columns if not re.search(r"-- \S", rest)] == []


def test_the_schema_is_portable() -> None:
    text = "".join(for_dialect(path.read_text(), "neither") for _, path in migrations())
    code = re.sub(r"--.*", "", text).lower()
    for word in ("autoincrement", "without rowid", "strict", "pragma", "datetime(", "ifnull", "glob", "json_", "%"):
        assert word not in code
    types = {kind for _, kind, _ in COLUMN.findall(table_bodies(code))}
    assert types == {"text", "bigint", "integer", "double"}
