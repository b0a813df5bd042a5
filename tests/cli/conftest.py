"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from listening import Listener


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    """A listening stand-in for a server, with its files in a DATA of its own."""
    data = tmp_path / "data"
    data.mkdir()
    listener = Listener(data)
    yield listener
    listener.close()
