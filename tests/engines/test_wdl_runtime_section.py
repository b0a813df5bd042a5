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
