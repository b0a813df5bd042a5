"""The GPUs of this host, found once at start, and which task attempt has which. Runs in the server, under the caller's lock.

Devices are those of the container device interface (CDI: JSON or YAML below /etc/cdi and /var/run/cdi), else NVIDIA's device nodes.
What an attempt has stands in its spec.json, so a new server knows it before it adopts anything.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
import structlog

from runomics.ports import Finding

log = structlog.get_logger()

CDI_DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
CDI_KIND = "nvidia.com/gpu"
NODES = Path("/dev")
_GPU_NODE = re.compile(r"nvidia\d+")
_SHARED_NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
_SUFFIXES = (".json", ".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Edits:
    """What a device changes of a container: nodes and mounts as (host path, path inside), environment, hooks of the OCI runtime."""

    nodes: tuple[tuple[str, str], ...] = ()
    mounts: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    hooks: tuple[Mapping[str, Any], ...] = ()

    def plus(self, other: Edits) -> Edits:
        """Both, each thing once."""
        return Edits(
            _once(self.nodes + other.nodes),
            _once(self.mounts + other.mounts),
            _once(self.env + other.env),
            self.hooks + tuple(hook for hook in other.hooks if hook not in self.hooks),
        )


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that an attempt can have for itself; `edits` with what all of them need."""

    name: str
    edits: Edits


@dataclass(slots=True)
class GpuPool:
    """Implements ports.Accelerators."""

    gpus: Sequence[Gpu] = ()
    held: dict[Path, tuple[str, ...]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return len(self.gpus)

    def free(self) -> int:
        return self.total - sum(len(names) for names in self.held.values())

    def take(self, task_directory: Path, count: int) -> None:
        """See ports.Accelerators."""
        if task_directory in self.held:
            return
        taken = {name for names in self.held.values() for name in names}
        free = [gpu.name for gpu in self.gpus if gpu.name not in taken]
        if len(free) < count:
            raise LookupError(f"{count} GPUs are wanted and {len(free)} are free")
        self.held[task_directory] = tuple(free[:count])

    def members(self, task_directory: Path) -> Mapping[str, Any]:
        """See ports.Accelerators."""
        names = self.held.get(task_directory)
        if names is None:
            return {}
        edits = Edits()
        for gpu in self.gpus:
            if gpu.name in names:
                edits = edits.plus(gpu.edits)
        return {
            "gpus": list(names),
            "devices": [list(pair) for pair in edits.nodes],
            "device_mounts": [list(pair) for pair in edits.mounts],
            "device_hooks": list(edits.hooks),
            "env": dict(edits.env),
        }

    def release(self, task_directory: Path) -> None:
        """See ports.Accelerators."""
        self.held.pop(task_directory, None)


def open_pool(data: Path, *, cdi: Iterable[Path] = CDI_DIRECTORIES, nodes: Path = NODES) -> GpuPool:
    """The host's GPUs, with what the attempts below `data` have that an earlier server started and that have not ended."""
    gpus = _of_cdi(cdi) or _of_nodes(nodes)
    pool = GpuPool(gpus)
    if gpus:
        known = {gpu.name for gpu in gpus}
        for spec_file in chain(data.glob("attempts/*/*/spec.json"), data.glob("runs/*/tasks/*/spec.json")):
            names = _names_in(spec_file) & known
            if names and not (spec_file.parent / "result.json").exists():
                pool.held[spec_file.parent] = tuple(sorted(names))
        log.info("runners.gpus_found", gpus=sorted(known), held=len(pool.held))
    return pool


def probe() -> Finding:
    """Which GPUs tasks can have here, for `doctor`."""
    gpus = _of_cdi(CDI_DIRECTORIES) or _of_nodes(NODES)
    return Finding(
        "GPUs",
        works=bool(gpus),
        detail=", ".join(gpu.name for gpu in gpus) or "none: tasks that ask for accelerators fail",
        remedy="With an NVIDIA card: its driver, and nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
    )


def _names_in(spec_file: Path) -> set[str]:
    try:
        return set(orjson.loads(spec_file.read_bytes()).get("gpus") or ())
    except (OSError, ValueError, AttributeError, TypeError):
        return set()


# ---- CDI ---------------------------------------------------------------------------------------------------------


def _of_cdi(directories: Iterable[Path]) -> list[Gpu]:
    """GPUs by the specifications for NVIDIA; names that stand for several (`all`) or for one twice are left out."""
    found: list[Gpu] = []
    for directory in directories:
        for file in sorted(directory.glob("*")) if directory.is_dir() else ():
            if file.suffix in _SUFFIXES:
                found += _in_file(file)
    by_nodes = {frozenset(gpu.edits.nodes): gpu for gpu in reversed(found)}
    return [gpu for nodes, gpu in reversed(by_nodes.items()) if not any(other < nodes for other in by_nodes)]


def _in_file(file: Path) -> list[Gpu]:
    try:
        document = _document(file)
        if document.get("kind") != CDI_KIND:
            return []
        shared = _edits(document.get("containerEdits") or {})
        return [
            Gpu(str(device["name"]), _edits(device.get("containerEdits") or {}).plus(shared))
            for device in document.get("devices") or ()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("runners.cdi_unreadable", file=str(file), error=f"{type(error).__name__}: {error}")
        return []


def _document(file: Path) -> Mapping[str, Any]:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        document = orjson.loads(text)
    else:
        # 30 ms that only a host with such a file need pay.
        from ruamel.yaml import YAML  # noqa: PLC0415
        from ruamel.yaml.error import YAMLError  # noqa: PLC0415

        try:
            document = YAML(typ="safe", pure=True).load(text)
        except YAMLError as error:
            raise ValueError(str(error)) from error
    if not isinstance(document, dict):
        raise ValueError("no CDI specification")
    return document


def _edits(edits: Mapping[str, Any]) -> Edits:
    return Edits(
        nodes=tuple(
            (str(node.get("hostPath") or node["path"]), str(node["path"])) for node in edits.get("deviceNodes") or ()
        ),
        mounts=tuple((str(each["hostPath"]), str(each["containerPath"])) for each in edits.get("mounts") or ()),
        env=tuple(_pair(str(each)) for each in edits.get("env") or ()),
        hooks=tuple(edits.get("hooks") or ()),
    )


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


# ---- device nodes ------------------------------------------------------------------------------------------------


def _of_nodes(directory: Path) -> list[Gpu]:
    """GPUs by their device nodes, where nobody wrote a specification: programs and libraries are then the host's own."""
    shared = tuple((str(node), f"/dev/{node.name}") for node in _devices(directory / name for name in _SHARED_NODES))
    names = sorted(path.name for path in directory.glob("nvidia*") if _GPU_NODE.fullmatch(path.name))
    return [
        Gpu(node.name.removeprefix("nvidia"), Edits(nodes=((str(node), f"/dev/{node.name}"), *shared)))
        for node in _devices(directory / name for name in names)
    ]


def _devices(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.exists() and stat.S_ISCHR(path.stat().st_mode)]


def _once(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys(pairs))
