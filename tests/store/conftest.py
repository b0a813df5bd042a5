"""An open store in a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runomics.store.database import SqliteStore


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "database.sqlite"


@pytest.fixture
def store(database: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(database)
    yield store
    store.close()
