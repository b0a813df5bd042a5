"""What an engine asks to run: one `submit` line of the gateway, checked. Pure; runs in the server. Trusts nothing in the line."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runomics.domain.profile import MOST_PROFILES, Profile, refused_order

ROOT = "/mnt/workflow"
NAME_LIMIT = 128
ARGUMENTS_LIMIT = 256
MOST_CPUS, MOST_BYTES = 100_000.0, 1 << 56
"""Far above any machine: what is larger is as good as this, and a row can hold it."""
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class InvalidSubmission(Exception):
    """The line asks for something no engine of ours would. The message names the member."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One task attempt as its engine asked for it. Paths are those inside the sandbox, under /mnt/workflow.

    `network`: whether it would use one; what it gets is the run's.
    `service_retries`: how often the service may try again after an error of its own; None: as the operator set it.
    """

    key: str
    attempt: int
    name: str
    argv: tuple[str, ...]
    cwd: str
    stdin: str | None
    stdout: str | None
    stderr: str | None
    env: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    cpus: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    accelerator_type: str | None = None
    accelerator_count: int = 0
    timeout_seconds: int | None = None
    fallbacks: tuple[Profile, ...] = ()
    service_retries: int | None = None
    network: bool = False

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The ways to run it, in order: the fallback list in place of what stands beside it, or that alone."""
        return self.fallbacks or (Profile(self.cpus, self.memory_bytes, self.accelerator_type, self.accelerator_count),)


def beneath(path: str) -> str:
    """`path` relative to the run's volume.

    Raises:
        InvalidSubmission: it does not lie under /mnt/workflow.
    """
    clean = posixpath.normpath(path)
    if clean != ROOT and not clean.startswith(ROOT + "/"):
        raise InvalidSubmission(f"{path!r} is not under {ROOT}")
    return posixpath.relpath(clean, ROOT)


def _text(line: Mapping[str, Any], member: str, limit: int) -> str:
    value = line.get(member)
    if not isinstance(value, str) or not value or "\0" in value:
        raise InvalidSubmission(f"{member} must be a text")
    # In bytes: what is longer than 2,700 of them fits into no index of PostgreSQL.
    if len(value.encode()) > limit:
        raise InvalidSubmission(f"{member} is longer than {limit} bytes")
    return value


def _path(line: Mapping[str, Any], member: str) -> str | None:
    if line.get(member) is None:
        return None
    path = _text(line, member, 4096)
    beneath(path)
    return path


def _number(line: Mapping[str, Any], member: str) -> float:
    value = line.get(member) or 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise InvalidSubmission(f"{member} must be a number of at least 0")
    return value


def _cpus(line: Mapping[str, Any]) -> float:
    return min(_number(line, "cpus"), MOST_CPUS)


def _bytes(line: Mapping[str, Any], member: str) -> int:
    return int(min(_number(line, member), MOST_BYTES))


def _argv(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not 0 < len(value) <= ARGUMENTS_LIMIT:
        raise InvalidSubmission("argv must be a list of texts")
    arguments: list[str] = []
    for argument in value:
        if not isinstance(argument, str) or "\0" in argument:
            raise InvalidSubmission("argv must be a list of texts")
        arguments.append(argument)
    return tuple(arguments)


def _environment(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidSubmission("env must be a map")
    env: dict[str, str] = {}
    for name, text in value.items():
        if not isinstance(text, str) or "\0" in text or not _ENVIRONMENT_NAME.fullmatch(str(name)):
            raise InvalidSubmission(f"env {name!r} must be a text with a plain name")
        env[name] = text
    return env


def _accelerators(value: object) -> tuple[str | None, int]:
    """(type, count); the type None when any will do."""
    if value is None:
        return None, 0
    if not isinstance(value, Mapping):
        raise InvalidSubmission("accelerators must be a map")
    count = _number(value, "count")
    if count > 1000:
        raise InvalidSubmission("count of accelerators must be at most 1000")
    return _text(value, "type", 128) if value.get("type") is not None else None, math.ceil(count)


def _profiles(value: object) -> tuple[Profile, ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > MOST_PROFILES:
        raise InvalidSubmission(f"profiles must be a list of at most {MOST_PROFILES}")
    found: list[Profile] = []
    for one in value:
        if not isinstance(one, Mapping):
            raise InvalidSubmission("profiles must be a list of maps")
        kind, count = _accelerators(one.get("accelerators"))
        wait_seconds = int(_number(one, "wait_seconds"))
        found.append(Profile(_cpus(one), _bytes(one, "memory_bytes"), kind, count, wait_seconds or None))
    why = refused_order(found)
    if why is not None:
        raise InvalidSubmission(why)
    return tuple(found)


def parse(line: Mapping[str, Any]) -> Submission:
    """The checked form of a `submit` line.

    Raises:
        InvalidSubmission: something in it is not acceptable.
    """
    attempt = line.get("attempt")
    if not isinstance(attempt, int) or isinstance(attempt, bool) or not 0 < attempt < 10_000:
        raise InvalidSubmission("attempt must be a small positive integer")
    cwd = _path(line, "cwd")
    if cwd is None:
        raise InvalidSubmission("cwd must be a path")
    kind, count = _accelerators(line.get("accelerators"))
    retries = line.get("service_retries")
    timeout = line.get("timeout_seconds")
    return Submission(
        key=_text(line, "key", 1024),
        attempt=attempt,
        name=_text(line, "name", 4096)[:NAME_LIMIT],
        argv=_argv(line.get("argv")),
        cwd=cwd,
        stdin=_path(line, "stdin"),
        stdout=_path(line, "stdout"),
        stderr=_path(line, "stderr"),
        env=_environment(line.get("env")),
        image=_text(line, "image", 1024) if line.get("image") is not None else None,
        cpus=_cpus(line),
        memory_bytes=_bytes(line, "memory_bytes"),
        disk_bytes=_bytes(line, "disk_bytes"),
        accelerator_type=kind,
        accelerator_count=count,
        timeout_seconds=None if timeout is None else int(_number(line, "timeout_seconds")),
        fallbacks=_profiles(line.get("profiles")),
        service_retries=None if retries is None else int(_number(line, "service_retries")),
        network=line.get("network") is True,
    )
