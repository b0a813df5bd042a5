"""What was answered is on the disk: through kills at any moment, through a full disk, and back without a restart."""

from __future__ import annotations

import asyncio
import os
import random
import selectors
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sample_rows import ACCOUNT, a_run, counters, start

from databases import open_store
from runomics.store import runs, tokens
from runomics.store.database import SqliteStore, StoreUnavailable, Tx, next_id

START_RUNS = """
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from sample_rows import ACCOUNT, a_run
from runomics.store import runs, tokens
from runomics.store.database import SqliteStore, next_id

def start_run(token):
    def unit(tx):
        run_id = next_id(tx, "run")
        runs.insert_run(tx, a_run(run_id))
        tokens.keep_token(tx, ACCOUNT, "StartRun", token, body_hash="h", answer=str(run_id), now_ms=1)
        return run_id
    return unit

async def client(store, number):
    for request in range(1_000_000):
        run_id = await store.writing(start_run(f"{os.getpid()}-{number}-{request}"))
        os.write(1, f"{run_id}\\n".encode())

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    os.write(1, b"ready\\n")
    await asyncio.gather(*(client(store, number) for number in range(16)))

asyncio.run(main())
"""


def answers_until_killed(database: Path, answers: int) -> list[int]:
    """Ids that a server answered before it was killed, at the earliest after so many."""
    process = subprocess.Popen(
        [sys.executable, "-c", START_RUNS, str(database), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    read = b""
    deadline = time.monotonic() + 30
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while read.count(b"\n") < answers:
            assert time.monotonic() < deadline
            selector.select(1)
            read += os.read(process.stdout.fileno(), 65536)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=10)
    whole = (read + rest).rpartition(b"\n")[0]
    return [int(line) for line in whole.splitlines() if line.isdigit()]


def test_no_answered_run_is_lost_or_doubled_by_kills(database: Path) -> None:
    draw = random.Random(3)
    answered: list[int] = []
    for _ in range(8):
        answered += answers_until_killed(database, draw.randrange(20, 400))
    assert len(answered) == len(set(answered)) > 160

    store = SqliteStore(database)
    connection = sqlite3.connect(database)
    there = {row[0] for row in connection.execute("select id from run")}
    assert set(answered) - there == set()
    assert connection.execute("pragma quick_check").fetchall() == [("ok",)]
    kept = {int(row[0]) for row in connection.execute("select answer from request_token")}
    told = {int(row[0]) for row in connection.execute("select resource_id from event where kind = 'run'")}
    assert there == kept == told
    assert counters(connection)["run"] == max(there)
    connection.close()
    store.close()


@pytest.fixture
def small_disk(short_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "runomics-test", str(short_path)], check=True)
    yield short_path
    subprocess.run(["umount", "--lazy", str(short_path)], check=True)


@pytest.mark.needs("root", "loop")
def test_a_full_disk_fails_writes_whole_spares_reads_and_needs_no_restart(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * (2 << 20))
    store = SqliteStore(small_disk / "database.sqlite")
    parameters = '{"a": "' + "x" * 3000 + '"}'

    def start_run(token: str) -> Any:
        def unit(tx: Tx) -> int:
            run_id = next_id(tx, "run")
            runs.insert_run(tx, a_run(run_id, parameters=parameters))
            tokens.keep_token(tx, ACCOUNT, "StartRun", token, body_hash="h", answer=str(run_id), now_ms=1)
            return run_id

        return unit

    async def fill() -> tuple[list[int], list[BaseException]]:
        answered: list[int] = []
        failed: list[BaseException] = []

        async def client(number: int) -> None:
            for request in range(5000):
                try:
                    answered.append(await store.writing(start_run(f"{number}-{request}")))
                except BaseException as error:
                    failed.append(error)
                    return

        await asyncio.gather(*(client(number) for number in range(8)))
        return answered, failed

    answered, failed = asyncio.run(fill())
    assert [type(error) for error in failed] == [StoreUnavailable] * 8
    assert "database or disk is full" in str(failed[0])

    def ids() -> list[int]:
        return [row[0] for row in store.read(lambda tx: runs.list_runs(tx, ACCOUNT, after_id=0, limit=100_000))[0]]

    assert ids() == sorted(answered)
    assert len(answered) > 100

    ballast.unlink()
    again = store.write(start_run("again"))
    assert ids() == [*sorted(answered), again]
    store.close()
    connection = sqlite3.connect(small_disk / "database.sqlite")
    assert connection.execute("pragma quick_check").fetchall() == [("ok",)]
    assert connection.execute("select count(*) from request_token").fetchone() == (len(answered) + 1,)
    connection.close()


def test_a_database_that_another_process_holds_is_unavailable_and_then_works_again(
    file_store: SqliteStore, database: Path
) -> None:
    file_store.write(lambda tx: tx.connection.execute("pragma busy_timeout = 50"))
    run = start(file_store)
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StoreUnavailable, match="locked"):
        start(file_store)
    assert file_store.read(lambda tx: runs.find_run(tx, ACCOUNT, run.id)) == run
    other.execute("rollback")
    other.close()
    assert start(file_store).id == run.id + 1


@pytest.mark.usefixtures("database_kind")
def test_rows_written_by_one_store_are_there_for_the_next(database: Path) -> None:
    store = open_store(database)
    run = start(store)
    store.close()
    assert sorted(path.name for path in database.parent.glob("database.sqlite-*")) == []
    store = open_store(database)
    assert store.read(lambda tx: runs.find_run(tx, ACCOUNT, run.id)) == run
    assert start(store).id == run.id + 1
    store.close()
