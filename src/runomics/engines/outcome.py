"""What an engine hands back, and how it is left in a file for the server. Runs in the run process."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1

SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"
CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run cannot go on: `kind` is task, engine, input or stage; the other members where they apply (docs/dev/formats.md)."""

    kind: str
    message: str
    task_key: str | None = None
    task_attempt: int | None = None
    task_reason: str | None = None
    exit_code: int | None = None
    uri: str | None = None
    code: str | None = None

    def document(self) -> dict[str, Any]:
        """The members that apply."""
        members = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an engine. `outputs` holds `{"__export__": target}` for files; `exports` says where each target comes from.

    `outputs` None: the language has no such document.
    """

    status: str
    outputs: Mapping[str, Any] | None = field(default_factory=dict)
    exports: Sequence[Mapping[str, Any]] = ()
    failure: Failure | None = None


def document(outcome: Outcome, *, incarnation: int, engine_version: str) -> dict[str, Any]:
    """result.json of `outcome`."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "format": FORMAT,
        "incarnation": incarnation,
        "status": outcome.status,
        "engine_version": engine_version,
        "outputs": outcome.outputs,
        "exports": list(outcome.exports),
        "failure": None if outcome.failure is None else outcome.failure.document(),
        "cpu_seconds": round(sum(usage.ru_utime + usage.ru_stime for usage in used), 4),
    }


def write_durably(path: str, content: Mapping[str, Any]) -> None:
    """Replace `path` by `content` as JSON: a reader sees all of it or nothing, also after a power cut."""
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
