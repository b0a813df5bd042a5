"""What a task's `runtime` section asks of the service, as numbers. Plain functions on evaluated values; runs in the run process.

Source: guide (workflow-languages-wdl, task-resources), unless said otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import WDL

from runomics.engines.wdl import fallback_order

_SHORTEST_TIMEOUT_SECONDS = 60
_DURATION = re.compile(r"(?:(\d+)\s*d)?\s*(?:(\d+)\s*h)?\s*(?:(\d+)\s*m(?:in)?)?\s*(?:(\d+)\s*s)?", re.IGNORECASE)
_DISK_SIZE = re.compile(r"\d+(?:\.\d+)?")
_UNITS = {
    "b": 1,
    "k": 10**3, "kb": 10**3, "ki": 2**10, "kib": 2**10,
    "m": 10**6, "mb": 10**6, "mi": 2**20, "mib": 2**20,
    "g": 10**9, "gb": 10**9, "gi": 2**30, "gib": 2**30,
    "t": 10**12, "tb": 10**12, "ti": 2**40, "tib": 2**40,
}  # fmt: skip
_MOST_SERVICE_RETRIES = 2
_KINDS_OF_DISK = frozenset({"ssd", "hdd", "local", "local-disk"})


@dataclass(frozen=True, slots=True)
class Extras:
    """The keys that miniwdl itself passes over."""

    accelerators: dict[str, Any] | None = None
    timeout_seconds: int | None = None
    disk_bytes: int = 0
    profiles: tuple[dict[str, Any], ...] | None = None
    service_retries: int | None = None


def extras(values: Mapping[str, WDL.Value.Base]) -> Extras:
    """Read accelerators, time limit, disks, fallback profiles and retries after the service's errors from the evaluated section.

    Raises:
        WDL.Error.RuntimeError: a value cannot be what the key means.
    """
    return Extras(
        accelerators=_accelerators(values),
        timeout_seconds=_timeout_seconds(values.get("omicsTimeout")),
        disk_bytes=_disk_bytes(values.get("disks")),
        profiles=fallback_order.profiles(_plain(values.get(fallback_order.KEY))),
        service_retries=_service_retries(values.get("preemptible")),
    )


def _plain(value: WDL.Value.Base | None) -> Any:
    return None if value is None else value.json


def _accelerators(values: Mapping[str, WDL.Value.Base]) -> dict[str, Any] | None:
    """`acceleratorType` and `acceleratorCount`; `gpuType` and `gpuCount` count only where those are absent."""
    kind = _plain(values.get("acceleratorType", values.get("gpuType")))
    count = _plain(values.get("acceleratorCount", values.get("gpuCount")))
    if kind is None and count is None:
        return None
    try:
        number = 1 if count is None else int(count)
    except (TypeError, ValueError):
        raise WDL.Error.RuntimeError(f"invalid setting of runtime.acceleratorCount, {count}") from None
    if number < 1:
        return None
    return {"type": None if kind is None else str(kind), "count": number}


def _service_retries(value: WDL.Value.Base | None) -> int | None:
    """`preemptible`: how often the service tries again after an error of its own; 0 opts out, more than 2 is 2."""
    asked = _plain(value)
    if asked is None:
        return None
    if isinstance(asked, bool):
        return _MOST_SERVICE_RETRIES if asked else 0
    try:
        return max(0, min(_MOST_SERVICE_RETRIES, int(asked)))
    except (TypeError, ValueError):
        raise WDL.Error.RuntimeError(f"invalid setting of runtime.preemptible, {asked}") from None


def _timeout_seconds(value: WDL.Value.Base | None) -> int | None:
    """Seconds, or text like `1h30m`; at least a minute, else whole minutes rounded down."""
    asked = _plain(value)
    if asked is None:
        return None
    seconds = _duration_seconds(asked)
    if seconds is None:
        raise WDL.Error.RuntimeError(f"invalid setting of runtime.omicsTimeout, {asked}")
    return max(_SHORTEST_TIMEOUT_SECONDS, seconds // 60 * 60)


def _duration_seconds(asked: Any) -> int | None:
    if isinstance(asked, bool):
        return None
    if isinstance(asked, (int, float)):
        return int(asked) if asked > 0 else None
    text = str(asked).strip()
    if text.isdigit():
        return int(text) or None
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds or None


def _disk_bytes(value: WDL.Value.Base | None) -> int:
    """The sum of all disks, in bytes: `100`, `"100"`, `"/mnt/x 100 GB"`, `"local-disk 100 SSD"`, several by comma or as an array.

    Mount points and kinds of disk are passed over; a number without a unit is GiB.
    """
    asked = _plain(value)
    if asked is None:
        return 0
    texts = [str(one) for one in asked] if isinstance(asked, list) else str(asked).split(",")
    return sum(_one_disk_bytes(text) for text in texts)


def _one_disk_bytes(text: str) -> int:
    words = text.split()
    size: float | None = None
    unit = 2**30
    for word in words:
        bare = word.lower()
        number = _DISK_SIZE.match(bare)
        if number is not None and size is None and (number.group() == bare or bare[number.end() :] in _UNITS):
            size = float(number.group())
            unit = _UNITS.get(bare[number.end() :], unit)
        elif bare in _UNITS and size is not None:
            unit = _UNITS[bare]
        elif not (bare.startswith("/") or bare in _KINDS_OF_DISK):
            raise WDL.Error.RuntimeError(f"invalid setting of runtime.disks, {text}")
    if size is None:
        raise WDL.Error.RuntimeError(f"invalid setting of runtime.disks, {text}")
    return int(size * unit)
