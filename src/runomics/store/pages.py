"""Pages of lists: ascending by id, from any depth and with any filters at a bounded cost. Used inside a unit.

A list is asked for with filters (column = value). Where an index holds exactly these columns, the page is one walk of it. For the
other combinations the walk is bounded: of the indexes that serve some of the filters, the one whose next entries reach furthest is
followed for at most `WALK` entries; the page is what they hold, short or even empty, with a token to go on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runomics.store.transaction import Tx

WALK = 1000
"""Index entries examined for one page when no index serves all of its filters: about a millisecond."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What can be listed from `table`.

    `columns` come back, `id` first. `always` are conditions of every page, with their parameters in the scope. `indexed` are the
    sets of filters that an index (scope, filters…, id) serves; the empty set is one of them. `texts` are the filters of type text.
    """

    table: str
    columns: tuple[str, ...]
    always: str
    indexed: frozenset[frozenset[str]]
    texts: frozenset[str]


def page(
    tx: Tx, listing: Listing, *, scope: Mapping[str, Any], filters: Mapping[str, Any], after_id: int, limit: int
) -> tuple[list[tuple[Any, ...]], int | None]:
    """At most `limit` rows with id > `after_id`, ascending, and the id to go on after, None when there are no more.

    Filters whose value is None are left out.
    """
    asked = {column: value for column, value in filters.items() if value is not None}
    values = {**scope, **asked, "after_id": after_id, "limit": limit + 1}
    if frozenset(asked) in listing.indexed:
        rows = tx.rows(walk_text(listing, driver=frozenset(asked)), values)
        return _cut(rows, limit, None)
    driver, end_id = _choose(tx, listing, frozenset(asked), values)
    rest = frozenset(asked) - driver
    rows = tx.rows(
        walk_text(listing, driver=driver, rest=rest, bounded=end_id is not None), {**values, "end_id": end_id}
    )
    return _cut(rows, limit, end_id)


def walk_text(
    listing: Listing, *, driver: frozenset[str], rest: frozenset[str] = frozenset(), bounded: bool = False
) -> str:
    """The statement of a page: along the index of `driver`, checking `rest` on each row, up to `:end_id` when `bounded`."""
    end = " and id <= :end_id" if bounded else ""
    # An expression is no column: it keeps the planner, which knows no sizes, from following another index than the chosen one.
    checks = "".join(
        f" and {column} || '' = :{column}" if column in listing.texts else f" and {column} + 0 = :{column}"
        for column in sorted(rest)
    )
    return (
        f"select {', '.join(listing.columns)} from {listing.table}"  # noqa: S608 - names are the program's own, values are bound
        f" where {listing.always}{_equals(driver)} and id > :after_id{end}{checks} order by id limit :limit"
    )


def probe_text(listing: Listing, *, driver: frozenset[str]) -> str:
    """The statement that finds where a walk along the index of `driver` has to stop."""
    return (
        f"select id from {listing.table}"  # noqa: S608 - names are the program's own, values are bound
        f" where {listing.always}{_equals(driver)} and id > :after_id order by id limit 1 offset :skip"
    )


def drivers(listing: Listing, asked: frozenset[str]) -> list[frozenset[str]]:
    """The indexes worth following for `asked`: those that serve some of it and of which no other serves more."""
    serving = [served for served in listing.indexed if served <= asked]
    return sorted((s for s in serving if not any(s < other for other in serving)), key=sorted)


def _choose(
    tx: Tx, listing: Listing, asked: frozenset[str], values: Mapping[str, Any]
) -> tuple[frozenset[str], int | None]:
    """The driver whose next `WALK` entries reach furthest, and the id of the last of them; None when they reach the end."""
    best: tuple[frozenset[str], int] | None = None
    for driver in drivers(listing, asked):
        found = tx.rows(probe_text(listing, driver=driver), {**values, "skip": WALK - 1})
        if not found:
            return driver, None
        end_id: int = found[0][0]
        if best is None or end_id > best[1]:
            best = driver, end_id
    if best is None:
        raise ValueError(f"{listing.table} has no index for {sorted(asked)}")
    return best


def _cut(rows: list[tuple[Any, ...]], limit: int, end_id: int | None) -> tuple[list[tuple[Any, ...]], int | None]:
    if len(rows) <= limit:
        return rows, end_id
    return rows[:limit], rows[limit - 1][0]


def _equals(columns: frozenset[str]) -> str:
    return "".join(f" and {column} = :{column}" for column in sorted(columns))
