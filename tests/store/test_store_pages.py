"""Pages: ascending, complete, nothing twice, at a bounded cost, whatever the filters and whoever writes meanwhile."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sample_rows import ACCOUNT, OTHER_ACCOUNT, a_run, create_workflow, start, submit_task

from databases import POSTGRESQL, SQLITE, open_url
from postgresql_cluster import Cluster
from runomics.domain.run import RunStatus
from runomics.store import catalog, pages, runs, tasks
from runomics.store.database import SqliteStore, Store, Tx, next_id
from runomics.store.pages import Listing

FILTERS = ("name", "run_group_id", "batch_id", "status")
ROWS = 3000


@pytest.fixture(scope="module", params=[SQLITE, POSTGRESQL])
def many(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgresql: Callable[[], Cluster]
) -> Any:
    """A store with runs of two accounts whose columns are drawn at random, and these runs as an oracle sees them."""
    file = tmp_path_factory.mktemp("pages") / "database.sqlite"
    store = open_url(str(file) if request.param == SQLITE else postgresql().take())
    draw = random.Random(7)
    oracle: list[dict[str, Any]] = []

    def fill(tx: Tx) -> None:
        for _ in range(ROWS):
            run: dict[str, Any] = {
                "id": next_id(tx, "run"),
                "account": draw.choice([ACCOUNT, ACCOUNT, ACCOUNT, OTHER_ACCOUNT]),
                "name": draw.choice([None, "a", "a", "a", "b", "rare'; --"]),
                "run_group_id": draw.choice([None, 1, 1, 2]),
                "batch_id": draw.choice([None, None, 7, 8]),
            }
            runs.insert_run(tx, a_run(run["id"], **{key: run[key] for key in run if key != "id"}))
            status = draw.choices(["COMPLETED", "FAILED", "PENDING", "RUNNING"], [90, 5, 3, 2])[0]
            wish = draw.choice([None] * 9 + [5])
            tx.change(
                "update run set status = :status, delete_wished_ms = :wish where id = :id",
                {"status": status, "wish": wish, "id": run["id"]},
            )
            if wish is None:
                oracle.append({**run, "status": status})

    store.write(fill)
    yield store, oracle
    store.close()


def walk(store: Store, account: str, limit: int, **filters: Any) -> tuple[list[int], list[int]]:
    """All ids, page by page, and the length of each page."""
    ids: list[int] = []
    lengths: list[int] = []
    after_id: int | None = 0
    while after_id is not None:
        rows, after_id = store.read(
            lambda tx, after=after_id: runs.list_runs(tx, account, after_id=after, limit=limit, **filters)
        )
        ids += [row[0] for row in rows]
        lengths.append(len(rows))
    return ids, lengths


COMBINATIONS = [chosen for size in range(5) for chosen in itertools.combinations(FILTERS, size)]


@pytest.mark.parametrize("chosen", COMBINATIONS, ids="+".join)
@pytest.mark.parametrize("walk_bound", [7, 1000])
def test_every_combination_of_filters_lists_what_a_plain_scan_finds(
    many: Any, chosen: tuple[str, ...], walk_bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "WALK", walk_bound)
    store, oracle = many
    choices: dict[str, list[Any]] = {
        "name": ["a", "rare'; --", "absent"],
        "run_group_id": [1, 2, 3],
        "batch_id": [7, 8],
        "status": ["COMPLETED", "FAILED", "STARTING"],
    }
    indexed = frozenset(chosen) in runs._LISTING.indexed
    for account in (ACCOUNT, OTHER_ACCOUNT, "000000000000"):
        for values in itertools.product(*(choices[name] for name in chosen)):
            filters = dict(zip(chosen, values, strict=True))
            expected = [
                run["id"]
                for run in oracle
                if run["account"] == account and all(run[name] == value for name, value in filters.items())
            ]
            ids, lengths = walk(store, account, 100, **filters)
            assert ids == expected
            assert max(lengths) <= 100
            if indexed:
                assert all(length == 100 for length in lengths[:-1])


@pytest.mark.parametrize("limit", [1, 2, 99, 100, ROWS])
def test_a_page_of_any_size_ends_where_the_next_begins(many: Any, limit: int) -> None:
    store, oracle = many
    expected = [run["id"] for run in oracle if run["account"] == ACCOUNT and run["batch_id"] == 7]
    ids, lengths = walk(store, ACCOUNT, limit, batch_id=7)
    assert ids == expected
    assert all(length == limit for length in lengths[:-1])
    assert lengths[-1] > 0


def test_a_last_page_that_is_exactly_full_has_no_next(store: Store) -> None:
    for _ in range(4):
        start(store)
    rows, next_after_id = store.read(lambda tx: runs.list_runs(tx, ACCOUNT, after_id=1000001, limit=2))
    assert [row[0] for row in rows] == [1000002, 1000003]
    assert next_after_id is None


def test_a_row_of_the_list_has_the_listed_columns(store: Store) -> None:
    run = start(store, name="n", priority=4, batch_id=9, workflow_name="w", workflow_version_name="v")
    rows, _ = store.read(lambda tx: runs.list_runs(tx, ACCOUNT, after_id=0, limit=1))
    assert dict(zip(runs.LISTED, rows[0], strict=True)) == {name: getattr(run, name) for name in runs.LISTED}


def _fill_two_halves(tx: Tx) -> None:
    """A thousand runs with one name or the other, in one group or the other; only the 991st has the first of both."""
    for number in range(1000):
        match = number == 990
        group = 1 if number % 2 or match else 2
        runs.insert_run(tx, a_run(next_id(tx, "run"), name="a" if match or not number % 2 else "b", run_group_id=group))


def test_filters_without_a_common_index_examine_a_bounded_number_of_entries(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "WALK", 50)

    store.write(_fill_two_halves)
    ids, lengths = walk(store, ACCOUNT, 10, name="a", run_group_id=1)
    assert ids == [1000990]
    # 500 entries of either index, 50 of them a page.
    assert len(lengths) == 11


def test_the_bound_holds_for_the_work_of_the_database(file_store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "WALK", 50)
    file_store.write(_fill_two_halves)
    steps: list[int] = []

    def counted(tx: Tx) -> None:
        tx.connection.set_progress_handler(lambda: steps.append(1) and None, 100)
        runs.list_runs(tx, ACCOUNT, after_id=0, limit=10, name="a", run_group_id=1)
        tx.connection.set_progress_handler(None, 0)

    file_store.read(counted)
    assert len(steps) * 100 < 50 * 60


@pytest.mark.parametrize(("bound", "pages_of"), [(20, [10]), (5, [5, 5, 0])])
def test_a_rare_filter_is_followed_rather_than_a_common_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, bound: int, pages_of: list[int]
) -> None:
    monkeypatch.setattr(pages, "WALK", bound)

    def fill(tx: Tx) -> None:
        for number in range(1000):
            name = "rare" if number % 100 == 99 else "common"
            runs.insert_run(tx, a_run(next_id(tx, "run"), name=name, run_group_id=1, batch_id=2))

    store.write(fill)
    expected = [1000099 + 100 * number for number in range(10)]
    for filters in ({"run_group_id": 1}, {"batch_id": 2}, {"run_group_id": 1, "batch_id": 2, "status": "PENDING"}):
        assert walk(store, ACCOUNT, 100, name="rare", **filters) == (expected, pages_of)


def test_a_list_walked_while_runs_come_move_and_go_has_each_lasting_run_once(store: Store) -> None:
    for _ in range(300):
        start(store, name="a", run_group_id=1)
    doomed = set(range(1000000, 1000300, 7))
    stop = threading.Event()
    failures: list[BaseException] = []

    def disturb() -> None:
        try:
            pending = sorted(doomed)
            while not stop.is_set():
                start(store, name="a", run_group_id=1)
                if pending:
                    gone = pending.pop()
                    assert store.write(lambda tx, run_id=gone: runs.wish_delete(tx, ACCOUNT, run_id, 5))
        except BaseException as error:
            failures.append(error)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        walks = [walk(store, ACCOUNT, 10, name="a", run_group_id=1)[0] for _ in range(20)]
        walks += [walk(store, ACCOUNT, 10)[0] for _ in range(20)]
    finally:
        stop.set()
        disturber.join(30)
    assert failures == []
    lasting = set(range(1000000, 1000300)) - doomed
    for ids in walks:
        assert ids == sorted(set(ids))
        assert lasting <= set(ids)


def test_tasks_are_listed_by_run_and_status(store: Store) -> None:
    run, other = start(store), start(store)
    rows = [submit_task(store, run.id, f"call-{number}") for number in range(5)]
    submit_task(store, other.id, "call-0")
    store.write(lambda tx: tx.change("update task set status = 'FAILED' where id in (1000001, 1000003)", {}))

    def ids(after_id: int, limit: int, **filters: Any) -> tuple[list[int], int | None]:
        found, next_after_id = store.read(
            lambda tx: tasks.list_tasks(tx, ACCOUNT, run.id, after_id=after_id, limit=limit, **filters)
        )
        return [task.id for task in found], next_after_id

    assert ids(0, 100) == ([row.id for row in rows], None)
    assert ids(1000000, 2) == ([1000001, 1000002], 1000002)
    assert ids(0, 1, status="FAILED") == ([1000001], 1000001)
    assert ids(1000001, 1, status="FAILED") == ([1000003], None)
    assert ids(0, 100, status=str(RunStatus.RUNNING)) == ([], None)


def test_tasks_of_a_run_that_the_account_cannot_see_are_not_listed(store: Store) -> None:
    run = start(store)
    submit_task(store, run.id, "call")

    def listed(account: str) -> Any:
        return store.read(lambda tx: tasks.list_tasks(tx, account, run.id, after_id=0, limit=10))

    assert listed(OTHER_ACCOUNT) == ([], None)
    assert len(listed(ACCOUNT)[0]) == 1
    store.write(lambda tx: runs.wish_delete(tx, ACCOUNT, run.id, 5))
    assert listed(ACCOUNT) == ([], None)


def test_workflows_are_listed_by_name_and_type(store: Store) -> None:
    for number in range(9):
        create_workflow(store, name=f"w{number % 2}", type="PRIVATE" if number % 3 else "READY2RUN")
    create_workflow(store, account=OTHER_ACCOUNT, name="w1")

    def ids(**filters: Any) -> list[int]:
        found, next_after_id = store.read(
            lambda tx: catalog.list_workflows(tx, ACCOUNT, after_id=0, limit=100, **filters)
        )
        assert next_after_id is None
        return [row.id - 1000000 for row in found]

    assert ids() == list(range(9))
    assert ids(name="w1") == [1, 3, 5, 7]
    assert ids(type="READY2RUN") == [0, 3, 6]
    assert ids(name="w1", type="READY2RUN") == [3]


def test_a_listing_without_any_index_is_a_mistake(store: Store, tmp_path: Path) -> None:
    listing = Listing(table="run", columns=("id",), always="account = :account", indexed=frozenset(), texts=frozenset())
    with pytest.raises(ValueError, match="run has no index for"):
        store.read(
            lambda tx: pages.page(tx, listing, scope={"account": ACCOUNT}, filters={"name": "a"}, after_id=0, limit=10)
        )
