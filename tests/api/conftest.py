"""The server of the tests of operations, in a fresh directory, with either database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from server_in_a_box import Box


@pytest.fixture
def box(tmp_path: Path, database_kind: str) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.close()
