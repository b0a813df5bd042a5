"""Worlds in which attempts are supervised: root's with cgroups, a plain user's without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from node_world import NodeWorld, new_place, remove_cgroup_parent

ROOT = pytest.param(False, id="root", marks=pytest.mark.needs("root", "cgroup", "bwrap"))
PLAIN = pytest.param(True, id="plain", marks=pytest.mark.needs("root", "userns", "bwrap"))


@pytest.fixture(scope="session", autouse=True)
def _no_cgroups_left() -> Iterator[None]:
    yield
    remove_cgroup_parent()


def _world(plain: bool) -> Iterator[NodeWorld]:
    world = NodeWorld(new_place(), plain)
    yield world
    world.close()


@pytest.fixture(params=[ROOT, PLAIN])
def world(request: pytest.FixtureRequest) -> Iterator[NodeWorld]:
    """Each kind of user in turn."""
    yield from _world(request.param)


@pytest.fixture(params=[ROOT])
def root_world(request: pytest.FixtureRequest) -> Iterator[NodeWorld]:
    yield from _world(request.param)


@pytest.fixture(params=[PLAIN])
def plain_world(request: pytest.FixtureRequest) -> Iterator[NodeWorld]:
    yield from _world(request.param)
