"""The text of the statements: portable, each served by an index, each with the columns its rows are made of."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sample_rows import ACCOUNT, start

from runomics.domain import batch as batch_life
from runomics.domain import run as run_life
from runomics.domain import share as share_life
from runomics.domain import task as task_life
from runomics.domain.run import RunStatus
from runomics.store import (
    account_use,
    accounts,
    batch_runs,
    batches,
    buckets,
    caches,
    catalog,
    configurations,
    events,
    groups,
    guard,
    images,
    runs,
    shares,
    statements,
    tags,
    tasks,
    tokens,
    versions,
    webhooks,
)
from runomics.store.database import SqliteStore, Store, Tx
from runomics.store.migrate import FOLDER as MIGRATIONS
from runomics.store.pages import Listing, drivers, probe_text, walk_text

ROOMS = {
    "account_use": account_use.SQL,
    "accounts": accounts.SQL,
    "buckets": buckets.SQL,
    "caches": caches.SQL,
    "batch_runs": batch_runs.SQL,
    "batches": batches.SQL,
    "catalog": catalog.SQL,
    "configurations": configurations.SQL,
    "events": events.SQL,
    "groups": groups.SQL,
    "images": images.SQL,
    "runs": runs.SQL,
    "shares": shares.SQL,
    "tags": tags.SQL,
    "tasks": tasks.SQL,
    "tokens": tokens.SQL,
    "versions": versions.SQL,
    "webhooks": webhooks.SQL,
}
LISTINGS: dict[str, tuple[Listing, tuple[str, ...]]] = {
    "batches": (batches._LISTING, ("status", "name", "run_group_id")),
    "batch_runs": (batch_runs._LISTING, ("submission_status", "run_setting_id", "run_id")),
    "caches": (caches._LISTING, ()),
    "configurations": (configurations._LISTING, ()),
    "groups": (groups._LISTING, ("name",)),
    "runs": (runs._LISTING, ("name", "run_group_id", "batch_id", "status")),
    "tasks": (tasks._LISTING, ("status",)),
    "versions": (versions._LISTING, ()),
    "workflows": (catalog._LISTING, ("name", "type")),
}
SCHEDULERS_SHARE_EVENTS = {share_life.ShareEvent.ACTIVATED, share_life.ShareEvent.DELETED}
SMALL = {"account", "access_key", "bucket", "bucket_reader", "counter", "event", "webhook"}
"""Tables that may be read whole. Events stay for seconds only, and each look at them takes the first few."""
WALKED_WHOLE = {
    "configuration_creating",
    "run_active",
    "run_batch_open",
    "run_active_in_group",
    "run_pending_alone",
    "run_pending_in_group",
    "run_sandbox_slot",
    "run_to_cancel",
    "run_to_delete",
    "share_moving",
    "task_open",
    "workflow_creating",
    "workflow_version_creating",
}
"""Partial indexes of the rows that wait for something, however many others there are."""


def named() -> Iterator[tuple[str, str]]:
    for room, sql in ROOMS.items():
        for name, statement in vars(sql).items():
            yield f"{room}.{name}", statement.sql


def composed() -> Iterator[tuple[str, str]]:
    for name, (listing, filters) in LISTINGS.items():
        for size in range(len(filters) + 1):
            for chosen in combinations(filters, size):
                label = "+".join((name, *chosen))
                asked = frozenset(chosen)
                if asked in listing.indexed:
                    yield label, walk_text(listing, driver=asked)
                    continue
                for driver in drivers(listing, asked):
                    by = f"{label} by {'+'.join(sorted(driver))}"
                    yield f"{by}, bound", probe_text(listing, driver=driver)
                    yield by, walk_text(listing, driver=driver, rest=asked - driver)
                    yield f"{by}, bounded", walk_text(listing, driver=driver, rest=asked - driver, bounded=True)


class Recorded(Exception):
    """Carries what the guard would have executed."""


def guarded() -> Iterator[tuple[str, str]]:
    changed = {
        "configuration": {"status"},
        "run": runs.APPLIED,
        "run_batch": batches.APPLIED,
        "share": {"status", "status_message", "updated_ms"},
        "task": tasks.APPLIED,
        "workflow": catalog.APPLIED,
        "workflow_version": versions.APPLIED,
    }
    for table, applied in changed.items():
        texts: list[str] = []
        tx: Any = SimpleNamespace(change=lambda text, values, into=texts: into.append(text))
        guard.update_guarded(tx, table, dict.fromkeys(applied), row_id=1, revision=1, status="PENDING")
        yield f"guarded update of {table}", texts[0]


EVERYTHING = [*named(), *composed(), *guarded()]


def parameters(text: str) -> dict[str, Any]:
    return dict.fromkeys(re.findall(r":(\w+)", text), 1)


def plan(file_store: SqliteStore, text: str) -> list[str]:
    return file_store.write(
        lambda tx: [row[3] for row in tx.rows(f"explain query plan {text}", parameters(text))],
    )


@pytest.mark.parametrize(("label", "text"), EVERYTHING, ids=[label for label, _ in EVERYTHING])
def test_every_statement_follows_an_index_and_sorts_nothing(file_store: SqliteStore, label: str, text: str) -> None:
    for step in plan(file_store, text):
        assert "TEMP B-TREE" not in step, step
        scanned = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", step)
        if scanned is None or scanned[1] in SMALL or scanned[1] == "CONSTANT":
            continue
        assert scanned[2] in WALKED_WHOLE, step


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ((), "run_by_account"),
        (("status",), "run_by_status"),
        (("name",), "run_by_name"),
        (("name", "status"), "run_by_name_status"),
        (("run_group_id",), "run_by_group"),
        (("run_group_id", "status"), "run_by_group_status"),
        (("batch_id",), "run_by_batch"),
        (("batch_id", "status"), "run_by_batch_status"),
    ],
)
def test_a_page_walks_the_index_made_for_its_filters(
    file_store: SqliteStore, filters: tuple[str, ...], index: str
) -> None:
    equal = "".join(f" AND {name}=?" for name in filters)
    ordered = {"account=?" + equal} | {"account=?" + "".join(f" AND {name}=?" for name in sorted(filters))}
    steps = plan(file_store, walk_text(runs._LISTING, driver=frozenset(filters)))
    assert steps in [[f"SEARCH run USING INDEX {index} ({columns} AND id>?)"] for columns in ordered]


def test_a_bounded_walk_follows_the_chosen_index_and_no_other(file_store: SqliteStore) -> None:
    asked = frozenset({"name", "run_group_id", "batch_id", "status"})
    followed = {
        driver: plan(file_store, walk_text(runs._LISTING, driver=driver, rest=asked - driver, bounded=True))
        for driver in drivers(runs._LISTING, asked)
    }
    assert {driver: re.findall(r"INDEX (\w+)", " ".join(steps)) for driver, steps in followed.items()} == {
        frozenset({"name", "status"}): ["run_by_name_status"],
        frozenset({"run_group_id", "status"}): ["run_by_group_status"],
        frozenset({"batch_id", "status"}): ["run_by_batch_status"],
    }


@pytest.mark.parametrize(("label", "text"), EVERYTHING, ids=[label for label, _ in EVERYTHING])
def test_every_statement_is_portable(label: str, text: str) -> None:
    assert "%" not in text
    for word in ("indexed by", "rowid", "ifnull", "glob", "json_", "pragma", "insert or", "replace into", "strftime"):
        assert word not in text.lower()


def test_no_statement_hides_outside_the_store_s_texts() -> None:
    source = Path(statements.__file__).parent
    verb = re.compile(r"\s*(select|insert into|update|delete from)\s")
    found = {
        path.name
        for path in source.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and verb.match(node.value)
    }
    of_postgresql = {"postgresql_lock.py", "postgresql_schema.py"}
    assert found == {"dialect.py", "guard.py", "pages.py"} | of_postgresql


def test_names_of_statements_are_unique_in_their_file() -> None:
    for path in statements.FOLDER.glob("*.sql"):
        names = re.findall(r"^-- name: (\w+)\(", path.read_text(), re.MULTILINE)
        assert len(names) == len(set(names)) == len(vars(ROOMS[path.stem]))


def test_a_plain_statement_runs_at_once_and_gives_a_list(store: Store) -> None:
    start(store)
    assert store.read(lambda tx: runs.SQL.active_run_ids(tx)) == []
    assert isinstance(store.read(lambda tx: runs.SQL.pending_runs(tx, limit=5, full="")), list)


def test_a_plain_statement_that_changes_rows_does_so_without_being_iterated(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "claim.sql").write_text(
        "-- name: claim(status)\nupdate run set name = 'claimed' where status = :status returning {run};\n"
    )
    monkeypatch.setattr(statements, "FOLDER", tmp_path)
    sql = statements.load("claim", run=runs.RunRow)
    run = start(store)
    store.write(lambda tx: sql.claim(tx, status="PENDING") and None)
    assert store.read(lambda tx: tx.rows("select id, name from run", {})) == [(run.id, "claimed")]


def test_a_statement_with_an_undeclared_parameter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.sql").write_text("-- name: bad(id)^\nselect 1 from run where id = :id and account = :account;\n")
    monkeypatch.setattr(statements, "FOLDER", tmp_path)
    with pytest.raises(Exception, match="undeclared parameter name in query bad: account"):
        statements.load("bad")


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("account", statements.columns(accounts.AccountRow)),
        ("access_key", statements.columns(accounts.AccessKeyRow)),
        ("bucket", statements.columns(buckets.BucketRow)),
        ("run", runs.COLUMNS),
        ("task", tasks.COLUMNS),
        ("workflow", catalog.COLUMNS),
        ("workflow_version", versions.COLUMNS),
        ("share", shares.COLUMNS),
        ("run_group", groups.COLUMNS),
        ("run_cache", caches.COLUMNS),
        ("configuration", configurations.COLUMNS),
        ("event", statements.columns(events.EventRow)),
        ("image", statements.columns(images.ImageRow)),
        ("webhook", statements.columns(webhooks.WebhookRow)),
        ("webhook_event", statements.columns(webhooks.QueuedRow)),
        ("run_batch", batches.COLUMNS),
    ],
)
def test_a_row_has_every_column_of_its_table(file_store: SqliteStore, table: str, columns: tuple[str, ...]) -> None:
    there = file_store.read(lambda tx: [row[1] for row in tx.rows(f"pragma table_info({table})", {})])
    assert sorted(columns) == sorted(there)


def test_lists_of_statuses_in_the_sql_are_the_domains() -> None:
    ended_run = {str(status) for status in run_life.ENDED}
    ended_task = {str(status) for status in task_life.ENDED}
    let_go_share = {str(status) for status in share_life.LET_GO}
    moving_share = {str(status) for status, event in share_life.MOVES if event in SCHEDULERS_SHARE_EVENTS}
    resting_batch = {str(status) for status in batch_life.RESTING}
    allowed = [resting_batch, ended_run, ended_run | {str(RunStatus.PENDING)}, ended_task, let_go_share, moving_share]
    texts = [
        *(path.read_text() for path in MIGRATIONS.glob("*.sql")),
        *(path.read_text() for path in statements.FOLDER.glob("*.sql")),
    ]
    lists = [
        set(re.findall(r"'(\w+)'", found))
        for text in texts
        for found in re.findall(r"status (?:not )?in \(([^)]*)\)", text)
    ]
    assert len(lists) >= 8
    assert [found for found in lists if found not in allowed] == []


def test_a_guarded_update_binds_its_values(store: Store) -> None:
    run = start(store)
    text = "x', status = 'FAILED"

    def unit(tx: Tx) -> bool:
        return runs.apply_run(tx, run, run.state, now_ms=1, status_message=text)

    assert store.write(unit)
    found = store.read(lambda tx: runs.find_run(tx, ACCOUNT, run.id))
    assert found is not None
    assert (found.status, found.status_message) == (RunStatus.PENDING, text)
