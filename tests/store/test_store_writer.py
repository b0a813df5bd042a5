"""The group-commit writer: what a unit may rely on, whoever its neighbours are."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sample_rows import ACCOUNT, a_run, create_workflow, start, together

from databases import open_store
from runomics.store import accounts, runs
from runomics.store.database import (
    Duplicate,
    Overloaded,
    SqliteStore,
    Store,
    StoreUnavailable,
    Tx,
    connect,
    free_pages,
    next_id,
    next_ids,
    shrink,
)
from runomics.store.writer import MAX_BATCH


class Refused(Exception):
    """What an operation raises after it has written something."""


def insert_account(tx: Tx, number: int) -> int:
    accounts.add_account(tx, f"{number:012}", f"account {number}", 1)
    tx.wake("account", number)
    return number


def test_of_fifty_units_in_one_commit_only_the_failing_ones_leave_no_trace(store: Store) -> None:
    woken: list[tuple[str, int]] = []
    store.set_on_wake(woken.extend)

    def unit(number: int) -> Any:
        def work(tx: Tx) -> int:
            insert_account(tx, number)
            if number % 5 == 0:
                raise Refused(number)
            return number

        return work

    futures = together(store, [unit(number) for number in range(50)])

    kept = [number for number in range(50) if number % 5]
    assert [future.result() for future in futures if future.exception() is None] == kept
    assert [type(future.exception()) for future in futures[::5]] == [Refused] * 10
    assert [int(row.account) for row in store.read(accounts.list_accounts)] == kept
    store.write(lambda tx: None)
    assert woken == [("account", number) for number in kept]


def test_a_failing_unit_alone_leaves_no_trace(store: Store) -> None:
    def work(tx: Tx) -> None:
        insert_account(tx, 1)
        raise Refused

    with pytest.raises(Refused):
        store.write(work)
    assert store.read(accounts.list_accounts) == []
    assert store.write(lambda tx: insert_account(tx, 1)) == 1


def test_units_of_one_commit_see_each_other_in_order(store: Store) -> None:
    futures = together(store, [lambda tx: next_id(tx, "run") for _ in range(20)])
    assert [future.result() for future in futures] == list(range(1000000, 1000020))


def test_a_range_of_ids_is_given_out_once(store: Store) -> None:
    assert list(store.write(lambda tx: next_ids(tx, "task", 200))) == list(range(1000000, 1000200))
    assert store.write(lambda tx: next_id(tx, "task")) == 1000200


def test_an_id_of_an_unknown_kind_is_refused(store: Store) -> None:
    with pytest.raises(KeyError, match="'rnu'"):
        store.write(lambda tx: next_id(tx, "rnu"))


def test_the_answer_is_given_after_the_commit(store: Store, database: Path) -> None:
    seen: list[int] = []
    told = threading.Event()
    other = open_store(database)

    def look(future: Future[int]) -> None:
        seen.append(len(other.read(accounts.list_accounts)))
        told.set()

    store.submit(lambda tx: insert_account(tx, 1)).add_done_callback(look)
    assert told.wait(10)
    other.close()
    assert seen == [1]


def test_commits_are_synced_to_the_disk(file_store: SqliteStore) -> None:
    settings = file_store.write(
        lambda tx: [
            tx.connection.execute(f"pragma {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "auto_vacuum")
        ]
    )
    assert settings == ["wal", 2, 2]


def test_the_distinct_wakes_of_a_commit_are_reported_together_and_after_it(
    file_store: SqliteStore, database: Path
) -> None:
    reports: list[tuple[list[tuple[str, int]], int]] = []
    told = threading.Event()
    other = connect(database)

    def on_wake(pairs: Any) -> None:
        reports.append((list(pairs), other.execute("select count(*) from account").fetchone()[0]))
        told.set()

    file_store.set_on_wake(on_wake)

    def unit(number: int) -> Any:
        def work(tx: Tx) -> None:
            insert_account(tx, number)
            tx.wake("run", 7)
            tx.wake("run", 7)

        return work

    together(file_store, [unit(number) for number in range(3)])
    assert told.wait(10)
    file_store.close()
    other.close()
    assert reports == [([("account", 0), ("run", 7), ("account", 1), ("account", 2)], 3)]


def test_a_failing_listener_does_not_stop_the_writer(store: Store) -> None:
    def on_wake(pairs: Any) -> None:
        raise RuntimeError("the listener is broken")

    store.set_on_wake(on_wake)
    assert store.write(lambda tx: insert_account(tx, 1)) == 1
    assert store.write(lambda tx: insert_account(tx, 2)) == 2


def test_a_unit_that_commits_itself_fails_with_its_neighbours_and_the_writer_goes_on(file_store: SqliteStore) -> None:
    def naughty(tx: Tx) -> None:
        tx.connection.execute("rollback")

    futures = together(file_store, [lambda tx: insert_account(tx, 1), naughty, lambda tx: insert_account(tx, 2)])
    assert [type(future.exception()) for future in futures] == [StoreUnavailable] * 3
    assert file_store.write(lambda tx: insert_account(tx, 3)) == 3
    assert [int(row.account) for row in file_store.read(accounts.list_accounts)] == [3]


def test_a_unit_that_ends_its_thread_only_fails(store: Store) -> None:
    def leave(tx: Tx) -> None:
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        store.write(leave)
    assert store.write(lambda tx: insert_account(tx, 1)) == 1


def test_a_row_that_exists_is_a_duplicate_by_its_columns(store: Store) -> None:
    store.write(lambda tx: insert_account(tx, 1))
    with pytest.raises(Duplicate) as caught:
        store.write(lambda tx: insert_account(tx, 1))
    assert caught.value.columns == ("account.account",)

    futures = together(store, [lambda tx: insert_account(tx, 2), lambda tx: insert_account(tx, 2)])
    assert futures[0].result() == 2
    assert isinstance(futures[1].exception(), Duplicate)


def test_a_read_cannot_write_and_cannot_wake(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match=r"read-?only"):
        store.read(lambda tx: insert_account(tx, 1))
    with pytest.raises(RuntimeError, match="a read cannot wake run 7"):
        store.read(lambda tx: tx.wake("run", 7))


def test_a_mistake_in_a_statement_stays_what_it_is(store: Store) -> None:
    mistakes = (sqlite3.OperationalError, psycopg.errors.UndefinedTable)
    with pytest.raises(mistakes, match="rnu"):
        store.read(lambda tx: tx.rows("select * from rnu", {}))
    with pytest.raises(mistakes, match="rnu"):
        store.write(lambda tx: tx.change("delete from rnu", {}))


@pytest.mark.parametrize("reads", ["loop", "pool"])
def test_a_request_reads_what_it_has_written(database: Path, reads: Any) -> None:
    store = SqliteStore(database, reads=reads)

    async def request() -> list[str]:
        await store.writing(lambda tx: insert_account(tx, 1))
        return [row.account for row in await store.reading(accounts.list_accounts)]

    assert asyncio.run(request()) == ["000000000001"]
    store.close()


def test_reads_inline_run_in_the_loops_thread_and_reads_of_the_pool_do_not(tmp_path: Path) -> None:
    async def thread(store: SqliteStore) -> str:
        return await store.reading(lambda tx: threading.current_thread().name)

    inline, pooled = SqliteStore(tmp_path / "a"), SqliteStore(tmp_path / "b", reads="pool")
    names = [asyncio.run(thread(store)) for store in (inline, pooled)]
    inline.close()
    pooled.close()
    assert names == [threading.current_thread().name, "store-reader_0"]


def test_errors_of_a_unit_reach_the_request_that_queued_it(store: Store) -> None:
    def refuse(tx: Tx) -> None:
        raise Refused

    async def request() -> list[Any]:
        return await asyncio.gather(
            store.writing(lambda tx: insert_account(tx, 1)),
            store.writing(refuse),
            store.writing(lambda tx: insert_account(tx, 1)),
            return_exceptions=True,
        )

    answers = asyncio.run(request())
    # Which of the two equal ones is kept is left open where units run side by side.
    assert sorted(type(answer).__name__ for answer in answers) == ["Duplicate", "Refused", "int"]
    assert isinstance(answers[1], Refused)


def test_a_request_that_goes_away_leaves_its_unit_standing(store: Store) -> None:
    release = threading.Event()

    async def request() -> None:
        store.submit(lambda tx: release.wait(10))
        waiting = asyncio.ensure_future(store.writing(lambda tx: insert_account(tx, 1)))
        await asyncio.sleep(0)
        waiting.cancel()
        release.set()
        await store.writing(lambda tx: None)

    asyncio.run(request())
    # Units of requests may run side by side: the last one does not wait for it.
    pause, end = threading.Event(), time.monotonic() + 10
    while not (kept := store.read(accounts.list_accounts)) and time.monotonic() < end:
        pause.wait(0.01)
    assert [row.account for row in kept] == ["000000000001"]


def test_a_loop_that_was_closed_meanwhile_does_not_stop_the_writer(file_store: SqliteStore) -> None:
    release = threading.Event()

    async def request() -> None:
        file_store.submit(lambda tx: release.wait(10))
        file_store.writing(lambda tx: insert_account(tx, 1))

    asyncio.run(request())
    release.set()
    assert file_store.write(lambda tx: insert_account(tx, 2)) == 2
    assert [int(row.account) for row in file_store.read(accounts.list_accounts)] == [1, 2]


def test_a_full_queue_refuses_requests_but_not_the_services_own_work(database: Path) -> None:
    store = SqliteStore(database, queue_limit=3)
    entered, release = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        assert release.wait(10)

    async def request() -> list[Any]:
        store.submit(hold)
        assert entered.wait(10)
        queued = [store.writing(lambda tx, n=number: insert_account(tx, n)) for number in range(3)]
        with pytest.raises(Overloaded):
            await store.writing(lambda tx: insert_account(tx, 3))
        own = store.submit(lambda tx: insert_account(tx, 4))
        release.set()
        answers = await asyncio.gather(*queued)
        return [*answers, own.result(10), await store.writing(lambda tx: insert_account(tx, 5))]

    assert asyncio.run(request()) == [0, 1, 2, 4, 5]
    assert [int(row.account) for row in store.read(accounts.list_accounts)] == [0, 1, 2, 4, 5]
    store.close()


def test_more_units_than_one_commit_takes_are_all_done(store: Store) -> None:
    futures = together(store, [lambda tx: next_id(tx, "run") for _ in range(2 * MAX_BATCH + 7)])
    assert [future.result() for future in futures] == list(range(1000000, 1000000 + 2 * MAX_BATCH + 7))


@pytest.mark.usefixtures("database_kind")
def test_closing_finishes_what_is_queued_and_refuses_what_comes_after(database: Path) -> None:
    store = open_store(database)
    entered, release = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        assert release.wait(10)

    store.submit(hold)
    assert entered.wait(10)
    queued = [store.submit(lambda tx, n=number: insert_account(tx, n)) for number in range(5)]
    closing = threading.Thread(target=store.close)
    closing.start()
    release.set()
    closing.join(10)
    store.close()

    assert [future.result(10) for future in queued] == list(range(5))
    with pytest.raises(StoreUnavailable, match="closed"):
        store.write(lambda tx: insert_account(tx, 9))
    with pytest.raises(StoreUnavailable, match="closed"):
        store.read(accounts.list_accounts)
    again = open_store(database)
    assert len(again.read(accounts.list_accounts)) == 5
    again.close()


def test_threads_write_and_read_at_once(store: Store) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                run = start(store)
                assert store.read(lambda tx, r=run: runs.find_run(tx, ACCOUNT, r.id)) == run
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    rows, next_after_id = store.read(lambda tx: runs.list_runs(tx, ACCOUNT, after_id=0, limit=1000))
    assert [row[0] for row in rows] == list(range(1000000, 1000300))
    assert next_after_id is None


def test_the_database_is_nobody_elses_to_read(file_store: SqliteStore, database: Path) -> None:
    start(file_store)
    modes = {name: stat.S_IMODE(os.stat(f"{database}{name}").st_mode) for name in ("", "-wal", "-shm")}
    assert modes == {"": 0o600, "-wal": 0o600, "-shm": 0o600}


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("this is no database, though it is long enough to be looked at\n" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        SqliteStore(path)
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        SqliteStore(tmp_path / "missing" / "database.sqlite")


def test_room_that_removed_rows_leave_is_given_back_piece_by_piece(file_store: SqliteStore, database: Path) -> None:
    create_workflow(file_store, readme="x" * 4_000_000)
    file_store.write(lambda tx: tx.change("delete from workflow", {}))
    before, pages = file_store.read(free_pages)
    assert before > 900
    free = file_store.write(lambda tx: shrink(tx, 100))
    assert (free, file_store.read(free_pages)) == (before - 100, (before - 100, pages - 100))
    while free:
        free = file_store.write(lambda tx: shrink(tx, 256))
    file_store.close()
    assert database.stat().st_size < 800_000


def test_opening_a_reader_leaves_the_writers_lock_alone(file_store: SqliteStore, database: Path) -> None:
    def work(tx: Tx) -> str:
        insert_account(tx, 1)
        connect(database).close()
        script = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('begin immediate')"
        return subprocess.run([sys.executable, "-c", script, str(database)], capture_output=True, text=True).stderr

    assert "database is locked" in file_store.write(work)


def test_a_unit_may_insert_a_run_only_whole(store: Store) -> None:
    def work(tx: Tx) -> None:
        runs.insert_run(tx, a_run(1000000))
        runs.insert_run(tx, a_run(1000000))

    with pytest.raises(Duplicate) as caught:
        store.write(work)
    assert caught.value.columns == ("run.id",)
    assert store.read(lambda tx: tx.rows("select id from run union all select id from event", {})) == []


def test_units_nobody_waits_for_keep_their_order_among_those_somebody_waits_for(store: Store) -> None:
    done: list[int] = []

    def unit(number: int) -> Callable[[Tx], None]:
        return lambda tx: done.append(number)

    futures = []
    for number in range(20):
        submit = store.submit if number % 5 == 4 else store.submit_unhurried
        futures.append(submit(unit(number)))
    for future in futures:
        future.result(timeout=5)
    assert done == list(range(20))


def test_a_unit_nobody_waits_for_is_committed_by_itself(store: Store) -> None:
    assert store.submit_unhurried(lambda tx: 7).result(timeout=5) == 7
