"""kill -9 in the middle of delivery, again and again: nothing that was durable is missed, nothing overtakes anything."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from event_world import World
from receiver import Receiver

from databases import database_url, open_store
from runomics.domain.event import Topic

PROGRAM = Path(__file__).with_name("delivering_server.py")
STATUSES = ["PENDING", "STARTING", "STOPPING"]
RUNS_PER_LIFE = 30


def start(database: Path, runs: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(PROGRAM), database_url(database) or str(database), str(runs)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )


@pytest.mark.usefixtures("database_kind")
@pytest.mark.parametrize("seed", [1, 2])
def test_events_survive_a_server_that_is_killed_while_it_delivers(
    tmp_path: Path, receiver: Receiver, seed: int
) -> None:
    chance = random.Random(seed)
    database = tmp_path / "database.sqlite"
    store = open_store(database)
    World(store).add_webhook(receiver.url, topics=frozenset({Topic.RUN}))
    store.close()
    receiver.answer = lambda document: 200 if chance.random() < 0.8 else 503
    acknowledged: list[str] = []
    for _ in range(4):
        process = start(database, RUNS_PER_LIFE)
        assert process.stdout is not None
        acknowledged += [process.stdout.readline().strip() for _ in range(chance.randrange(5, RUNS_PER_LIFE))]
        seen = len(receiver.sent)
        receiver.wait_for(lambda seen=seen: len(receiver.sent) > seen)  # type: ignore[misc]
        process.kill()
        acknowledged += process.communicate(timeout=20)[0].split()
    receiver.answer = lambda document: 200

    def came() -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for document in receiver.taken:
            found[document["detail"]["runId"]].append(document["detail"]["status"])
        return found

    process = start(database, 0)
    try:
        receiver.wait_for(lambda: all(came().get(run_id, [])[-1:] == STATUSES[-1:] for run_id in acknowledged), 30)
    finally:
        process.kill()
        process.communicate(timeout=20)

    assert len(acknowledged) >= 20
    for run_id, statuses in came().items():
        without_repeats = [
            status for before, status in zip([None, *statuses], statuses, strict=False) if status != before
        ]
        assert without_repeats == STATUSES[: len(without_repeats)], run_id
