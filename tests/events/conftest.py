"""A database, a clock that the test moves, and receivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from event_world import World
from receiver import Receiver

from databases import open_store


@pytest.fixture
def world(tmp_path: Path, database_kind: str) -> Iterator[World]:
    store = open_store(tmp_path / "database.sqlite")
    made = World(store)
    yield made
    made.close()
    store.close()


@pytest.fixture
def new_receiver() -> Iterator[Callable[[], Receiver]]:
    made: list[Receiver] = []

    def make() -> Receiver:
        made.append(Receiver())
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def receiver(new_receiver: Callable[[], Receiver]) -> Receiver:
    return new_receiver()
