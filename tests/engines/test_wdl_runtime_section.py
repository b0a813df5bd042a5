"""What the keys of a runtime section mean, value by value."""

from __future__ import annotations

import json
from typing import Any

import pytest
import WDL

from runomics.engines.wdl.runtime_section import Extras, extras

GIB = 2**30


def read(**keys: Any) -> Extras:
    return extras({name: WDL.Value.from_json(WDL.Type.Any(), value) for name, value in keys.items()})


def test_a_section_without_the_services_keys_asks_for_nothing() -> None:
    assert read(docker="x", cpu=4, memory="8 GiB") == Extras(accelerators=None, timeout_seconds=None, disk_bytes=0)


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(1, 60), (60, 60), (119, 60), (120, 120), (3725, 3720), ("90", 60), ("1h30m", 5400), ("2h", 7200), ("45m", 2700), ("10s", 60),
     ("1d", 86400), ("1h 30m", 5400), ("1H30M", 5400), ("90min", 5400), (150.5, 120)],
)  # fmt: skip
def test_a_timeout_is_at_least_a_minute_and_whole_minutes_rounded_down(asked: Any, seconds: int) -> None:
    assert read(omicsTimeout=asked).timeout_seconds == seconds


@pytest.mark.parametrize("asked", [0, -1, "", "soon", "h", "1x", True, "1m1h", "-5m"])
def test_a_timeout_that_is_none_is_an_error(asked: Any) -> None:
    with pytest.raises(WDL.Error.RuntimeError, match=r"invalid setting of runtime\.omicsTimeout"):
        read(omicsTimeout=asked)


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("asked", "size"),
    [(100, 100 * GIB), ("100", 100 * GIB), ("100 GB", 100 * 10**9), ("100 GiB", 100 * GIB), ("1TiB", 1024 * GIB),
     ("local-disk 100 SSD", 100 * GIB),
     ("/mnt/data 50 GiB", 50 * GIB), ("/mnt/data 50 GiB, local-disk 1 HDD", 51 * GIB),
     (["/a 1", "2 GiB SSD"], 3 * GIB), ("0.5 GiB", GIB // 2), ([], 0)],
)  # fmt: skip
def test_disks_are_summed_whatever_their_place_and_kind(asked: Any, size: int) -> None:
    assert read(disks=asked).disk_bytes == size


@pytest.mark.parametrize("asked", ["", "big", "local-disk SSD", "10 parsecs", "/mnt/x"])
def test_disks_without_a_size_are_an_error(asked: str) -> None:
    with pytest.raises(WDL.Error.RuntimeError, match=r"invalid setting of runtime\.disks"):
        read(disks=asked)


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("keys", "accelerators"),
    [
        ({"acceleratorType": "nvidia-l4", "acceleratorCount": 2}, {"type": "nvidia-l4", "count": 2}),
        ({"gpuType": "nvidia-l4", "gpuCount": 1}, {"type": "nvidia-l4", "count": 1}),
        ({"acceleratorType": "nvidia-l4"}, {"type": "nvidia-l4", "count": 1}),
        ({"acceleratorType": "a", "gpuType": "b", "acceleratorCount": 1, "gpuCount": 4}, {"type": "a", "count": 1}),
        ({"gpuCount": 1}, {"type": None, "count": 1}),
        ({"acceleratorType": "a", "acceleratorCount": 0}, None),
        ({"acceleratorCount": "2", "acceleratorType": "a"}, {"type": "a", "count": 2}),
    ],
)
def test_accelerators_win_over_their_aliases(keys: dict[str, Any], accelerators: dict[str, Any] | None) -> None:
    found = read(**keys).accelerators
    assert json.dumps(found) == json.dumps(accelerators)


def test_a_count_that_is_no_number_is_an_error() -> None:
    with pytest.raises(WDL.Error.RuntimeError, match="acceleratorCount"):
        read(acceleratorType="a", acceleratorCount="many")


@pytest.mark.source("guide")
@pytest.mark.parametrize(("asked", "retries"), [(0, 0), (1, 1), (2, 2), (7, 2), (True, 2), (False, 0), ("1", 1)])
def test_preemptible_counts_retries_after_errors_of_the_service(asked: Any, retries: int) -> None:
    assert read(preemptible=asked).service_retries == retries


@pytest.mark.source("guide")
def test_a_fallback_list_becomes_profiles_with_the_usual_waits() -> None:
    asked = read(
        omicsResourceFallbackOrder=[
            {"acceleratorType": "nvidia-l4", "acceleratorCount": 4, "cpu": 4, "memory": "16 GiB"},
            {"acceleratorType": "nvidia-l4", "acceleratorCount": "1", "omicsResourceWaitTimeoutInMin": 5},
            {"cpu": 8, "memory": "32 GB"},
        ]
    )
    assert asked.profiles == (
        {
            "cpus": 4.0,
            "memory_bytes": 16 * GIB,
            "accelerators": {"type": "nvidia-l4", "count": 4},
            "wait_seconds": 1800,
        },
        {"cpus": 0.0, "memory_bytes": 0, "accelerators": {"type": "nvidia-l4", "count": 1}, "wait_seconds": 300},
        {"cpus": 8.0, "memory_bytes": 32 * 10**9, "accelerators": None, "wait_seconds": 1200},
    )


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ([], "a list of 1 to 10 profiles"),
        ([{"acceleratorType": "nvidia-l4", "acceleratorCount": 1}] * 11, "a list of 1 to 10 profiles"),
        ("nvidia-l4", "a list of 1 to 10 profiles"),
        (["nvidia-l4"], "each profile must be an object"),
        ([{"cpu": 1, "docker": "x"}], "docker is no key of a profile"),
        ([{"acceleratorType": "nvidia-l4"}], "acceleratorType and acceleratorCount go together"),
        ([{"acceleratorCount": 1}], "acceleratorType and acceleratorCount go together"),
        ([{"cpu": 1}, {"cpu": 2}], "one profile at most may be without accelerators"),
        ([{"cpu": 1}, {"acceleratorType": "nvidia-l4", "acceleratorCount": 1}], "must be the last"),
        ([{"cpu": "many"}], "cpu must be a number"),
        ([{"memory": "16 apples"}], "memory cannot be read"),
        ([{"cpu": 1, "omicsResourceWaitTimeoutInMin": 0}], "must be a number above 0"),
    ],
)
def test_a_fallback_list_that_breaks_a_rule_says_which(listed: Any, why: str) -> None:
    with pytest.raises(WDL.Error.RuntimeError, match=why):
        read(omicsResourceFallbackOrder=listed)
