"""What a CWL tool's requirements ask of the service, as the members of a submission. Plain functions; run in the run process.

Source: guide, "CWL workflow definition specifics", unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cwltool.errors import WorkflowException
from cwltool.utils import HasReqsHints

CUDA = "http://commonwl.org/cwltool#CUDARequirement"
OUT_OF_MEMORY_RETRY = "http://arvados.org/cwl#OutOfMemoryRetry"
MOST_MEMORY_RETRIES = 3
MOST_MEMORY_BYTES = 1536 << 30
LEAST_MEMORY_MULTIPLIER = 1.5

_MULTIPLIERS = ("memoryRetryMultiplier", "memoryRetryMultipler")
"""The second is how arvados spelled it for years."""


@dataclass(frozen=True, slots=True)
class MemoryRetry:
    """How often a task that ran out of memory is tried again, and with how many times the memory."""

    retries: int = 0
    multiplier: float = 1.0


def image(tool: HasReqsHints, evaluate: Any) -> str | None:
    """The container image, an expression evaluated.

    Raises:
        WorkflowException: only forms that build or load an image here are given, or the expression is no text.
    """
    asked = requirement(tool, "DockerRequirement")
    if not asked:
        return None
    name = asked.get("dockerPull") or asked.get("dockerImageId")
    if not name:
        raise WorkflowException(
            "DockerRequirement needs dockerPull: images are not built, loaded or imported by this service"
        )
    found = evaluate(name)
    if not isinstance(found, str) or not found:
        raise WorkflowException(f"dockerPull must be the name of an image, not {found!r}")
    return found


def disk_bytes(tool: HasReqsHints, resources: Mapping[str, Any]) -> int:
    """The room asked for in the task's own and output directory together; 0 when nothing was asked."""
    asked = requirement(tool, "ResourceRequirement") or {}
    total = 0
    for name in ("tmpdir", "outdir"):
        if asked.get(f"{name}Min") or asked.get(f"{name}Max"):
            total += math.ceil(resources[f"{name}Size"])
    return total << 20


def accelerators(tool: HasReqsHints, resources: Mapping[str, Any]) -> dict[str, Any] | None:
    """`cudaDeviceCountMin` devices; `cudaComputeCapability` names the accelerator."""
    asked = requirement(tool, CUDA)
    if not asked:
        return None
    kind = asked.get("cudaComputeCapability")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    named = isinstance(kind, str) and not kind.replace(".", "").isdigit()
    return {"type": kind if named else None, "count": math.ceil(resources.get("cudaDeviceCount", 1))}


def service_retries(tool: HasReqsHints) -> int | None:
    """How often the service may repeat what it lost itself; None: as its operator set it. `omicsRetryOn5xx: false` opts out."""
    asked = requirement(tool, "ResourceRequirement") or {}
    return 0 if asked.get("omicsRetryOn5xx") is False else None


def memory_retry(tool: HasReqsHints) -> MemoryRetry:
    """The hint `arv:OutOfMemoryRetry`: up to 3 retries, each with `memoryRetryMultiplier` times the memory (2, at least 1.5).

    Raises:
        WorkflowException: the multiplier is not above 1.
    """
    asked = requirement(tool, OUT_OF_MEMORY_RETRY)
    if asked is None:
        return MemoryRetry()
    given = next((asked[name] for name in _MULTIPLIERS if name in asked), 2)
    if isinstance(given, bool) or not isinstance(given, int | float) or not given > 1:
        raise WorkflowException(f"memoryRetryMultiplier must be a number above 1, not {given!r}")
    return MemoryRetry(MOST_MEMORY_RETRIES, max(float(given), LEAST_MEMORY_MULTIPLIER))


def requirement(tool: HasReqsHints, name: str) -> Mapping[str, Any] | None:
    """The requirement or hint that applies."""
    found, _ = tool.get_requirement(name)
    return found
