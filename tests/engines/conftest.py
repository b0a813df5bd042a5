"""Fixtures for tests with real run processes: one warm launcher per test module, a fresh folder per run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_world import World, make_world


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A data directory with a warm engine host."""
    data = Path(tempfile.mkdtemp(prefix="ro-"))
    try:
        with make_world(data) as made:
            yield made
    finally:
        shutil.rmtree(data, ignore_errors=True)
