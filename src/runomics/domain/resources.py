"""What a task gets and on which instance type it would run: rounding, memory units, the tables of types. Pure; server side."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

GIB = 1 << 30

_MEMORY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*")
_UNITS: Mapping[str, int] = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", start=1)},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", start=1)},
    **{letter: 1000**power for power, letter in enumerate("KMGT", start=1)},
    **{f"{letter}I": 1024**power for power, letter in enumerate("KMGT", start=1)},
}


class InvalidMemory(ValueError):
    """A memory size that cannot be read. The message names it and the units."""


def memory_bytes(text: str) -> int:
    """Bytes of a memory size such as `4 GB` (10^9), `4 GiB` (2^30), `512M` or `1024`. Fractions are rounded up to a whole byte.

    Source: guide: GB and GiB are different units, both accepted.

    Raises:
        InvalidMemory: no number or an unknown unit.
    """
    match = _MEMORY.fullmatch(text)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise InvalidMemory(
            f"memory '{text}' cannot be read: write a number and B, KB, MB, GB, TB, KiB, MiB, GiB or TiB"
        )
    return math.ceil(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def whole_gib(size_bytes: int) -> int:
    """GiB, rounded up, at least 1."""
    return max(1, -(-size_bytes // GIB))


def round_resources(cpus: float, memory_bytes: int) -> tuple[int, int]:
    """(vCPUs, GiB) that a task is given and shown with: fractions go up, at least 1 and 1; 0 means not asked for.

    Source: guide, memory-and-compute-tasks.
    """
    return max(1, math.ceil(cpus)), whole_gib(memory_bytes)


SCRATCH_STEP_GIB, MOST_SCRATCH_GIB = 16, 3072


def scratch_gib(size_bytes: int) -> int:
    """GiB of a task's own /tmp: steps of 16, at least 16, at most 3,072. 0 bytes means not asked for.

    Source: guide, workflows-ephemeral-storage.
    """
    steps = max(1, -(-size_bytes // (SCRATCH_STEP_GIB * GIB)))
    return min(MOST_SCRATCH_GIB, steps * SCRATCH_STEP_GIB)


# ---- instance types ----------------------------------------------------------------------------------------------

# Source of all tables: guide, memory-and-compute-tasks and task-accelerators.

_SIZES: tuple[tuple[str, int], ...] = (
    ("large", 2),
    ("xlarge", 4),
    ("2xlarge", 8),
    ("4xlarge", 16),
    ("8xlarge", 32),
    ("12xlarge", 48),
    ("16xlarge", 64),
    ("24xlarge", 96),
    ("32xlarge", 128),
    ("48xlarge", 192),
)
_GIB_PER_VCPU: tuple[tuple[str, int], ...] = (("c", 2), ("m", 4), ("r", 8))


@dataclass(frozen=True, slots=True)
class GpuType:
    """One instance type with GPUs; memory in GiB."""

    name: str
    cpus: int
    memory_gib: int
    gpus: int


_GPU_SIZES: tuple[tuple[str, int, int], ...] = (
    ("xlarge", 4, 1),
    ("2xlarge", 8, 1),
    ("4xlarge", 16, 1),
    ("8xlarge", 32, 1),
    ("12xlarge", 48, 4),
    ("16xlarge", 64, 1),
    ("24xlarge", 96, 4),
)
_GPU_MEMORY_GIB: Mapping[str, tuple[int, ...]] = {
    "g4dn": (16, 32, 64, 128, 192, 256),
    "g5": (16, 32, 64, 128, 192, 256, 384),
    "g6": (16, 32, 64, 128, 192, 256, 384),
    "g6e": (32, 64, 128, 256, 384, 512, 768),
}

GPU_TYPES: Mapping[str, tuple[GpuType, ...]] = {
    family: tuple(
        GpuType(f"omics.{family}.{size}", cpus, memory_gib, gpus)
        for (size, cpus, gpus), memory_gib in zip(_GPU_SIZES, memories, strict=False)
    )
    for family, memories in _GPU_MEMORY_GIB.items()
}

ACCELERATORS: Mapping[str, tuple[str, ...]] = {
    "nvidia-tesla-t4": ("g4dn",),
    "nvidia-tesla-a10g": ("g5",),
    "nvidia-tesla-t4-a10g": ("g4dn", "g5"),
    "nvidia-t4-a10g-l4": ("g6", "g5", "g4dn"),
    "nvidia-l4-a10g": ("g6", "g5"),
    "nvidia-l4": ("g6",),
    "nvidia-l40s": ("g6e",),
}
"""Accelerator name of a definition → families in the order of preference (newest, then cheaper)."""


def instance_type(
    cpus: int, memory_gib: int, accelerator_type: str | None = None, accelerator_count: int = 0
) -> str | None:
    """The smallest type that holds the task; None when none does, or when the accelerator's name is unknown.

    Source: guide (smallest that fits, c before m before r); observed (sizes are tried by vCPU upward); assumed (accelerators
    without a name: any family).
    """
    if accelerator_count > 0:
        return _gpu_instance_type(cpus, memory_gib, accelerator_type=accelerator_type, count=accelerator_count)
    for size, size_cpus in _SIZES:
        if cpus > size_cpus:
            continue
        for family, gib_per_vcpu in _GIB_PER_VCPU:
            if memory_gib <= size_cpus * gib_per_vcpu:
                return f"omics.{family}.{size}"
    return None


def _gpu_instance_type(cpus: int, memory_gib: int, *, accelerator_type: str | None, count: int) -> str | None:
    families = tuple(GPU_TYPES) if accelerator_type is None else ACCELERATORS.get(accelerator_type, ())
    fitting = (
        (candidate.cpus, preference, candidate.name)
        for preference, family in enumerate(families)
        for candidate in GPU_TYPES[family]
        if cpus <= candidate.cpus and memory_gib <= candidate.memory_gib and count <= candidate.gpus
    )
    smallest = min(fitting, default=None)
    return smallest[2] if smallest else None
