"""A real runner for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from runner_world import RunnerWorld


@pytest.fixture
def world() -> Iterator[RunnerWorld]:
    made = RunnerWorld()
    yield made
    made.close()
