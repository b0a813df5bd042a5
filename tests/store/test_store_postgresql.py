"""What PostgreSQL does in its own way: units side by side, plans, the way to the server and back, the lock, the schema."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sample_rows import ACCOUNT, OTHER_ACCOUNT, a_run, create_workflow, start, together
from test_store_statements import EVERYTHING, SMALL

from postgresql_cluster import Cluster, running
from runomics.store import accounts, runs, tokens
from runomics.store.choice import lock_database
from runomics.store.database import Overloaded, Store, StoreUnavailable, Tx, next_id
from runomics.store.dialect import hold_account, share_account
from runomics.store.migrate import NewerDatabase
from runomics.store.postgresql import PostgresqlStore
from runomics.store.postgresql_connection import PostgresqlConnection, numbered
from runomics.store.postgresql_lock import DatabaseLock
from runomics.store.postgresql_schema import migrate

pytestmark = [pytest.mark.postgresql, pytest.mark.needs("postgresql")]

WAIT_SECONDS = 20.0


@pytest.fixture
def url(postgresql: Callable[[], Cluster]) -> Iterator[str]:
    taken = postgresql().take()
    yield taken
    postgresql().give_back(taken)


@pytest.fixture
def store(url: str) -> Iterator[PostgresqlStore]:
    store = PostgresqlStore(url, connections=16)
    yield store
    store.close()


@pytest.fixture
def mortal() -> Iterator[Cluster]:
    """A cluster of the test's own, that may be stopped."""
    with running() as cluster:
        yield cluster()


def at_once(works: list[Callable[[], Any]]) -> list[Any]:
    """What each gives, or its error, when all begin in the same moment."""
    begin = threading.Barrier(len(works))

    def one(work: Callable[[], Any]) -> Any:
        begin.wait(WAIT_SECONDS)
        try:
            return work()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, works))


def from_requests(store: Store, units: list[Callable[[Tx], Any]]) -> list[Any]:
    """What units of requests give that come together, or their errors."""

    async def ask() -> list[Any]:
        return await asyncio.gather(*(store.writing(unit) for unit in units), return_exceptions=True)

    return asyncio.run(ask())


# ---- statements --------------------------------------------------------------------------------------------------


def test_parameters_are_numbered_by_name_and_quoted_text_is_left_alone() -> None:
    text = "select ':no', :a from t where a = :a and b in (:b, ':a') || ''"
    assert numbered(text) == (b"select ':no', $1 from t where a = $1 and b in ($2, ':a') || ''", ("a", "b"))


def test_every_statement_follows_an_index_and_sorts_no_large_table(url: str) -> None:
    """With the planner's taste for small tables switched off, it shows whether there is an index to follow at all."""
    connection = PostgresqlConnection(url)
    connection.execute("set enable_seqscan = off; set enable_sort = off; set enable_bitmapscan = off")
    wrong = []
    for label, text in EVERYTHING:
        plan = connection.execute(f"explain (format json, generic_plan) {numbered(text)[0].decode()}")
        for node in nodes(plan.fetchone()[0][0]["Plan"]):
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] not in SMALL:
                wrong.append((label, node["Relation Name"]))
            if node["Node Type"] in ("Sort", "Incremental Sort"):
                wrong.append((label, "Sort"))
    connection.close()
    assert wrong == []


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def test_whole_numbers_of_any_size_truth_and_texts_come_back_as_they_were(store: PostgresqlStore) -> None:
    values = {"large": 2**62, "small": -7, "yes": True, "no": False, "text": "%s $1 :x é 🧬", "nothing": None}
    text = "select :large, :small, :yes, :no, cast(:text as text), cast(:nothing as text)"
    assert store.read(lambda tx: tx.rows(text, values)) == [(2**62, -7, 1, 0, values["text"], None)]


def test_an_id_beyond_the_columns_range_is_not_found(store: PostgresqlStore) -> None:
    assert store.read(lambda tx: runs.find_run(tx, ACCOUNT, 10**17)) is None


# ---- units side by side ------------------------------------------------------------------------------------------


def test_a_commit_is_on_the_disk_even_where_the_server_would_not_wait(mortal: Cluster) -> None:
    url = mortal.take()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter role app set synchronous_commit = off")
    store = PostgresqlStore(url)
    assert store.write(lambda tx: tx.rows("select current_setting('synchronous_commit')", {})) == [("on",)]
    store.close()


def test_twins_with_one_token_have_one_effect_and_one_answer(store: PostgresqlStore) -> None:
    def start_once(tx: Tx) -> str:
        share_account(tx, ACCOUNT)
        kept = tokens.find_token(tx, ACCOUNT, "StartRun", "token")
        if kept is not None:
            return kept.answer
        run_id = next_id(tx, "run")
        runs.insert_run(tx, a_run(run_id))
        tokens.keep_token(tx, ACCOUNT, "StartRun", "token", body_hash="h", answer=str(run_id), now_ms=1)
        return str(run_id)

    answers = from_requests(store, [start_once] * 40)
    there = store.read(lambda tx: tx.rows("select id from run", {}))
    assert len(there) == 1
    assert set(answers) == {str(there[0][0])}


def test_runs_of_one_account_start_side_by_side_and_each_is_counted(store: PostgresqlStore) -> None:
    def unit(tx: Tx) -> int:
        share_account(tx, ACCOUNT)
        run_id = next_id(tx, "run")
        runs.insert_run(tx, a_run(run_id))
        return run_id

    ids = from_requests(store, [unit] * 200)
    assert len(set(ids)) == 200
    assert store.read(lambda tx: tx.rows("select stored_runs from account_use", {})) == [(200,)]


def test_what_a_request_looked_up_stays_true_to_its_end(store: PostgresqlStore) -> None:
    """A quota of three, asked for by many at once: without the account's lock several would see the last place free."""

    def unit(tx: Tx) -> bool:
        hold_account(tx, ACCOUNT)
        count = tx.rows("select count(*) from run", {})[0][0]
        tx.rows("select pg_sleep(0.002)", {})
        if count >= 3:
            return False
        runs.insert_run(tx, a_run(next_id(tx, "run")))
        return True

    assert sum(from_requests(store, [unit] * 30)) == 3


def test_accounts_do_not_wait_for_each_other(store: PostgresqlStore) -> None:
    entered, release = threading.Event(), threading.Event()

    def hold(tx: Tx) -> str:
        hold_account(tx, ACCOUNT)
        entered.set()
        assert release.wait(WAIT_SECONDS)
        return "held"

    def other(tx: Tx) -> str:
        hold_account(tx, OTHER_ACCOUNT)
        return "went by"

    async def ask() -> list[str]:
        held = asyncio.ensure_future(store.writing(hold))
        await asyncio.get_running_loop().run_in_executor(None, entered.wait, WAIT_SECONDS)
        went = await store.writing(other)
        release.set()
        return [went, await held]

    assert asyncio.run(ask()) == ["went by", "held"]


def test_units_that_lock_each_other_out_both_come_through(store: PostgresqlStore) -> None:
    first, second = start(store), start(store)
    both_hold_one = threading.Barrier(2)
    tries: list[int] = []

    def rename(one: int, other: int) -> Callable[[Tx], None]:
        begun: list[int] = []

        def unit(tx: Tx) -> None:
            tries.append(one)
            begun.append(one)
            tx.change("update run set name = 'x' where id = :id", {"id": one})
            if len(begun) == 1:
                both_hold_one.wait(WAIT_SECONDS)
            tx.change("update run set name = 'x' where id = :id", {"id": other})

        return unit

    answers = from_requests(store, [rename(first.id, second.id), rename(second.id, first.id)])
    assert answers == [None, None]
    # The database ends one of the two, or both when they notice in the same moment.
    assert len(tries) >= 3


def test_a_unit_that_goes_on_after_an_error_is_refused_whole(store: PostgresqlStore) -> None:
    def stubborn(tx: Tx) -> None:
        runs.insert_run(tx, a_run(1))
        try:
            runs.insert_run(tx, a_run(1))
        except psycopg.Error:
            return

    with pytest.raises(RuntimeError, match="went on after an error"):
        store.write(stubborn)
    assert store.read(lambda tx: tx.rows("select id from run", {})) == []


def test_the_services_own_units_run_one_after_the_other_in_their_order(store: PostgresqlStore) -> None:
    seen: list[int] = []
    inside: list[int] = []

    def unit(number: int) -> Callable[[Tx], None]:
        def work(tx: Tx) -> None:
            inside.append(number)
            tx.rows("select 1", {})
            assert inside == [number]
            seen.append(inside.pop())

        return work

    for future in together(store, [unit(number) for number in range(50)]):
        future.result()
    assert seen == list(range(50))


def test_wakes_of_a_unit_are_told_once_after_its_commit_and_never_two_at_a_time(store: PostgresqlStore) -> None:
    told: list[tuple[tuple[str, int], ...]] = []
    telling: list[int] = []

    def on_wake(pairs: Any) -> None:
        telling.append(1)
        assert len(telling) == 1
        assert store.read(lambda tx: runs.load_run(tx, pairs[-1][1])) is not None
        told.append(tuple(pairs))
        telling.pop()

    store.set_on_wake(on_wake)

    def unit(tx: Tx) -> int:
        run_id = next_id(tx, "run")
        runs.insert_run(tx, a_run(run_id))
        tx.wake("run", run_id)
        tx.wake("run", run_id)
        return run_id

    ids = from_requests(store, [unit] * 20)
    store.close()
    assert sorted(told) == sorted((("pending", run_id), ("run", run_id)) for run_id in ids)


def test_a_read_within_reads_needs_no_second_connection(url: str) -> None:
    store = PostgresqlStore(url, connections=4)

    def outer(tx: Tx) -> int:
        return len(store.read(accounts.list_accounts))

    assert at_once([lambda: store.read(outer)] * 12) == [0] * 12
    store.close()


def test_a_full_queue_refuses_requests_but_not_the_services_own_work(url: str) -> None:
    store = PostgresqlStore(url, connections=4, queue_limit=3)
    entered, release = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        assert release.wait(WAIT_SECONDS)

    async def ask() -> list[Any]:
        held = asyncio.ensure_future(store.writing(hold))
        await asyncio.get_running_loop().run_in_executor(None, entered.wait, WAIT_SECONDS)
        queued = [store.writing(lambda tx: 1) for _ in range(3)]
        with pytest.raises(Overloaded):
            store.reading(lambda tx: 2)
        own = await asyncio.get_running_loop().run_in_executor(None, store.write, lambda tx: 3)
        release.set()
        return [own, await held, *(await asyncio.gather(*queued))]

    assert asyncio.run(ask()) == [3, None, 1, 1, 1]
    store.close()


def test_a_request_whose_loop_is_closed_leaves_its_unit_standing(url: str) -> None:
    store = PostgresqlStore(url)

    async def ask() -> None:
        store.writing(lambda tx: accounts.add_account(tx, ACCOUNT, "a", 1))

    asyncio.run(ask())
    store.close()
    again = PostgresqlStore(url)
    assert [row.account for row in again.read(accounts.list_accounts)] == [ACCOUNT]
    again.close()


def test_acknowledged_runs_are_there_after_clients_were_killed(url: str) -> None:
    program = (
        "import sys, os; sys.path[:0] = sys.argv[2:]\n"
        "from sample_rows import a_run\n"
        "from runomics.store import runs\n"
        "from runomics.store.database import next_id\n"
        "from runomics.store.postgresql import PostgresqlStore\n"
        "store = PostgresqlStore(sys.argv[1])\n"
        "def unit(tx):\n"
        "    run_id = next_id(tx, 'run'); runs.insert_run(tx, a_run(run_id)); return run_id\n"
        "while True: os.write(1, b'%d\\n' % store.write(unit))\n"
    )
    acknowledged: list[int] = []
    for count in (3, 40, 17):
        process = subprocess.Popen(
            [sys.executable, "-c", program, url, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        acknowledged += [int(process.stdout.readline()) for _ in range(count)]
        process.kill()
        # A line may be cut by the kill; a number without its end is none.
        acknowledged += [int(line) for line in re.findall(r"(\d+)\n", process.communicate(timeout=20)[0])]
    store = PostgresqlStore(url)
    there = [row[0] for row in store.read(lambda tx: tx.rows("select id from run order by id", {}))]
    store.close()
    assert len(acknowledged) == len(set(acknowledged)) >= 60
    assert set(acknowledged) <= set(there)


# ---- the way to the server ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_the_first_unit_after_the_database_is_back_succeeds(mortal: Cluster, how: signal.Signals) -> None:
    store = PostgresqlStore(mortal.take())
    run = start(store)
    assert store.read(lambda tx: runs.load_run(tx, run.id)) == run
    mortal.stop(how)
    with pytest.raises(StoreUnavailable):
        start(store)
    with pytest.raises(StoreUnavailable):
        store.read(lambda tx: runs.load_run(tx, run.id))
    answers = from_requests(store, [lambda tx: next_id(tx, "run")] * 3)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    mortal.start()
    assert store.read(lambda tx: runs.load_run(tx, run.id)) == run
    assert start(store).id > run.id
    store.close()


def test_a_restart_between_two_units_is_not_even_noticed(mortal: Cluster) -> None:
    store = PostgresqlStore(mortal.take())
    run = start(store)
    store.read(lambda tx: runs.load_run(tx, run.id))
    mortal.stop()
    mortal.start()
    assert store.read(lambda tx: runs.load_run(tx, run.id)) == run
    assert start(store).id > run.id
    store.close()


def test_a_connection_that_dies_in_a_unit_is_replaced_and_the_unit_has_one_effect(store: PostgresqlStore) -> None:
    tries: list[int] = []

    def unit(tx: Tx) -> None:
        tries.append(1)
        runs.insert_run(tx, a_run(1))
        if len(tries) == 1:
            tx.rows("select pg_terminate_backend(pg_backend_pid())", {})

    store.write(unit)
    assert len(tries) == 2
    assert store.read(lambda tx: tx.rows("select id from run", {})) == [(1,)]


@pytest.mark.parametrize(
    "url", ["postgresql://app@127.0.0.1:1/x", "postgresql://app@/x?host=/nowhere", "postgresql://127.0.0.1:notaport/x"]
)
def test_a_database_that_cannot_be_reached_is_unavailable(url: str) -> None:
    with pytest.raises(StoreUnavailable):
        PostgresqlStore(url)
    with pytest.raises(StoreUnavailable):
        lock_database(url, lost=lambda: None)


def test_a_database_in_another_encoding_is_refused(postgresql: Callable[[], Cluster]) -> None:
    cluster = postgresql()
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute("create database latin encoding 'LATIN1' locale 'C' template template0")
    with pytest.raises(StoreUnavailable, match="encoded in LATIN1"):
        PostgresqlStore(cluster.url("latin"))


# ---- the lock ----------------------------------------------------------------------------------------------------


def test_one_server_has_the_lock_and_the_next_gets_it_when_that_one_lets_go(url: str) -> None:
    first = lock_database(url, lost=lambda: None)
    assert first is not None
    assert lock_database(url, lost=lambda: None) is None
    first.release()
    second = lock_database(url, lost=lambda: None)
    assert second is not None
    second.release()


def test_a_killed_server_leaves_no_lock(url: str) -> None:
    program = (
        "import sys; from runomics.store.choice import lock_database; "
        "print(lock_database(sys.argv[1], lost=lambda: None) is not None, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    holder.kill()
    holder.communicate(timeout=20)
    lock = until(lambda: lock_database(url, lost=lambda: None))
    lock.release()


def test_a_lock_whose_session_was_cut_is_taken_again(url: str) -> None:
    lost: list[int] = []
    lock = lock_database(url, lost=lambda: lost.append(1))
    assert lock is not None
    cut(url)
    until(lambda: holders(url) == 1)
    assert lock_database(url, lost=lambda: None) is None
    lock.release()
    assert lost == []


def test_a_lock_that_another_server_has_taken_meanwhile_is_lost(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = threading.Event()
    lock = DatabaseLock(url, lost=lost.set)
    assert lock.acquire()
    let_go = threading.Event()
    taken = DatabaseLock._taken

    def later(self: DatabaseLock) -> PostgresqlConnection | None:
        if self is lock:
            assert let_go.wait(WAIT_SECONDS)
        return taken(self)

    monkeypatch.setattr(DatabaseLock, "_taken", later)
    cut(url)
    other = until(lambda: lock_database(url, lost=lambda: None))
    let_go.set()
    assert lost.wait(WAIT_SECONDS)
    lock.release()
    other.release()


def cut(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where datname = current_database() and application_name like 'runomics scheduler%'"
        )


def holders(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "select count(*) from pg_stat_activity "
            "where datname = current_database() and application_name like 'runomics scheduler%'"
        ).fetchone()
        assert row is not None
        return int(row[0])


def until(what: Callable[[], Any]) -> Any:
    """What `what` gives once it gives something."""
    pause = threading.Event()
    for _ in range(int(WAIT_SECONDS / 0.05)):
        found = what()
        if found:
            return found
        pause.wait(0.05)
    raise TimeoutError


# ---- the schema --------------------------------------------------------------------------------------------------


def test_three_at_once_lay_out_the_schema_once(postgresql: Callable[[], Cluster]) -> None:
    url = postgresql().empty()

    def lay_out() -> list[int]:
        connection = PostgresqlConnection(url)
        try:
            return migrate(connection)
        finally:
            connection.close()

    applied = at_once([lay_out] * 3)
    numbers = sorted(number for one in applied for number in one)
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_migration_that_fails_leaves_nothing_of_itself_and_keeps_those_before_it(
    postgresql: Callable[[], Cluster], tmp_path: Path
) -> None:
    (tmp_path / "0001_start.sql").write_text("create table counter (kind text, value bigint);")
    (tmp_path / "0002_bad.sql").write_text("create table half (id bigint); select nothing from nowhere;")
    connection = PostgresqlConnection(postgresql().empty())
    with pytest.raises(psycopg.errors.UndefinedTable):
        migrate(connection, tmp_path)
    (tmp_path / "0002_bad.sql").write_text("create table half (id bigint); insert into counter values ('a-thing', 41);")
    assert migrate(connection, tmp_path) == [2]
    assert connection.execute("select nextval('next_a_thing')").fetchone() == (42,)
    connection.close()


def test_a_database_of_a_newer_program_is_refused(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("select version from schema_version").fetchone()
        connection.execute("update schema_version set version = 9999")
        with pytest.raises(NewerDatabase, match="9999"):
            PostgresqlStore(url)
        connection.execute("update schema_version set version = %s", found)


def test_every_counter_has_its_sequence(store: PostgresqlStore) -> None:
    kinds = store.read(lambda tx: tx.rows("select kind, value from counter", {}))
    assert len(kinds) > 8
    assert [store.write(lambda tx, k=kind: next_id(tx, k)) for kind, _ in kinds] == [value + 1 for _, value in kinds]


# ---- what does not pay for it ------------------------------------------------------------------------------------


def test_a_server_with_sqlite_imports_nothing_of_it() -> None:
    program = "import sys, json, runomics.app; print(json.dumps([m for m in sys.modules if 'psycopg' in m or 'postgresql' in m]))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == []


def test_workflows_are_kept_whatever_is_in_their_texts(store: PostgresqlStore) -> None:
    workflow_id = create_workflow(store, readme="it's \\ 100 % :sure $1 \n\t", name="a':b")
    found = store.read(lambda tx: tx.rows("select name, readme from workflow where id = :id", {"id": workflow_id}))
    assert found == [("a':b", "it's \\ 100 % :sure $1 \n\t")]
