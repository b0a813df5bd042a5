"""Rows of run groups, and which of their runs wait or work: for operations, admission and tasks. Used inside a unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from runomics.domain.admission import GroupLimits, PendingRun
from runomics.store import statements
from runomics.store.pages import Listing, page
from runomics.store.runs import full_text
from runomics.store.transaction import Tx

KIND = "run-group"
"""What a group is called in counters and wakes."""


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A row of `run_group` (the migration says what each column is). `tags`: JSON text. A limit that is None is none."""

    id: int
    account: str
    name: str | None
    max_runs: int | None
    max_cpus: int | None
    max_gpus: int | None
    max_duration_minutes: int | None
    tags: str
    revision: int
    created_ms: int

    @property
    def limits(self) -> GroupLimits:
        """What admission goes by."""
        return GroupLimits(self.id, self.revision, self.max_runs, self.max_cpus, self.max_gpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGroup:
    """What CreateRunGroup decides."""

    id: int
    account: str
    name: str | None = None
    max_runs: int | None = None
    max_cpus: int | None = None
    max_gpus: int | None = None
    max_duration_minutes: int | None = None
    tags: str = "{}"
    created_ms: int


@dataclass(frozen=True, slots=True)
class GroupHead:
    """A group in which runs wait, and the first of them."""

    group_id: int
    max_runs: int | None
    first: PendingRun


COLUMNS = statements.columns(GroupRow)
SQL = statements.load("groups", group=GroupRow)
_LISTING = Listing(
    table="run_group",
    columns=COLUMNS,
    always="account = :account",
    indexed=frozenset({frozenset(), frozenset({"name"})}),
    texts=frozenset({"name"}),
)


# ---- for operations ----------------------------------------------------------------------------------------------


def insert_group(tx: Tx, new: NewGroup) -> None:
    """Insert a group."""
    SQL.insert_group(tx, **asdict(new))


def find_group(tx: Tx, account: str, group_id: int) -> GroupRow | None:
    """The account's group; None when it is another's or missing."""
    row = SQL.find_group(tx, account=account, id=group_id)
    return None if row is None else GroupRow(*row)


def list_groups(
    tx: Tx, account: str, *, after_id: int, limit: int, name: str | None = None
) -> tuple[list[GroupRow], int | None]:
    """A page of the account's groups, ascending by id, and the id to go on after, None at the end."""
    rows, next_id = page(
        tx, _LISTING, scope={"account": account}, filters={"name": name}, after_id=after_id, limit=limit
    )
    return [GroupRow(*row) for row in rows], next_id


def count_groups(tx: Tx, account: str) -> int:
    """How many groups the account has."""
    count: int = SQL.count_groups(tx, account=account)
    return count


def update_group(
    tx: Tx,
    group: GroupRow,
    *,
    name: str | None = None,
    max_runs: int | None = None,
    max_cpus: int | None = None,
    max_gpus: int | None = None,
    max_duration_minutes: int | None = None,
) -> None:
    """Change what is given, and wake the scheduler: what waits or works in the group goes by the new limits."""
    SQL.update_group(
        tx,
        account=group.account,
        id=group.id,
        name=name,
        max_runs=max_runs,
        max_cpus=max_cpus,
        max_gpus=max_gpus,
        max_duration_minutes=max_duration_minutes,
    )
    tx.wake(KIND, group.id)


def find_open_run(tx: Tx, group_id: int) -> int | None:
    """A run of the group that has not ended."""
    run_id: int | None = SQL.open_run_of_group(tx, id=group_id)
    return run_id


def delete_group(tx: Tx, group: GroupRow) -> None:
    """Remove the group. The caller has seen that no run of it is open; ended ones go on naming it."""
    SQL.delete_group(tx, account=group.account, id=group.id)


# ---- for the scheduler -------------------------------------------------------------------------------------------


def load_group(tx: Tx, group_id: int) -> GroupRow | None:
    """Any account's group."""
    row = SQL.load_group(tx, id=group_id)
    return None if row is None else GroupRow(*row)


def active_runs_of_groups(tx: Tx) -> dict[int, int]:
    """Group → how many of its runs have been admitted and have not ended; none for groups without such runs."""
    return dict(SQL.active_runs_of_groups(tx))


def active_runs_of_group(tx: Tx, group_id: int) -> list[int]:
    """Which those are."""
    return [row[0] for row in SQL.active_runs_of_group(tx, id=group_id)]


def count_active_runs(tx: Tx, group_id: int) -> int:
    """How many those are."""
    count: int = SQL.count_active_runs_of_group(tx, id=group_id)
    return count


def heads_of_pending_runs(tx: Tx, full: Iterable[tuple[str, str]] = ()) -> Iterator[GroupHead]:
    """Every group in which runs wait that are not of a `full` quota, with the first of them.

    Costs a probe for each group, however many runs wait in it, but for those of full quotas.
    """
    after_id, listed = 0, full_text(full)
    while (row := SQL.next_group_with_pending_runs(tx, after_id=after_id, full=listed)) is not None:
        after_id, max_runs, *run = row
        yield GroupHead(after_id, max_runs, PendingRun(*run))


def pending_runs(
    tx: Tx, group_id: int, *, limit: int, skip: int, full: Iterable[tuple[str, str]] = ()
) -> list[PendingRun]:
    """PENDING runs of the group but for the first `skip`: highest priority first (none is 0), then the oldest."""
    rows = SQL.pending_runs_of_group(tx, id=group_id, limit=limit, skip=skip, full=full_text(full))
    return [PendingRun(*row) for row in rows]
