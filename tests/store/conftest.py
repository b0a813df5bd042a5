"""An open store in a directory of its own, with either database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from databases import open_store
from runomics.store.database import SqliteStore, Store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "database.sqlite"


@pytest.fixture
def store(database: Path, database_kind: str) -> Iterator[Store]:
    store = open_store(database)
    yield store
    store.close()


@pytest.fixture
def file_store(database: Path) -> Iterator[SqliteStore]:
    """For what only the file has: its pragmas, its plans, its group commit."""
    store = SqliteStore(database)
    yield store
    store.close()
