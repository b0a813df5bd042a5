"""What a supervisor is told of an attempt: the members of spec.json that the scheduler knows (docs/dev/formats.md). Pure; in the server."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from runomics.scheduler.submission import beneath
from runomics.scheduler.task_attempt import Attempt, RunPlace, scratch_of

PROCESSES_PER_CPU, MOST_PROCESSES = 1024, 32_768
"""Threads count too. A fork bomb may have that many; a tool with a thread for each of its CPUs needs a few dozen."""
OWN_PREFIX = "AWS_WORKFLOW_"
"""Names that a task's own environment cannot set. Source: guide, ecr-env-vars."""
RESOURCE_TYPE = "AWS_HEALTHOMICS_RESOURCE_TYPE"
"""Set for a task with a fallback list: the accelerator it got, or cpu. Source: guide, advanced-resource-configuration."""


def spec_of(attempt: Attempt, *, grace_seconds: float) -> dict[str, Any]:
    """The attempt's spec; what is the runner's own to say, the runner adds.

    Raises:
        OSError: nobody has said yet what the attempt is to run.
    """
    place, row, submission = attempt.place, attempt.row, attempt.submission
    if submission is None:
        raise OSError("the engine has not sent its submission again")
    image = attempt.image
    task_arn = place.environment["AWS_WORKFLOW_RUN"].rsplit(":", 1)[0] + f":task/{row.id}"
    return {
        "run_uuid": place.run_uuid,
        "task_id": str(row.id),
        "try": row.try_,
        "name": f"run-{place.run_id}-task-{row.id}-{row.try_}",
        "argv": list(submission.argv),
        "cwd": submission.cwd,
        "stdin": submission.stdin,
        "stdout": None if submission.stdout is None else beneath(submission.stdout),
        "stderr": None if submission.stderr is None else beneath(submission.stderr),
        "env": {
            **({} if image is None else image.environment),
            **{name: value for name, value in submission.env.items() if not name.startswith(OWN_PREFIX)},
            **place.environment,
            "AWS_WORKFLOW_TASK": task_arn,
            "AWS_WORKFLOW_TASK_ID": str(row.id),
            "AWS_WORKFLOW_TASK_UUID": row.uuid,
            **({RESOURCE_TYPE: attempt.profile.resource_type} if submission.fallbacks else {}),
        },
        "volume": str(place.volume),
        "inputs": str(place.run_directory / "inputs"),
        "definition": str(place.definition),
        "scratch": f".scratch/{row.id}.{row.try_}",
        "rootfs": None if image is None or not image.layers else [str(layer) for layer in image.layers],
        "user": "" if image is None else image.user,
        "rootless": place.rootless,
        "network": place.network is not None,
        "bridge": _bridge(place),
        "cpus": attempt.cpus,
        "memory_bytes": attempt.memory_bytes,
        "local_tmp": _local_tmp(attempt),
        "pids": min(MOST_PROCESSES, PROCESSES_PER_CPU * max(1, math.ceil(attempt.cpus))),
        "timeout_seconds": submission.timeout_seconds,
        "grace_seconds": grace_seconds,
    }


def _local_tmp(attempt: Attempt) -> dict[str, Any] | None:
    gib = scratch_of(attempt)
    if gib is None:
        return None
    image = attempt.place.run_directory / "scratch" / f"{attempt.row.id}.{attempt.row.try_}.img"
    return {"image": str(image), "bytes": gib << 30}


def with_devices(spec: Mapping[str, Any], devices: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with the accelerators that were taken for it; their environment yields to the service's own."""
    return {**spec, **devices, "env": {**devices.get("env", {}), **spec["env"]}}


def _bridge(place: RunPlace) -> dict[str, Any] | None:
    """The run's network, when it is one with ranges: what the task reaches, and where supervisors keep its addresses."""
    network = place.network
    if network is None or network.mode == "host":
        return None
    return {
        "directory": str(place.run_directory.parents[1] / "networks" / network.name),
        "subnet": str(network.addresses),
        "allow": list(network.allow),
        "dns": list(network.dns),
    }
