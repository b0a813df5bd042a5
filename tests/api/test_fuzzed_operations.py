"""Thousands of requests that are half right, to the real operations over a real socket: each is answered, none is the server's fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from access_world import AccessWorld

from fuzz import Client, Fuzzer, fuzz

REQUESTS = 2500


@pytest.mark.parametrize("seed", [1, 2])
def test_no_request_is_answered_as_the_servers_fault(tmp_path: Path, seed: int) -> None:
    world = AccessWorld(tmp_path)
    with world.serving():
        client = Client(world.port, key_id=world.operator.access_key_id, secret=world.operator.secret)
        statuses, faults = fuzz(client, Fuzzer(seed), REQUESTS)
        assert faults == []
        assert world.call(world.operator, "ListRuns", {}).status == 200
        client.close()
    assert sum(statuses.values()) == REQUESTS
    assert {200, 201, 202, 400, 404, 409} <= statuses.keys(), statuses
