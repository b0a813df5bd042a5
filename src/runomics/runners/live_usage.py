"""What a running attempt has used so far, read from its cgroup by the server when somebody asks. Nothing is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def live_usage(choice: Mapping[str, str], name: str, root: Path = CGROUPS) -> tuple[float | None, int | None]:
    """(CPU seconds, bytes of memory) of the attempt whose cgroup has that name; None for what cannot be read.

    `choice`: the driver and the parent that `node.pyz detect` chose.
    """
    driver, parent = choice["driver"], choice["parent"]
    if driver == "v1":
        nanoseconds = _number(root / "cpuacct" / parent / name / "cpuacct.usage")
        cpu_seconds = None if nanoseconds is None else nanoseconds / 1e9
        return cpu_seconds, _number(root / "memory" / parent / name / "memory.usage_in_bytes")
    if driver == "v2":
        used = _keyed(root / parent / name / "cpu.stat", "usage_usec")
        return None if used is None else used / 1e6, _number(root / parent / name / "memory.current")
    return None, None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _keyed(path: Path, key: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(value) for name, _, value in (line.partition(" ") for line in lines) if name == key), None)
