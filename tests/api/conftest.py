"""The server of the tests of operations, in a fresh directory, with either database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_desk import Desk
from server_in_a_box import Box


@pytest.fixture
def box(tmp_path: Path, database_kind: str) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.close()


@pytest.fixture
def desk(box: Box) -> Iterator[Desk]:
    made = Desk(box)
    yield made
    made.batches.close()
