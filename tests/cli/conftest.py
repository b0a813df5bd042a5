"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from listening import Listener

from runomics import data_directory
from runomics.store.database import SqliteStore

ACCOUNT = "123456789012"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    """A listening stand-in for a server, with its files in a DATA of its own."""
    data = tmp_path / "data"
    data.mkdir()
    listener = Listener(data)
    yield listener
    listener.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What a server's first start leaves."""
    made = tmp_path / "data"
    data_directory.make(made)
    store = SqliteStore(made / "database.sqlite")
    data_directory.keys(store, made, account=ACCOUNT, now_ms=1)
    store.close()
    return made
