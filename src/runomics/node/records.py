"""running.json and result.json of an attempt, written by its supervisor (or by the one that sweeps after it). Readers see whole files.

They are not synced: they must outlive processes, not the host. After a crash of the host every attempt of it is over whatever they say.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import traceback
from typing import Any

FORMAT = 1
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
RUNNING, RESULT = "running.json", "result.json"


def write_running(directory: str, started_ms: int) -> None:
    """Say that the attempt's container was started."""
    _replace(directory, RUNNING, {"format": FORMAT, "started_ms": started_ms})


def write_result(directory: str, members: dict[str, Any]) -> None:
    """End the attempt: the file's appearance is the end."""
    _replace(directory, RESULT, {"format": FORMAT, **members})


def complain() -> None:
    """The exception at hand into runtime.log, if the disk takes it."""
    with contextlib.suppress(OSError):
        traceback.print_exc()


def has_result(directory: str) -> bool:
    """Whether the attempt has ended."""
    return os.path.exists(f"{directory}/{RESULT}")


def started_ms(directory: str) -> int | None:
    """When the container was started; None when it was not, or the file is broken."""
    try:
        with open(f"{directory}/{RUNNING}") as file:
            return int(json.load(file)["started_ms"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _replace(directory: str, name: str, document: dict[str, Any]) -> None:
    temporary = f"{directory}/{name}.{os.getpid()}"
    content = memoryview(json.dumps(document).encode())
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    finally:
        os.close(descriptor)
    os.rename(temporary, f"{directory}/{name}")
