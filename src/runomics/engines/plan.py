"""plan.json: what a run process is told before it starts (docs/dev/formats.md). Read in the run process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

FORMATS = (1,)


class UnreadablePlan(Exception):
    """The plan was written by a server that this version does not understand, or is damaged."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One incarnation of one run. Paths are the host's, but `workdir` and the values of `staged`, which are the sandbox's."""

    run_id: str
    incarnation: int
    engine: str
    main: str
    run_directory: str
    base: str
    volume: str
    definition: str
    inputs: str
    gateway: str
    engine_directory: str
    log: str
    uid: int
    gid: int
    rootless: bool
    workdir: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    staged: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    engine_settings: Mapping[str, Any] = field(default_factory=dict)
    task_concurrency: int = 500
    gateway_patience_seconds: float = 86400.0


def read(path: str) -> Plan:
    """The plan in the file `path`; members this version does not know are passed over.

    Raises:
        UnreadablePlan: another format, or a member is missing. OSError: no such file.
    """
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    if document.get("format") not in FORMATS:
        raise UnreadablePlan(f"{path} has format {document.get('format')!r}; this version reads {FORMATS}")
    known = {one.name for one in fields(Plan)}
    try:
        return Plan(**{name: value for name, value in document.items() if name in known})
    except TypeError as error:
        raise UnreadablePlan(f"{path}: {error}") from error
