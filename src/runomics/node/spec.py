"""spec.json as the supervisor reads it: what one attempt runs, where, and within which limits. docs/dev/formats.md explains each member."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from . import bridge as bridges
from .bridge import Bridge

FORMAT = 1


class SpecUnreadable(Exception):
    """spec.json is missing, broken or of another format. The message says which."""


class LocalTmp(NamedTuple):
    """A file system of the attempt's own for its /tmp: the file on the host that holds it, and its size."""

    image: str
    bytes: int


class Spec(NamedTuple):
    """One attempt. Paths are the host's, but `argv`, `cwd`, `stdin` (the task's) and `stdout`, `stderr`, `scratch` (below the volume)."""

    run_uuid: str
    task_id: str
    attempt: int
    argv: list[str]
    cwd: str
    stdin: str | None
    stdout: str | None
    stderr: str | None
    env: dict[str, str]
    volume: str
    inputs: str | None
    definition: str | None
    scratch: str
    rootfs: list[str] | None
    user: str
    runtime: str
    host_paths: list[str]
    host_etc: str | None
    rootless: bool
    network: bool
    bridge: Bridge | None
    seccomp: str | None
    cpus: float
    memory_bytes: int
    pids: int
    timeout_seconds: float | None
    grace_seconds: float
    cgroup: str
    cgroup_parent: str
    bwrap: str
    crun: str | None
    devices: list[list[str]]
    device_mounts: list[list[str]]
    local_tmp: LocalTmp | None

    @property
    def cgroup_name(self) -> str:
        """Unique on the host: task ids are, but a restored database may give one out again."""
        return f"{self.run_uuid}.{self.task_id}.{self.attempt}"


def read(directory: str) -> Spec:
    """The spec of the attempt in `directory`.

    Raises:
        SpecUnreadable: it is missing, no JSON, lacks a member, or has a format this node does not know.
    """
    path = directory + "/spec.json"
    try:
        with open(path, "rb", buffering=0) as file:
            document = json.loads(file.read().decode())
        if document["format"] != FORMAT:
            raise SpecUnreadable(f"{path} has format {document['format']!r}; this node knows {FORMAT}")
        return _spec(document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecUnreadable(f"{path} cannot be used: {type(error).__name__}: {error}") from error


def _spec(document: dict[str, Any]) -> Spec:
    timeout = document.get("timeout_seconds")
    local_tmp = document.get("local_tmp")
    return Spec(
        run_uuid=document["run_uuid"],
        task_id=document["task_id"],
        attempt=int(document["try"]),
        argv=list(document["argv"]),
        cwd=document["cwd"],
        stdin=document.get("stdin"),
        stdout=document.get("stdout"),
        stderr=document.get("stderr"),
        env=dict(document.get("env") or {}),
        volume=document["volume"],
        inputs=document.get("inputs"),
        definition=document.get("definition"),
        scratch=document["scratch"],
        rootfs=_layers(document.get("rootfs")),
        user=document.get("user") or "",
        runtime=document.get("runtime") or "auto",
        host_paths=list(document.get("host_paths") or ()),
        host_etc=document.get("host_etc"),
        rootless=bool(document["rootless"]),
        network=bool(document["network"]),
        bridge=bridges.read(document["bridge"]) if document.get("bridge") else None,
        seccomp=document.get("seccomp"),
        cpus=float(document["cpus"]),
        memory_bytes=int(document["memory_bytes"]),
        pids=int(document["pids"]),
        timeout_seconds=None if timeout is None else float(timeout),
        grace_seconds=float(document["grace_seconds"]),
        cgroup=document["cgroup"],
        cgroup_parent=document["cgroup_parent"],
        bwrap=document["bwrap"],
        crun=document.get("crun"),
        devices=list(document.get("devices") or ()),
        device_mounts=list(document.get("device_mounts") or ()),
        local_tmp=None if local_tmp is None else LocalTmp(local_tmp["image"], int(local_tmp["bytes"])),
    )


def _layers(value: Any) -> list[str] | None:
    """The directories of an image, the uppermost first. An earlier server wrote one path."""
    return [value] if isinstance(value, str) else value
