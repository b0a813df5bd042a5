"""The files of one task attempt as the server reads and writes them: spec.json, pid, running.json, result.json (docs/dev/formats.md)."""

from __future__ import annotations

import contextlib
import functools
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from runomics.domain.task import Reason
from runomics.domain.usage import Minute
from runomics.ports import ProcessRef, TaskEnd

FORMAT = 1


def write_spec(directory: Path, spec: Mapping[str, Any]) -> None:
    """Make the attempt's directory and its spec.json, whole when it appears. May be repeated.

    Not synced: a crash of the host ends every attempt of it whatever its files say, and the engine begins anew.
    """
    place = str(directory)
    try:
        os.mkdir(place, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = f"{place}/spec.json.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(orjson.dumps({"format": FORMAT, **spec}))
    os.rename(temporary, f"{place}/spec.json")


def read_claim(directory: Path) -> ProcessRef | None:
    """Who owns the attempt; None when nobody does. A broken claim is one of a process that is gone."""
    try:
        fields = _content(f"{directory}/pid").decode(errors="replace").split()
    except FileNotFoundError:
        return None
    if len(fields) != 3 or not (fields[0].isdigit() and fields[1].isdigit()):
        return ProcessRef(0, 0, "")
    return ProcessRef(int(fields[0]), int(fields[1]), fields[2])


def forbid(directory: Path) -> bool:
    """Claim the attempt for nobody, so that no supervisor can ever start it; False when it has an owner."""
    temporary = directory / f"pid.{uuid.uuid4().hex}"
    try:
        temporary.write_text(f"0 0 {boot_id()}\n")
        os.link(temporary, directory / "pid")
    except FileExistsError:
        return False
    except FileNotFoundError:
        return True
    finally:
        temporary.unlink(missing_ok=True)
    return True


def read_started_ms(directory: Path) -> int | None:
    """When the container was started; None as long as it was not."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return int(orjson.loads(_content(f"{directory}/running.json"))["started_ms"])
    return None


def read_end(directory: Path) -> TaskEnd | None:
    """How the attempt ended; None as long as it has not."""
    path = f"{directory}/result.json"
    try:
        result = orjson.loads(_content(path))
        if result["format"] != FORMAT:
            return TaskEnd(Reason.RUNTIME, None, f"{path} has format {result['format']!r}; this server knows {FORMAT}")
        return TaskEnd(
            reason=Reason(result["reason"]),
            exit_code=result["exit_code"],
            message=result["message"],
            started_ms=result["started_ms"],
            stopped_ms=result["stopped_ms"],
            cpu_seconds=result["cpu_seconds"],
            peak_memory_bytes=result["peak_memory_bytes"],
            limits_are_soft=result["limits_are_soft"],
            minutes=tuple(_minute(row) for row in result["usage"]),
            scratch_used_bytes=result.get("scratch_used_bytes"),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        return TaskEnd(Reason.RUNTIME, None, f"{path} cannot be read: {type(error).__name__}: {error}")


def _content(path: str) -> bytes:
    """Of a small file: what Path and a buffer add to that costs more than the reading, five times a task."""
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _minute(row: list[float]) -> Minute:
    """A row of `usage`; a supervisor of an earlier version notes no average."""
    began_ms, cpu_seconds, peak_bytes, *average_bytes = row
    return Minute(int(began_ms), cpu_seconds, int(peak_bytes), int(average_bytes[0] if average_bytes else peak_bytes))


@functools.lru_cache(maxsize=1)
def boot_id() -> str:
    """What names this boot of the host."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def open_process(reference: ProcessRef) -> int | None:
    """A pidfd of exactly that process; None when it is gone, a zombie, or of another boot."""
    if reference.pid == 0 or reference.boot_id != boot_id():
        return None
    try:
        descriptor = os.pidfd_open(reference.pid)
    except OSError:
        return None
    try:
        fields = _content(f"/proc/{reference.pid}/stat").rpartition(b")")[2].split()
        if int(fields[19]) == reference.start_time and fields[0] not in (b"Z", b"X"):
            return descriptor
    except (OSError, IndexError):
        pass
    os.close(descriptor)
    return None
