"""Which storage a run gets, and what its capacity reads like."""

from __future__ import annotations

import pytest

from runomics.domain.storage import RunStorage, StorageWish, resolve, shown_capacity_gib

STATIC_DEFAULT = RunStorage("STATIC", 1200)
NONE = StorageWish()


@pytest.mark.source("assumed")
@pytest.mark.parametrize(
    ("request_", "workflow", "resolved"),
    [
        (NONE, NONE, RunStorage("STATIC", 1200)),
        (StorageWish("STATIC"), NONE, RunStorage("STATIC", 1200)),
        (StorageWish("STATIC", 10), StorageWish("DYNAMIC"), RunStorage("STATIC", 10)),
        (StorageWish(None, 10), NONE, RunStorage("STATIC", 10)),
        (NONE, StorageWish("STATIC", 4800), RunStorage("STATIC", 4800)),
        (StorageWish("STATIC"), StorageWish(None, 4800), RunStorage("STATIC", 4800)),
        (StorageWish("STATIC", 0), StorageWish(None, 4800), RunStorage("STATIC", 4800)),
        (NONE, StorageWish("DYNAMIC"), RunStorage("DYNAMIC", None)),
        (StorageWish("DYNAMIC", 10), NONE, RunStorage("DYNAMIC", None)),
        (StorageWish(None, 10), StorageWish("DYNAMIC"), RunStorage("DYNAMIC", None)),
    ],
)
def test_the_request_wins_over_the_workflow_over_the_setting(
    request_: StorageWish, workflow: StorageWish, resolved: RunStorage
) -> None:
    assert resolve(request_, workflow, STATIC_DEFAULT) == resolved


def test_a_server_may_prefer_dynamic_and_still_size_static() -> None:
    default = RunStorage("DYNAMIC", 1200)
    assert resolve(NONE, NONE, default) == RunStorage("DYNAMIC", None)
    assert resolve(StorageWish("STATIC"), NONE, default) == RunStorage("STATIC", 1200)


@pytest.mark.source("observed")
def test_static_shows_the_number_asked_for_all_along() -> None:
    assert shown_capacity_gib("STATIC", 10, None, ended=False) == 10
    assert shown_capacity_gib("STATIC", 10, 5 << 30, ended=True) == 10


@pytest.mark.source("model")
def test_dynamic_shows_its_peak_once_it_has_ended_and_ever_had_storage() -> None:
    assert shown_capacity_gib("DYNAMIC", None, 5 << 30, ended=False) is None
    assert shown_capacity_gib("DYNAMIC", None, (5 << 30) + 1, ended=True) == 6
    assert shown_capacity_gib("DYNAMIC", None, 0, ended=True) == 1
    assert shown_capacity_gib("DYNAMIC", None, None, ended=True) is None
