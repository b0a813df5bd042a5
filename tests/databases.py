"""Both databases for the same tests. A test that has the fixture `database_kind`, mostly through another one, runs once with each.

Helpers open what they need by `open_store(path)`: the file itself, or the PostgreSQL database that stands for that path in this test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postgresql_cluster import Cluster, running
from runomics.store.database import SqliteStore, Store
from runomics.store.postgresql import PostgresqlStore

SQLITE = "sqlite"
POSTGRESQL = pytest.param("postgresql", marks=(pytest.mark.postgresql, pytest.mark.needs("postgresql")))

_urls: dict[Path, str] = {}
_cluster: list[Cluster] = []
"""The cluster, while the test that runs is one with PostgreSQL."""


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], Cluster]]:
    """The cluster of the session, started when it is called first."""
    with running() as cluster:
        yield cluster


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def database_kind(request: pytest.FixtureRequest, postgresql: Callable[[], Cluster]) -> Iterator[str]:
    """Which database `open_store` opens until the end of the test."""
    kind: str = request.param
    if kind != SQLITE:
        _cluster.append(postgresql())
    yield kind
    if kind != SQLITE:
        cluster = _cluster.pop()
        for url in _urls.values():
            cluster.give_back(url)
        _urls.clear()


def database_url(path: Path) -> str | None:
    """What a process of its own has to be told to open the database of `path`: a PostgreSQL URL, or None for the file."""
    if path in _urls:
        return _urls[path]
    if not _cluster:
        return None
    _urls[path] = _cluster[0].take()
    return _urls[path]


def stand_for(path: Path, url: str) -> None:
    """Have `open_store(path)` open the database at `url`: in a process of its own, what `database_url` told the test."""
    _urls[path] = url


def open_store(path: Path, **options: Any) -> Store:
    """The database of `path`, the same one each time within a test."""
    return open_url(database_url(path) or str(path), **options)


def open_url(place: str, **options: Any) -> Store:
    """A path or a URL. For processes that a test starts."""
    if place.startswith("postgresql://"):
        return PostgresqlStore(place, connections=8, **options)
    return SqliteStore(Path(place), **options)
