"""The tags of rows of every kind, read and replaced by what an ARN says of them. Used inside a unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from runomics.domain.tagged import Tagged, TaggedKind
from runomics.store import statements
from runomics.store.transaction import Tx

SQL = statements.load("tags")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the tags of a kind are: the statements that read and replace them, and what those find a row by beside the account."""

    read: Callable[..., Any]
    replace: Callable[..., Any]
    key: Callable[[Tagged], dict[str, Any]]


def _by_id(thing: Tagged) -> dict[str, Any]:
    return {"id": thing.id}


def _by_name(thing: Tagged) -> dict[str, Any]:
    return {"name": thing.name}


def _by_id_and_name(thing: Tagged) -> dict[str, Any]:
    return {"id": thing.id, "name": thing.name}


_PLACES: Mapping[TaggedKind, _Place] = {
    TaggedKind.RUN: _Place(SQL.tags_of_run, SQL.set_tags_of_run, _by_id),
    TaggedKind.RUN_GROUP: _Place(SQL.tags_of_group, SQL.set_tags_of_group, _by_id),
    TaggedKind.RUN_CACHE: _Place(SQL.tags_of_cache, SQL.set_tags_of_cache, _by_id),
    TaggedKind.RUN_BATCH: _Place(SQL.tags_of_batch, SQL.set_tags_of_batch, _by_id),
    TaggedKind.WORKFLOW: _Place(SQL.tags_of_workflow, SQL.set_tags_of_workflow, _by_id),
    TaggedKind.WORKFLOW_VERSION: _Place(SQL.tags_of_version, SQL.set_tags_of_version, _by_id_and_name),
    TaggedKind.CONFIGURATION: _Place(SQL.tags_of_configuration, SQL.set_tags_of_configuration, _by_name),
}
"""A kind that has no place yet is not found."""


def find_tags(tx: Tx, account: str, thing: Tagged) -> dict[str, str] | None:
    """The tags of the account's thing; None when it has no such thing. The account in `thing` is not looked at."""
    place = _PLACES.get(thing.kind)
    text = None if place is None else place.read(tx, account=account, **place.key(thing))
    return None if text is None else dict(orjson.loads(text))


def set_tags(tx: Tx, account: str, thing: Tagged, tags: Mapping[str, str]) -> None:
    """Replace the tags of what `find_tags` found."""
    place = _PLACES[thing.kind]
    place.replace(tx, account=account, tags=orjson.dumps(tags).decode(), **place.key(thing))
